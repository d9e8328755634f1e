"""Can the judgements be trusted? How far experts agree, beyond chance, and how many labels that makes wrong.

Measured on votes: each two stories of a comparison that two or more experts ranked. Which of the two
is named first is arbitrary, so each is read both ways round.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from django.db import connection

from annotate.intervals import multiplicities
from annotate.models import Kind
from annotate.newest import NEWEST, RECENT
from annotate.pairs import PreferencePair

ENOUGH = 30  # pairs of stories with two votes or more: fewer give an interval that says nothing
COMPARISONS = 10  # that they come from: what is resampled
HIGHEST_SMOOTHING = 0.45  # label smoothing of a half would train on nothing

# votes on each two stories: the first better, equal, the second better. Repeats, golds and adjudications say
# something else. Stories in one place between the best and the worst are no vote: most experts name only these two
VOTES = f"""
    SELECT a.comparison_id,
           count(*) FILTER (WHERE one.rank < two.rank), count(*) FILTER (WHERE one.rank = two.rank),
           count(*) FILTER (WHERE one.rank > two.rank)
    FROM annotate_rank one
    JOIN annotate_rank two ON two.judgement_id = one.judgement_id AND two.story_id > one.story_id
    JOIN annotate_judgement j ON j.id = one.judgement_id
    JOIN annotate_assignment a ON a.id = j.assignment_id AND a.kind = '{Kind.ORDINARY}'
    JOIN annotate_expert e ON e.id = a.expert_id AND e.simulated = %(simulated)s
    WHERE {RECENT} AND (one.rank <> two.rank OR one.rank = 1 OR NOT EXISTS (
              SELECT FROM annotate_rank lower WHERE lower.judgement_id = j.id AND lower.rank > one.rank))
          AND (%(comparisons)s::bigint[] IS NULL OR a.comparison_id = ANY(%(comparisons)s))
    GROUP BY a.comparison_id, one.story_id, two.story_id HAVING count(*) > 1
    ORDER BY a.comparison_id, one.story_id, two.story_id
"""  # noqa: S608  our own words


@dataclass(frozen=True)
class Tally:
    """The votes of several experts on two stories of one comparison."""

    comparison: int
    first: int
    equal: int
    second: int

    @property
    def votes(self) -> int:
        return self.first + self.equal + self.second


@dataclass(frozen=True)
class Estimate:
    """A figure and its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Agreement:
    """`pairs` of stories that two experts or more have ranked; the figures are None below ENOUGH of them,
    or if they come from fewer than COMPARISONS comparisons."""

    pairs: int
    votes: int
    alpha: Estimate | None = None
    share: Estimate | None = None  # of two strict votes on the same two stories, that they go the same way
    flipped: Estimate | None = None  # share of single votes that go the wrong way


def agreement(comparisons: Iterable[int] | None = None, *, simulated: bool = False) -> Agreement:
    """How far people (or simulated experts) agree on the newest comparisons, or on those named by id."""
    ids = None if comparisons is None else list(comparisons)
    with connection.cursor() as cursor:
        cursor.execute(VOTES, {"simulated": simulated, "newest": NEWEST, "comparisons": ids})
        return measure([Tally(*row) for row in cursor.fetchall()])


def measure(tallies: Sequence[Tally]) -> Agreement:
    """The figures with their intervals: comparisons, which experts judged as a whole, are resampled."""
    votes = sum(tally.votes for tally in tallies)
    sums = _sums(tallies)
    if len(tallies) < ENOUGH or len(sums) < COMPARISONS:
        return Agreement(len(tallies), votes)
    drawn = multiplicities(np.random.default_rng(0), len(sums)) @ sums
    return Agreement(
        len(tallies),
        votes,
        _estimate(_alpha(sums.sum(0)[None]), _alpha(drawn)),
        _estimate(_same_way(sums.sum(0)[None]), _same_way(drawn)),
        _estimate(_flipped(sums.sum(0)[None]), _flipped(drawn)),
    )


def flip_rate(share: float) -> float:
    """The share of wrong votes that makes two votes agree in `share` of the cases, if all are wrong as often and
    independently: share = (1 - e)^2 + e^2, so e = (1 - sqrt(2 share - 1)) / 2; 0.5 where chance explains all.

    No more than a guide: experts who differ in taste disagree without either being wrong, which makes it too high;
    and pairs that are harder than others make it too low (of pairs that are half certain and half a toss of a coin,
    0.25 of the votes are wrong, and it says 0.15).
    """
    return (1 - math.sqrt(max(2 * share - 1, 0))) / 2


def flipped_pairs(pairs: Iterable[PreferencePair], flipped: float) -> float | None:
    """The share of pairs whose majority is expected to be wrong, when single votes are with probability `flipped`.

    By Bayes with either order as likely beforehand: 1 / (1 + ((1 - e) / e)^(for - against)). It is what
    `label_smoothing` means in a round (Chowdhury et al., 2024, "Provably robust DPO", section 3). None
    without pairs.
    """
    leads = [pair.judgements_for - pair.judgements_against for pair in pairs]
    if not leads:
        return None
    if not 0 < flipped < 0.5:
        return min(flipped, HIGHEST_SMOOTHING)
    odds = (1 - flipped) / flipped
    return min(sum(1 / (1 + odds**lead) for lead in leads) / len(leads), HIGHEST_SMOOTHING)


def _sums(tallies: Sequence[Tally]) -> np.ndarray:
    """[comparisons, 5]: what the figures are made of, summed over a comparison's pairs of stories.

    Columns: observed disagreement; strict votes; ties; ordered pairs of strict votes that go the same
    way; all ordered pairs of strict votes.
    """
    numbers = {comparison: number for number, comparison in enumerate({tally.comparison: 0 for tally in tallies})}
    sums = np.zeros((len(numbers), 5))
    for tally in tallies:
        first, equal, second = tally.first, tally.equal, tally.second
        # ordered pairs of votes by their squared difference: 1 of strict and tie, 4 of opposite votes
        disagreement = (2 * equal * (first + second) + 8 * first * second) / (tally.votes - 1)
        strict = first + second
        same = first * (first - 1) + second * (second - 1)
        sums[numbers[tally.comparison]] += (disagreement, strict, equal, same, strict * (strict - 1))
    return sums


def _alpha(sums: np.ndarray) -> np.ndarray:
    """Krippendorff's alpha, 1 - D_o / D_e, by the squared differences of -1, 0, 1 (Krippendorff, 2004,
    "Content Analysis", chapter 11, interval metric).

    Read both ways round, the two strict votes are equally frequent, and the ordinal metric is the same.
    """
    disagreement, strict, equal = sums[:, 0], sums[:, 1], sums[:, 2]
    # read both ways round: `strict` votes are -1, as many are 1, and 2 * `equal` are 0
    expected = (8 * equal * strict + 8 * strict * strict) / (2 * (strict + equal) - 1)
    return 1 - 2 * disagreement / np.where(expected > 0, expected, np.nan)


def _same_way(sums: np.ndarray) -> np.ndarray:
    same, pairs = sums[:, 3], sums[:, 4]
    return same / np.where(pairs > 0, pairs, np.nan)


def _flipped(sums: np.ndarray) -> np.ndarray:
    return np.array([flip_rate(share) if not math.isnan(share) else math.nan for share in _same_way(sums)])


def _estimate(value: np.ndarray, resampled: np.ndarray) -> Estimate | None:
    """None where there is nothing to measure: all votes are ties, say."""
    if math.isnan(value[0]):
        return None
    low, high = np.nanquantile(resampled, [0.025, 0.975])
    return Estimate(float(value[0]), float(low), float(high))
