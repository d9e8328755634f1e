"""How sure a share of votes is, when votes are not independent: of one prompt, and of one expert.

A thousand votes on ten prompts say little of the eleventh prompt, and a thousand of three experts
little of a fourth expert.
"""

import math
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.special import chdtri, stdtrit  # scipy.stats has them too, but takes half a second to import

from generation.shares import wilson_interval

RESAMPLES = 1_000
BLOCK = 2_000_000  # random counts in memory at once: 16 MB


class Vote(Protocol):
    """One vote: `score` 0 to 1, on a prompt, by an expert."""

    @property
    def prompt(self) -> Hashable: ...
    @property
    def expert(self) -> Hashable: ...
    @property
    def score(self) -> float: ...


@dataclass(frozen=True)
class Spread:
    """The variance of a mean and the degrees of freedom that it was estimated with."""

    variance: float
    freedom: float

    def half(self, level: float) -> float:
        """Half the width of the interval of a mean, on the mean's own scale."""
        return float(stdtrit(self.freedom, (1 + level) / 2)) * math.sqrt(self.variance)


def interval(found: Sequence[Vote], *, level: float = 0.95) -> tuple[float, float]:
    """The interval of the mean score, 0-1, of votes crossed by prompts and experts. Raises ValueError without votes.

    Prompts and experts are each resampled with replacement (bootstrap), and what either adds to the
    chance of single votes is summed: see `spread`. The interval is drawn on the scale of log odds,
    so that it stays within 0-1. Votes that all agree leave nothing to resample, but are no
    certainty: then it is Wilson's.
    """
    if not found:
        raise ValueError("there is no interval without a vote")
    scores = np.array([vote.score for vote in found])
    rate = float(scores.mean())
    if scores.min() == scores.max():
        return wilson_interval(rate, len(found))
    half = spread(found).half(level) / (rate * (1 - rate))
    odds = math.log(rate / (1 - rate))
    return _share(odds - half), _share(odds + half)


def spread(found: Sequence[Vote], *, seed: int = 0) -> Spread:
    """The variance of the mean score under resampling of prompts and of experts.

    With V(prompts), V(experts) from bootstraps that draw whole prompts or whole experts, and V(cells)
    of the votes of one expert on one prompt (or of single votes, if those vary more: two opposite votes
    in each cell are no certainty): V = V(cells) + [V(prompts) - V(cells)] + [V(experts) -
    V(cells)], brackets not below 0 (two-way clustering: Cameron, Gelbach & Miller, 2011, equation 2.8;
    Owen & Eckles, 2012, show that drawing both at once would count the cells three times). Degrees of
    freedom: Satterthwaite (1946), so that three experts are taken for three and not for infinitely many.
    And of few groups a variance comes out too low more often than too high: V(prompts) and V(experts) are
    divided by the median of what chance does to them (chi-square over its degrees of freedom; 0.69 of three
    groups, 0.9 of eight), without which three experts with strong leanings had 89 % of coverage in place of 95.
    """
    scores = np.array([vote.score for vote in found])
    residuals = scores - scores.mean()
    rng = np.random.default_rng(seed)
    cells, _ = _groups([(vote.prompt, vote.expert) for vote in found], residuals)
    floor = max(float((cells**2).sum()), float((residuals**2).sum())) / len(scores) ** 2
    clustered = []
    for labels in ([vote.prompt for vote in found], [vote.expert for vote in found]):
        sums, counts = _groups(labels, scores)
        if len(sums) > 1:
            clustered.append((_resampled_variance(rng, sums, counts), len(sums)))
    return combined(floor, len(cells), clustered)


def combined(floor: float, cells: int, clustered: Iterable[tuple[float, int]]) -> Spread:
    """V(cells) and what each clustering, of (variance, number of groups), adds to it; see `spread`."""
    parts = [(floor, cells)]
    for variance, groups in clustered:
        median = float(chdtri(groups - 1, 0.5)) / (groups - 1)
        parts.append((max(variance / median - floor, 0.0), groups))
    total = sum(part for part, _ in parts)
    uncertainty = sum(part**2 / max(groups - 1, 1) for part, groups in parts)
    return Spread(total, total**2 / uncertainty if uncertainty else 1.0)


def multiplicities(rng: np.random.Generator, groups: int, resamples: int = RESAMPLES) -> np.ndarray:
    """[resamples, groups]: how often each group was drawn, of as many draws as there are groups."""
    return rng.multinomial(groups, np.full(groups, 1 / groups), size=resamples)


def _resampled_variance(rng: np.random.Generator, sums: np.ndarray, counts: np.ndarray) -> float:
    """Variance of the mean when whole groups are drawn with replacement, times G / (G - 1) for G groups."""
    groups = len(sums)
    block = max(BLOCK // groups, 1)
    means = []
    for begin in range(0, RESAMPLES, block):
        drawn = multiplicities(rng, groups, min(block, RESAMPLES - begin))
        means.append((drawn @ sums) / (drawn @ counts))
    return float(np.concatenate(means).var()) * groups / (groups - 1)


def _groups(labels: Sequence[Hashable], values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(sums, counts) of the values by label."""
    numbers: dict[Hashable, int] = {}
    index = np.array([numbers.setdefault(label, len(numbers)) for label in labels])
    return np.bincount(index, values), np.bincount(index)


def _share(odds: float) -> float:
    return 1 / (1 + math.exp(-odds))
