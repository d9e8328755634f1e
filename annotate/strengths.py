"""All policies on one scale, from blind comparisons of two (Bradley & Terry, 1952).

P(i is preferred to j) = 1 / (1 + exp(-(s_i - s_j + c . x))); a tie is half a win for each. x is by how
much i's story is longer, and longer in its sentences, than j's: with x, s says what is left when both are
alike (Chatbot Arena's control for style: Li et al., 2024, "Does style matter?").
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from django.utils.translation import gettext_lazy as _
from scipy.special import expit

from annotate.intervals import Spread, combined
from annotate.models import Judgement, Purpose, Rank
from annotate.winrates import LOSS, TIE, WIN
from generation.measures import sentences, words
from generation.models import Story
from generation.sql import among

STEPS, CLOSE = 50, 1e-9
RIDGE = 0.1  # or the strength of a policy that has only won would have no bound; little beside twenty votes
NEWEST = 20_000  # votes that a page waits for
FEATURES = (_("longer"), _("longer sentences"))


@dataclass(frozen=True)
class Vote:
    """One expert's choice between stories of the policies `one` and `two`: 1 if `one` won, 0.5 for a tie, else 0.

    features: `one`'s less `two`'s, of FEATURES.
    """

    one: int
    two: int
    score: float
    prompt: int
    expert: int
    features: tuple[float, ...] = ()


@dataclass(frozen=True)
class Strength:
    """How likely a policy's story is preferred to one of the base: 0-1, with its 95 % interval. n: its judgements.

    The base has 0.5 without an interval: all others are measured against it.
    """

    policy: int
    n: int
    preferred: float
    low: float
    high: float


@dataclass(frozen=True)
class Scale:
    """`strengths` by policy, the base first; `effects`: how likely the story is preferred that is longer (or whose
    sentences are) by one standard deviation of the differences, when the policies are equally strong."""

    strengths: list[Strength]
    effects: list[Strength]


def votes(*, people: bool = False) -> list[Vote]:
    """The newest votes of all evaluation comparisons; those of people alone if `people`."""
    judgements = Judgement.objects.counted().filter(assignment__comparison__purpose=Purpose.EVALUATION)
    judgements = judgements.by_people() if people else judgements
    newest = judgements.order_by("-pk").values("pk")[:NEWEST]
    rows = (
        Rank.objects.filter(judgement__in=newest, story__withdrawn_at=None)
        .order_by("judgement_id", "story__policy_id")
        .values_list(
            "judgement_id",
            "rank",
            "story__policy_id",
            "story_id",
            "judgement__assignment__comparison__prompt_id",
            "judgement__assignment__expert_id",
        )
    )
    sides: dict[int, list[tuple[int, ...]]] = {}
    for judgement, *side in rows:
        sides.setdefault(judgement, []).append(tuple(side))
    features = _features({side[2] for both in sides.values() for side in both})
    return [_vote(both[0], both[1], features) for both in sides.values() if len(both) == 2]


def scale(found: Sequence[Vote], base: int, *, controlled: bool = False) -> Scale:
    """All policies that are connected with `base` by votes; with `controlled`, at equal length and sentence length."""
    found = _connected(found, base)
    policies = sorted({p for vote in found for p in (vote.one, vote.two)} - {base})
    if not policies:
        return Scale([], [])
    design, scores = _design(found, policies, controlled=controlled)
    fitted, spreads = fit(design, scores, [(v.prompt, v.expert) for v in found])
    shown = [_strength(p, _n(found, p), *facts) for p, *facts in zip(policies, fitted, spreads, strict=False)]
    effects = [
        _strength(number, len(found), *facts)
        for number, facts in enumerate(list(zip(fitted, spreads, strict=True))[len(policies) :])
    ]
    return Scale([Strength(base, _n(found, base), 0.5, 0.5, 0.5), *shown], effects)


def fit(
    design: np.ndarray, scores: np.ndarray, labels: Sequence[tuple[Hashable, Hashable]]
) -> tuple[np.ndarray, list[Spread]]:
    """Logistic regression of scores [n] (0-1) on design [n, k], without a constant, by Newton's method.

    labels: (prompt, expert) of each vote. Returns the coefficients [k] and the variance of each, clustered both
    by prompt and by expert (Cameron, Gelbach & Miller, 2011), combined as in annotate.intervals.spread; never less
    than that of as many independent votes without ties (the inverse of the information), for a policy that has only
    won leaves no residuals, and is no certainty.
    """
    found = np.zeros(design.shape[1])
    ridge = RIDGE * np.eye(len(found))
    for _step in range(STEPS):
        chance = expit(design @ found)
        bread = np.linalg.inv(design.T @ (design * (chance * (1 - chance))[:, None]) + ridge)
        change = bread @ (design.T @ (scores - chance) - RIDGE * found)
        found = found + change
        if np.abs(change).max() < CLOSE:
            break
    influence = design * (scores - expit(design @ found))[:, None] @ bread
    return found, _spreads(influence, labels, np.diag(bread))


def _spreads(
    influence: np.ndarray, labels: Sequence[tuple[Hashable, Hashable]], independent: np.ndarray
) -> list[Spread]:
    clustered, cells = _clustered(influence, labels)
    floor = np.maximum(clustered, independent)
    sides = [_clustered(influence, [pair[side] for pair in labels]) for side in (0, 1)]
    return [
        combined(floor[k], cells, [(variance[k], groups) for variance, groups in sides if groups > 1])
        for k in range(influence.shape[1])
    ]


def _clustered(influence: np.ndarray, labels: Sequence[Hashable]) -> tuple[np.ndarray, int]:
    """(variance [k] when whole groups come and go together, times G / (G - 1); the number G of groups)"""
    numbers: dict[Hashable, int] = {}
    index = np.array([numbers.setdefault(label, len(numbers)) for label in labels])
    sums = np.zeros((len(numbers), influence.shape[1]))
    np.add.at(sums, index, influence)
    return (sums**2).sum(0) * len(numbers) / max(len(numbers) - 1, 1), len(numbers)


def _strength(policy: int, n: int, log_odds: float, spread: Spread) -> Strength:
    half = spread.half(0.95)
    low, middle, high = (float(expit(log_odds + side * half)) for side in (-1, 0, 1))
    return Strength(policy, n, middle, low, high)


def _design(found: Sequence[Vote], policies: list[int], *, controlled: bool) -> tuple[np.ndarray, np.ndarray]:
    """([votes, policies + features], [votes]); features in standard deviations, those that never differ left out."""
    column = {policy: number for number, policy in enumerate(policies)}
    design = np.zeros((len(found), len(policies)))
    for row, vote in enumerate(found):
        for policy, sign in ((vote.one, 1), (vote.two, -1)):
            if policy in column:
                design[row, column[policy]] = sign
    scores = np.array([vote.score for vote in found])
    if controlled:
        features = np.array([vote.features for vote in found])
        scatter = np.sqrt((features**2).mean(0))
        design = np.hstack([design, features / np.where(scatter > 0, scatter, 1)])
    return design, scores


def _connected(found: Sequence[Vote], base: int) -> list[Vote]:
    """Votes of policies that a chain of votes joins to the base: of others nothing can be said."""
    reached = {base}
    while True:
        new = {p for v in found if {v.one, v.two} & reached for p in (v.one, v.two)} - reached
        if not new:
            return [vote for vote in found if vote.one in reached]
        reached |= new


def _n(found: Sequence[Vote], policy: int) -> int:
    return sum(policy in (vote.one, vote.two) for vote in found)


def _vote(one: tuple[int, ...], two: tuple[int, ...], features: dict[int, tuple[float, ...]]) -> Vote:
    score = TIE if one[0] == two[0] else WIN if one[0] < two[0] else LOSS
    differences = tuple(a - b for a, b in zip(features[one[2]], features[two[2]], strict=True))
    return Vote(one[1], two[1], score, one[3], one[4], differences)


def _features(stories: set[int]) -> dict[int, tuple[float, ...]]:
    """{story: log of its words, log of its words a sentence}: in logs, so that characters and words go together."""
    found: dict[int, tuple[float, ...]] = {}
    for pk, text, language in Story.objects.filter(pk__in=among(stories)).values_list("pk", "text", "prompt__language"):
        length, parts = max(len(words(text, language)), 1), max(len(sentences(text)), 1)
        found[pk] = (math.log(length), math.log(length / parts))
    return found
