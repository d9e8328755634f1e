"""How often experts prefer one policy's stories to another's, with an honest interval."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from django.conf import settings

from annotate.models import Comparison, Judgement, Rank
from generation.models import Policy

RESAMPLES = 4_000
Z_95 = 1.959964
WIN, TIE, LOSS = 1.0, 0.5, 0.0


@dataclass(frozen=True)
class Outcome:
    """One judgement of an evaluation comparison: score 1 if the new policy won, 0.5 for a tie, else 0."""

    prompt: int
    expert: int
    score: float
    simulated: bool


@dataclass(frozen=True)
class WinRate:
    """(wins + ties/2) / n, 0-1, with a 95 % interval; None without any judgement."""

    n: int
    simulated: int
    experts: int
    rate: float | None
    low: float | None
    high: float | None

    @property
    def enough(self) -> bool:
        """Judgements above the floor, of two experts or more: one alone shows nothing of how they differ."""
        return self.n >= settings.MIN_JUDGEMENTS_FOR_WIN_RATE and self.experts > 1

    @property
    def missing(self) -> int:
        """Judgements still wanted before the figure is shown."""
        return max(settings.MIN_JUDGEMENTS_FOR_WIN_RATE - self.n, 0)

    @property
    def percent(self) -> int:
        return round(100 * (self.rate or 0))

    @property
    def percent_low(self) -> int:
        return round(100 * (self.low or 0))

    @property
    def percent_high(self) -> int:
        return round(100 * (self.high or 0))

    def as_dict(self) -> dict[str, float | int | None]:
        return {"rate": self.rate, "low": self.low, "high": self.high, "n": self.n}


def win_rate(policy: Policy, baseline: Policy) -> WinRate:
    """The win rate of `policy` against `baseline` from their evaluation comparisons."""
    found = outcomes(policy, baseline)
    simulated = sum(vote.simulated for vote in found)
    if not found:
        return WinRate(0, 0, 0, None, None, None)
    rate = float(np.mean([vote.score for vote in found]))
    low, high = interval(found)
    return WinRate(len(found), simulated, len({vote.expert for vote in found}), rate, low, high)


def outcomes(policy: Policy, baseline: Policy) -> list[Outcome]:
    """One vote for each judgement of `policy` against `baseline`."""
    comparisons = Comparison.objects.evaluation_of(policy, baseline)
    ranks = (
        Rank.objects.filter(
            judgement__assignment__comparison__in=comparisons,
            judgement__in=Judgement.objects.counted(),
            story__withdrawn_at=None,
        )
        .select_related("story", "judgement__assignment__expert")
        .order_by("judgement_id")
    )
    sides: dict[int, dict[int, Rank]] = {}
    for rank in ranks:
        sides.setdefault(rank.judgement_id, {})[rank.story.policy_id] = rank
    whole = [both for both in sides.values() if len(both) == 2]  # without a side that was withdrawn
    return [_outcome(both[policy.pk], both[baseline.pk]) for both in whole]


def _outcome(ours: Rank, theirs: Rank) -> Outcome:
    score = TIE if ours.rank == theirs.rank else WIN if ours.rank < theirs.rank else LOSS
    expert = ours.judgement.assignment.expert
    return Outcome(ours.story.prompt_id, expert.pk, score, expert.simulated)


def interval(found: Sequence[Outcome]) -> tuple[float, float]:
    """The 95 % interval: the bootstrap's, and never narrower than Wilson's for as many independent votes.

    Twenty votes that all agree leave a bootstrap nothing to vary, but are no certainty.
    """
    low, high = bootstrap_interval(found)
    floor_low, floor_high = wilson_interval(float(np.mean([vote.score for vote in found])), len(found))
    return min(low, floor_low), max(high, floor_high)


def wilson_interval(rate: float, n: int) -> tuple[float, float]:
    """The 95 % score interval of a share of n independent votes (Wilson, 1927)."""
    centre = (rate + Z_95**2 / (2 * n)) / (1 + Z_95**2 / n)
    half = Z_95 * math.sqrt(rate * (1 - rate) / n + Z_95**2 / (4 * n**2)) / (1 + Z_95**2 / n)
    return max(centre - half, 0.0), min(centre + half, 1.0)


def bootstrap_interval(found: Sequence[Outcome], *, level: float = 0.95, seed: int = 0) -> tuple[float, float]:
    """Percentile interval that resamples prompts *and* experts, because votes are not independent.

    The pigeonhole bootstrap (Owen, "The pigeonhole bootstrap", 2007, section 4): prompts and
    experts are drawn with replacement, each apart, and a vote counts as often as both of its
    were drawn. Conservative: it never understates either source.
    """
    scores = np.array([vote.score for vote in found])
    rng = np.random.default_rng(seed)
    weights = _multiplicities(rng, [v.prompt for v in found]) * _multiplicities(rng, [v.expert for v in found])
    totals = weights.sum(1)
    rates = (weights[totals > 0] @ scores) / totals[totals > 0]
    tail = (1 - level) / 2
    low, high = np.quantile(rates, [tail, 1 - tail])
    return float(low), float(high)


def _multiplicities(rng: np.random.Generator, labels: Sequence[int]) -> np.ndarray:
    """[RESAMPLES, votes]: how often each vote's label was drawn, of as many draws as there are labels."""
    known, index = np.unique(labels, return_inverse=True)
    draws = rng.multinomial(len(known), np.full(len(known), 1 / len(known)), size=RESAMPLES)
    return draws[:, index]
