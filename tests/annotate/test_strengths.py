"""Policies on one scale: strengths that are known, and against statsmodels."""

import math

import numpy as np
import pytest
import statsmodels.api as sm
from django.utils import timezone
from scipy.special import expit
from scipy.stats import chi2

from annotate import strengths
from annotate.models import Comparison
from annotate.strengths import Strength, Vote, fit, scale, votes
from generation.models import Policy
from tests.annotate.answering import answer
from tests.factories import make_comparison, make_evaluation, make_expert, make_policy

TRUE = {1: 0.0, 2: 0.6, 3: 0.9, 4: 1.1}  # log odds


def simulated(
    seed: int, n: int, *, true: dict[int, float] = TRUE, prompts: float = 0.0, experts: float = 0.0, ties: float = 0.0
) -> list[Vote]:
    """Votes on 40 prompts by 8 experts, who lean to some of the policies (standard deviations in log odds)."""
    rng = np.random.default_rng(seed)
    of_prompt = rng.normal(0, prompts, (40, max(true) + 1))
    of_expert = rng.normal(0, experts, (8, max(true) + 1))
    found = []
    for _ in range(n):
        one, two = sorted(rng.choice(list(true), 2, replace=False).tolist())
        prompt, expert = int(rng.integers(40)), int(rng.integers(8))
        likes = {p: true[p] + of_prompt[prompt, p] + of_expert[expert, p] for p in (one, two)}
        won = float(rng.random() < expit(likes[one] - likes[two]))
        found.append(Vote(one, two, 0.5 if rng.random() < ties else won, prompt, expert))
    return found


def longer_only(seed: int, n: int = 600) -> list[Vote]:
    """Policy 2 writes no better than 1, but longer; the judges prefer what is longer."""
    rng = np.random.default_rng(seed)
    found = []
    for i in range(n):
        length, sentence = rng.normal(-0.3, 0.3), rng.normal(0, 0.2)  # 1's less 2's
        found.append(Vote(1, 2, float(rng.random() < expit(3 * length)), i % 60, i % 9, (length, sentence)))
    return found


def by_policy(found: list[Strength]) -> dict[int, Strength]:
    return {strength.policy: strength for strength in found}


def holds(strength: Strength, truth: float) -> bool:
    return strength.low <= truth <= strength.high


def regression(seed: int, n: int = 500) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Design, scores (some of them ties) and the group of each, in which the scores lean one way."""
    rng = np.random.default_rng(seed)
    design = rng.normal(size=(n, 3))
    groups = rng.integers(0, 25, n)
    leaning = rng.normal(0, 2, (25, 3))[groups]
    scores = (rng.random(n) < expit((design * (leaning + [0.5, -0.3, 0])).sum(1))).astype(float)
    scores[rng.random(n) < 0.1] = 0.5
    return design, scores, groups


class TestAgainstStatsmodels:
    @pytest.mark.parametrize("seed", range(3))
    def test_the_coefficients_are_those_of_a_ridge_regression(self, seed: int) -> None:
        design, scores, groups = regression(seed, n=120)
        peer = sm.GLM(scores, design, family=sm.families.Binomial())
        shrunk = peer.fit_regularized(alpha=strengths.RIDGE / len(scores), L1_wt=0.0)
        found, _ = fit(design, scores, [(group, n) for n, group in enumerate(groups)])
        assert found == pytest.approx(shrunk.params, abs=1e-4)

    def test_the_ridge_hardly_matters_to_a_few_hundred_votes(self) -> None:
        design, scores, groups = regression(1)
        found, _ = fit(design, scores, [(group, n) for n, group in enumerate(groups)])
        assert found == pytest.approx(sm.GLM(scores, design, family=sm.families.Binomial()).fit().params, abs=0.005)

    @pytest.mark.parametrize("side", [0, 1])
    def test_the_errors_are_clustered_by_prompt_and_by_expert(self, monkeypatch, side: int) -> None:
        monkeypatch.setattr(strengths, "RIDGE", 1e-9)
        design, scores, groups = regression(2)
        labels = [(group, n) if side == 0 else (n, group) for n, group in enumerate(groups)]
        _, spreads = fit(design, scores, labels)
        peer = sm.GLM(scores, design, family=sm.families.Binomial())
        errors = peer.fit(cov_type="cluster", cov_kwds={"groups": groups}).bse
        n, k = design.shape
        median = chi2.ppf(0.5, 24) / 24  # see annotate.intervals.spread
        wanted = errors**2 * (n - k) / (n - 1) / median  # without statsmodels' factor for k coefficients
        assert [spread.variance for spread in spreads] == pytest.approx(wanted, rel=0.01)

    def test_independent_votes_have_the_errors_of_the_information(self) -> None:
        found = simulated(3, 800)
        design, scores = strengths._design(found, [2, 3, 4], controlled=False)
        _, spreads = fit(design, scores, [(n, n) for n in range(len(found))])
        errors = sm.GLM(scores, design, family=sm.families.Binomial()).fit().bse
        assert [spread.variance**0.5 for spread in spreads] == pytest.approx(errors, rel=0.03)


class TestScale:
    def test_known_strengths_are_recovered(self) -> None:
        found = by_policy(scale(simulated(1, 12_000), 1).strengths)
        assert {p: one.preferred for p, one in found.items()} == pytest.approx(
            {p: float(expit(lead)) for p, lead in TRUE.items()}, abs=0.025
        )

    def test_the_base_comes_first_and_is_what_others_are_measured_by(self) -> None:
        found = scale(simulated(1, 300), 3).strengths
        assert [one.policy for one in found] == [3, 1, 2, 4]
        assert (found[0].preferred, found[0].low, found[0].high) == (0.5, 0.5, 0.5)
        assert found[1].preferred < 0.5

    def test_each_policy_says_of_how_many_votes_it_is(self) -> None:
        votes = [Vote(1, 2, 1.0, 1, 1), Vote(2, 3, 0.0, 2, 2), Vote(2, 3, 1.0, 3, 2)]
        assert {p: one.n for p, one in by_policy(scale(votes, 1).strengths).items()} == {1: 1, 2: 3, 3: 2}

    def test_a_chain_of_votes_joins_a_policy_to_the_base(self) -> None:
        chain = [Vote(a, a + 1, float(n % 4 == a), n, n % 5) for n in range(40) for a in (1, 2)]
        found = by_policy(scale(chain, 1).strengths)
        assert found[3].preferred > found[2].preferred > 0.6

    def test_policies_that_no_vote_joins_to_the_base_are_left_out(self) -> None:
        apart = [Vote(7, 8, 1.0, n, n) for n in range(5)]
        assert [one.policy for one in scale(simulated(1, 50) + apart, 1).strengths] == [1, 2, 3, 4]
        assert scale(apart, 1) == strengths.Scale([], [])
        assert scale([], 1) == strengths.Scale([], [])

    def test_which_of_the_two_is_named_first_does_not_matter(self) -> None:
        there = simulated(2, 200, ties=0.2)
        back = [Vote(v.two, v.one, 1 - v.score, v.prompt, v.expert) for v in there]
        for one, other in zip(scale(there, 1).strengths, scale(back, 1).strengths, strict=True):
            assert vars(one) == pytest.approx(vars(other))


class TestIntervals:
    def test_95_percent_of_them_hold_the_true_strength(self) -> None:
        rng = np.random.default_rng(0)
        worlds = {"prompts": 0.5, "experts": 0.3}
        # between two policies: each leans by itself
        leaning = rng.normal(0, math.hypot(0.5, 0.3) * 2**0.5, 400_000)
        truth = {p: float(expit(TRUE[p] + leaning).mean()) for p in (2, 3)}
        held = []
        for seed in range(300):
            found = by_policy(scale(simulated(seed, 150, true={1: 0.0, 2: 0.6}, **worlds), 1).strengths)
            held.append(holds(found[2], truth[2]))
        assert 0.91 <= np.mean(held) <= 0.99

    def test_many_policies_have_intervals_that_hold_too(self) -> None:
        held = []
        for seed in range(100):
            found = by_policy(scale(simulated(seed, 300), 1).strengths)
            held += [holds(found[p], float(expit(TRUE[p]))) for p in (2, 3, 4)]
        assert 0.91 <= np.mean(held) <= 0.99

    @pytest.mark.parametrize(("n", "low"), [(5, 0.5), (20, 0.84), (200, 0.981)])
    def test_a_policy_that_only_won_is_no_certainty(self, n: int, low: float) -> None:
        found = by_policy(scale([Vote(1, 2, 0.0, i, i % 5) for i in range(n)], 1).strengths)[2]
        assert 0.5 < found.preferred < found.high < 1
        assert low - 0.4 < found.low < low + 0.01  # never surer than Wilson's

    def test_policies_that_are_always_equal_are_no_certainty(self) -> None:
        found = by_policy(scale([Vote(1, 2, 0.5, i, i % 5) for i in range(20)], 1).strengths)[2]
        assert (found.low, found.preferred, found.high) == pytest.approx((0.3, 0.5, 0.7), abs=0.02)

    def test_fewer_experts_are_less_certain(self) -> None:
        # half of them always prefer the one, half the other
        shared_out = [[Vote(1, 2, float(p % e < e // 2), p, p % e) for p in range(48)] for e in (4, 8, 48)]
        few, some, many = (scale(found, 1).strengths[1] for found in shared_out)
        assert few.high - few.low > some.high - some.low > many.high - many.low


class TestControl:
    def test_a_policy_that_only_writes_longer_is_better_until_length_is_controlled(self) -> None:
        plain = [scale(longer_only(seed), 1).strengths[1] for seed in range(40)]
        controlled = [scale(longer_only(seed), 1, controlled=True).strengths[1] for seed in range(40)]
        assert all(one.low > 0.5 for one in plain)
        assert np.mean([holds(one, 0.5) for one in controlled]) >= 0.9
        assert np.mean([one.preferred for one in controlled]) == pytest.approx(0.5, abs=0.02)

    def test_the_effect_of_length_is_named_and_that_of_sentences_is_none(self) -> None:
        length, sentences = scale(longer_only(1), 1, controlled=True).effects
        deviation = math.hypot(0.3, 0.3)  # of the differences, from none
        assert holds(length, float(expit(3 * deviation)))
        assert length.low > 0.5
        assert holds(sentences, 0.5)

    def test_without_control_no_effect_is_named(self) -> None:
        assert scale(longer_only(1), 1).effects == []

    def test_stories_that_never_differ_in_length_take_nothing_from_the_strength(self) -> None:
        alike = [Vote(v.one, v.two, v.score, v.prompt, v.expert, (0.0, 0.0)) for v in simulated(1, 200)]
        plain, controlled = scale(alike, 1), scale(alike, 1, controlled=True)
        for one, other in zip(plain.strengths, controlled.strengths, strict=True):
            assert vars(one) == pytest.approx(vars(other))


@pytest.mark.django_db
class TestVotes:
    def judged(self, new: Policy, old: Policy, order: str = "A > B", *, simulated: bool = False) -> Comparison:
        """A is `new`'s story, which has the smaller id."""
        comparison = make_evaluation(new, old)
        answer(make_expert(simulated=simulated), comparison, order)
        return comparison

    def test_a_vote_is_for_the_policy_whose_story_came_first(self) -> None:
        old, new = make_policy(), make_policy()
        for order in ("A > B", "tie", "B > A"):
            self.judged(new, old, order)
        assert sorted(v.score for v in votes()) == [0, 0.5, 1]
        (won,) = [v for v in votes() if not v.score]  # of `old`, the smaller id
        assert (won.one, won.two) == (old.pk, new.pk)

    def test_it_says_by_how_much_the_one_story_is_longer_and_its_sentences_are(self) -> None:
        old, new = make_policy(), make_policy()
        comparison = self.judged(new, old)
        comparison.stories.filter(policy=old).update(text="The fox ran home. It was late. It slept well. All was good.")
        comparison.stories.filter(policy=new).update(text="The fox ran home and slept.")
        (vote,) = votes()
        assert vote.features == pytest.approx((math.log(13 / 6), math.log((13 / 4) / 6)))

    def test_people_are_told_from_simulated_experts(self) -> None:
        old, new = make_policy(), make_policy()
        self.judged(new, old)
        self.judged(new, old, simulated=True)
        assert (len(votes()), len(votes(people=True))) == (2, 1)

    def test_ordinary_comparisons_and_withdrawn_stories_give_none(self) -> None:
        answer(make_expert(), make_comparison(2), "A > B")
        self.judged(make_policy(), make_policy()).stories.filter(sample_index=0).update(withdrawn_at=timezone.now())
        assert votes() == []

    def test_nothing_that_cannot_be_ranked_is_a_vote(self) -> None:
        self.judged(make_policy(), make_policy(), "cannot_rank")
        assert votes() == []
