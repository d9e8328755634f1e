"""Does the place on the screen decide? The order is drawn for each expert, so the best story stands
everywhere equally often, unless people lean to a place."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from django.db import connection
from scipy.special import chdtrc

from annotate.models import Expert, Kind
from annotate.newest import ENOUGH, NEWEST, RECENT

EXPECTED = 5  # below it the chi-square distribution is not to be trusted, and chance is played out instead
PLAYED = 20_000
SURE = 0.01  # of one expert among many: after correction for how many were asked

# the single best story of each answer: how many stories there were, and where it stood
BEST = f"""
    SELECT expert_id, stories, best_shown, count(*)
    FROM (
        SELECT a.expert_id, count(*) AS stories,
               (array_agg(r.shown_position ORDER BY r.rank))[1] AS best_shown,
               (array_agg(r.rank ORDER BY r.rank))[1:2] AS top
        FROM annotate_rank r
        JOIN annotate_judgement j ON j.id = r.judgement_id
        JOIN annotate_assignment a ON a.id = j.assignment_id AND a.kind IN ('{Kind.ORDINARY}', '{Kind.ADJUDICATION}')
        WHERE a.expert_id = ANY(%(experts)s) AND {RECENT}
        GROUP BY a.expert_id, j.id
        -- a story that was withdrawn before leaves a gap: the places were not 1 to n
        HAVING max(r.shown_position) = count(*)
    ) answer
    WHERE top[1] < top[2]
    GROUP BY expert_id, stories, best_shown
"""  # noqa: S608  our own words

Places = dict[int, list[int]]  # {number of stories: how often the best stood first, second, ...}


@dataclass(frozen=True)
class PositionBias:
    """`counts`: where the best stood, beside what chance would give. p: of a lean at least so strong by chance."""

    counts: list[int]
    expected: list[float]
    p: float | None  # None: too few answers

    @property
    def n(self) -> int:
        return sum(self.counts)

    @property
    def first_share(self) -> float:
        return self.counts[0] / self.n if self.n else 0.0

    @property
    def first_by_chance(self) -> float:
        return self.expected[0] / self.n if self.n else 0.0

    @property
    def leans(self) -> bool:
        """More than chance explains, at 5 %."""
        return self.p is not None and self.p < 0.05


NO_BIAS = PositionBias([0], [0.0], None)


def position_bias(*, simulated: bool = False) -> PositionBias:
    """Of all people (or simulated experts) together, over the newest judgements."""
    together: Places = {}
    for places in _places(_everybody(simulated)).values():
        for stories, counts in places.items():
            before = together.setdefault(stories, [0] * stories)
            together[stories] = [a + b for a, b in zip(before, counts, strict=True)]
    return measure(together)


def experts_who_lean(*, simulated: bool = False) -> dict[int, PositionBias]:
    """{expert: the figures} of the people (or simulated experts) who lean; see `who_leans`."""
    found = biases(_everybody(simulated))
    return {expert: found[expert] for expert in who_leans(found)}


def biases(experts: Iterable[int]) -> dict[int, PositionBias]:
    """{expert: theirs} of those who named a single best story."""
    return {expert: measure(places) for expert, places in _places(experts).items()}


def who_leans(found: Mapping[int, PositionBias]) -> set[int]:
    """Experts whose lean is beyond chance when as many are tested as there are (Benjamini & Hochberg, 1995,
    false discovery rate of SURE)."""
    tested = {expert: bias.p for expert, bias in found.items() if bias.p is not None}
    adjusted = false_discovery(list(tested.values()))
    return {expert for expert, p in zip(tested, adjusted, strict=True) if p < SURE}


def false_discovery(found: Sequence[float]) -> np.ndarray:
    """For each p value, the smallest rate of false discoveries at which it is a discovery (Benjamini & Hochberg)."""
    p = np.asarray(found)
    order = np.argsort(p)
    rates = p[order] * len(p) / np.arange(1, len(p) + 1)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum.accumulate(rates[::-1])[::-1].clip(max=1)
    return adjusted


def measure(places: Mapping[int, Sequence[int]]) -> PositionBias:
    """Pearson's chi-square against equally frequent places, summed over the numbers of stories
    (degrees of freedom: the sum of stories - 1); where few are expected, by playing out chance (seeded)."""
    longest = max(places, default=1)
    counts, expected = [0] * longest, [0.0] * longest
    for stories, found in places.items():
        for place, n in enumerate(found):
            counts[place] += n
            expected[place] += sum(found) / stories
    return PositionBias(counts, expected, _p(places) if sum(counts) >= ENOUGH else None)


def _p(places: Mapping[int, Sequence[int]]) -> float:
    strata = [np.asarray(found) for found in places.values() if sum(found)]
    observed = sum(_chi_square(found, found.sum() / len(found)) for found in strata)
    if all(found.sum() / len(found) >= EXPECTED for found in strata):
        return float(chdtrc(sum(len(found) - 1 for found in strata), observed))
    rng = np.random.default_rng(0)
    played = np.zeros(PLAYED)
    for found in strata:
        drawn = rng.multinomial(found.sum(), np.full(len(found), 1 / len(found)), size=PLAYED)
        played += _chi_square(drawn, found.sum() / len(found))
    # the observed one is one of the possible plays: no p is 0 (Davison & Hinkley, 1997, section 4.2)
    return float((1 + (played >= observed - 1e-9).sum()) / (1 + PLAYED))


def _chi_square(counts: np.ndarray, expected: float) -> np.ndarray:
    return ((counts - expected) ** 2 / expected).sum(-1)


def _everybody(simulated: bool) -> list[int]:
    return list(Expert.objects.filter(simulated=simulated).values_list("pk", flat=True))


def _places(experts: Iterable[int]) -> dict[int, Places]:
    found: dict[int, Places] = {}
    with connection.cursor() as cursor:
        cursor.execute(BEST, {"experts": list(experts), "newest": NEWEST})
        for expert, stories, place, n in cursor.fetchall():
            found.setdefault(expert, {}).setdefault(stories, [0] * stories)[place - 1] = n
    return found
