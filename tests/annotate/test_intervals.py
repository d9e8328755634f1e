"""Intervals of votes whose true rate is known, and against statsmodels."""

from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np
import pytest
import statsmodels.api as sm
from scipy.special import expit
from scipy.stats import t as student
from statsmodels.stats.proportion import proportion_confint

from annotate.intervals import Spread, combined, interval, multiplicities, spread
from generation.shares import wilson_interval

RUNS = 500


@dataclass(frozen=True)
class Vote:
    prompt: int
    expert: int
    score: float


@dataclass(frozen=True)
class World:
    """Prompts and experts who each lean to one policy or the other (standard deviations in log odds)."""

    prompts: int
    experts: int
    votes_a_prompt: int
    prompts_differ: float
    experts_differ: float
    lead: float  # log odds of the new policy
    ties: float = 0.1

    def votes(self, seed: int) -> list[Vote]:
        rng = np.random.default_rng(seed)
        shape = (self.prompts, self.votes_a_prompt)
        experts = rng.random((self.prompts, self.experts)).argsort(1)[:, : self.votes_a_prompt]
        by_prompt = rng.normal(0, self.prompts_differ, (self.prompts, 1))
        by_expert = rng.normal(0, self.experts_differ, self.experts)[experts]
        wins = rng.random(shape) < expit(self.lead + by_prompt + by_expert)
        scores = np.where(rng.random(shape) < self.ties, 0.5, wins)
        return [Vote(p, int(experts[p, k]), float(scores[p, k])) for p, k in np.ndindex(shape)]

    def true_rate(self) -> float:
        """Of prompts and experts that nobody has seen yet: by quadrature over both leanings."""
        nodes, weights = np.polynomial.hermite_e.hermegauss(60)
        leanings = np.hypot(self.prompts_differ, self.experts_differ) * nodes
        won = float((weights * expit(self.lead + leanings)).sum() / weights.sum())
        return (1 - self.ties) * won + self.ties / 2


WORLDS = {
    "three experts with strong leanings": World(40, 3, 3, 0.7, 0.5, lead=0.7),
    "two experts": World(30, 2, 2, 0.5, 0.5, lead=0.4),
    "independent votes": World(50, 12, 2, 0, 0, lead=0.4),
    "many experts and prompts that differ": World(50, 20, 2, 1.0, 0.5, lead=0.3),
    "a policy that nearly always wins": World(40, 6, 2, 0.5, 0.3, lead=2.0),
}


def crossed(scores: dict[tuple[int, int], float]) -> list[Vote]:
    """Votes from {(prompt, expert): score}."""
    return [Vote(prompt, expert, score) for (prompt, expert), score in scores.items()]


def width(votes: list[Vote], **how: float) -> float:
    low, high = interval(votes, **how)
    return high - low


def shared_out(experts: int, *, prompts: int = 24) -> list[Vote]:
    """One vote for each prompt, shared out among `experts`, half of whom always find the new policy better."""
    return crossed({(p, p % experts): float(p % experts < experts // 2) for p in range(prompts)})


@cache
def intervals(name: str) -> list[tuple[float, float]]:
    return [interval(WORLDS[name].votes(seed)) for seed in range(RUNS)]


class TestCoverage:
    @pytest.mark.parametrize("name", WORLDS)
    def test_95_percent_of_the_intervals_hold_the_true_rate(self, name: str) -> None:
        truth = WORLDS[name].true_rate()
        held = sum(low <= truth <= high for low, high in intervals(name)) / RUNS
        assert 0.92 <= held <= 0.98

    def test_independent_votes_are_not_taken_for_much_less_than_they_are(self) -> None:
        rate = WORLDS["independent votes"].true_rate()
        best = 2 * 1.96 * np.sqrt(rate * (1 - rate) / 100)
        assert np.mean([high - low for low, high in intervals("independent votes")]) < 1.2 * best

    def test_taking_votes_for_independent_would_miss_the_rate_too_often(self) -> None:
        name = "three experts with strong leanings"
        means = [np.mean([vote.score for vote in WORLDS[name].votes(seed)]) for seed in range(RUNS)]
        naive = [wilson_interval(float(mean), 120) for mean in means]
        assert sum(low <= WORLDS[name].true_rate() <= high for low, high in naive) / RUNS < 0.85


class TestSpread:
    @pytest.mark.parametrize("side", ["prompt", "expert"])
    def test_resampling_one_side_gives_the_clustered_variance_of_statsmodels(self, side: str) -> None:
        votes = World(50, 10, 3, 1.0, 0.8, lead=0.4).votes(seed=1)
        scores, groups = np.array([v.score for v in votes]), np.array([getattr(v, side) for v in votes])
        fitted = sm.OLS(scores, np.ones(len(scores))).fit(cov_type="cluster", cov_kwds={"groups": groups})
        alone = [Vote(v.prompt if side == "prompt" else n, v.expert if side == "expert" else n, v.score)
                 for n, v in enumerate(votes)]  # fmt: skip
        counts = len(set(groups))
        singles = float(((scores - scores.mean()) ** 2).sum()) / len(scores) ** 2
        found = combined(singles, len(votes), [(float(fitted.bse[0]) ** 2, counts)])
        # the other side are single votes: what they add to themselves is chance of the bootstrap
        assert spread(alone).variance == pytest.approx(found.variance, rel=0.15)

    def test_each_side_adds_what_it_has_beyond_single_votes(self) -> None:
        four, nine = 2.366 / 3, 7.344 / 8  # the medians of chi-square in the tables over their degrees of freedom
        found = combined(0.01, 100, [(0.02, 4), (0.03, 9), (0.001, 20)])
        assert found.variance == pytest.approx(0.02 / four + 0.03 / nine - 0.01, rel=1e-3)

    def test_degrees_of_freedom_are_those_of_the_part_that_matters(self) -> None:
        assert combined(1e-9, 100, [(0.02, 4)]).freedom == pytest.approx(3)
        assert combined(0.02, 100, [(1e-9, 4)]).freedom == pytest.approx(99)

    @pytest.mark.parametrize("freedom", [1.0, 2.7, 30.0])
    def test_the_half_width_is_students(self, freedom: float) -> None:
        assert Spread(0.04, freedom).half(0.9) == pytest.approx(0.2 * student.ppf(0.95, freedom))

    def test_a_draw_has_as_many_as_there_are_groups(self) -> None:
        drawn = multiplicities(np.random.default_rng(0), 7, 50)
        assert drawn.shape == (50, 7)
        assert set(drawn.sum(1)) == {7}


class TestInterval:
    @pytest.mark.parametrize("wins", [1, 5, 12, 20, 23])
    def test_it_contains_the_rate(self, wins: int) -> None:
        low, high = interval(crossed({(p, p % 6): float((p * 7) % 24 < wins) for p in range(24)}))
        assert 0 <= low < wins / 24 < high <= 1

    def test_few_experts_who_disagree_widen_it(self) -> None:
        assert width(shared_out(4)) > width(shared_out(8)) > width(shared_out(24))

    def test_few_prompts_that_differ_widen_it(self) -> None:
        few = crossed({(p, e): float(p % 2) for p, e in product(range(2), range(12))})
        many = crossed({(p, e): float(p % 2) for p, e in product(range(12), range(2))})
        assert width(few) > 1.5 * width(many)

    def test_prompts_and_experts_are_both_resampled(self) -> None:
        by_expert = crossed({(p, e): float(e % 2) for p, e in product(range(6), range(6))})
        by_prompt = crossed({(p, e): float(p % 2) for p, e in product(range(6), range(6))})
        independent = 2 * 1.96 * (0.25 / 36) ** 0.5
        assert width(by_expert) > 1.5 * independent
        assert width(by_prompt) > 1.5 * independent

    def test_the_same_votes_twice_are_no_new_evidence(self) -> None:
        assert interval(shared_out(6) * 2) == pytest.approx(interval(shared_out(6)))

    def test_more_votes_of_one_expert_do_not_narrow_it_as_if_independent(self) -> None:
        few = crossed({(p, e): float(e % 2) for p, e in product(range(3), range(4))})
        many = crossed({(p, e): float(e % 2) for p, e in product(range(30), range(4))})
        assert width(many) > 0.9 * width(few)

    def test_more_independent_votes_narrow_it(self) -> None:
        few = crossed({(n, n): float(n % 2) for n in range(10)})
        many = crossed({(n, n): float(n % 2) for n in range(160)})
        assert width(many) < 0.5 * width(few)

    def test_a_win_and_a_loss_of_every_expert_on_every_prompt_are_no_certainty(self) -> None:
        both = [Vote(p, p % 4, score) for p, score in product(range(10), (0.0, 1.0))]
        low, high = interval(both)
        assert (low, high) == pytest.approx(wilson_interval(0.5, 20), abs=0.05)

    @pytest.mark.parametrize("score", [0.0, 0.5, 1.0])
    @pytest.mark.parametrize("n", [1, 20])
    def test_votes_that_all_agree_are_not_certainty(self, score: float, n: int) -> None:
        assert interval(crossed({(p, p % 3): score for p in range(n)})) == wilson_interval(score, n)

    def test_it_is_the_same_each_time(self) -> None:
        assert interval(shared_out(4)) == interval(shared_out(4))

    def test_a_lower_level_gives_a_narrower_one(self) -> None:
        assert width(shared_out(6), level=0.5) < width(shared_out(6))

    def test_it_is_the_same_for_the_loser_the_other_way_round(self) -> None:
        votes = World(30, 4, 2, 0.5, 0.5, lead=0.7).votes(seed=2)
        low, high = interval([Vote(v.prompt, v.expert, 1 - v.score) for v in votes])
        assert (1 - high, 1 - low) == pytest.approx(interval(votes))

    def test_there_is_none_without_votes(self) -> None:
        with pytest.raises(ValueError, match="without a vote"):
            interval([])


@pytest.mark.parametrize(("wins", "n"), [(10, 10), (0, 7), (5, 10), (60, 100)])
def test_wilsons_interval_is_that_of_statsmodels(wins: int, n: int) -> None:
    assert wilson_interval(wins / n, n) == pytest.approx(proportion_confint(wins, n, method="wilson"), abs=1e-6)


def test_a_share_of_nothing_may_be_anything() -> None:
    assert wilson_interval(0.0, 0) == (0.0, 1.0)
