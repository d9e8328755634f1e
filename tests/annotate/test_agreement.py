"""Agreement of experts whose flips are known, and against the krippendorff library."""

from itertools import combinations

import krippendorff
import numpy as np
import pytest

from annotate.agreement import (
    COMPARISONS,
    ENOUGH,
    HIGHEST_SMOOTHING,
    Tally,
    agreement,
    flip_rate,
    flipped_pairs,
    measure,
)
from annotate.models import Kind
from annotate.pairs import PreferencePair
from tests.annotate.answering import answer
from tests.factories import make_comparison, make_expert


def mirrored(tallies: list[Tally]) -> np.ndarray:
    """Each two stories as two units, one for each way round; columns: -1, 0, 1."""
    both = [(t.first, t.equal, t.second) for t in tallies] + [(t.second, t.equal, t.first) for t in tallies]
    return np.array(both)


def votes_with_ties(seed: int, *, pairs: int = 60) -> list[Tally]:
    rng = np.random.default_rng(seed)
    return [
        Tally(n // 3, *map(int, rng.multinomial(rng.integers(2, 7), rng.dirichlet([2, 1, 1])))) for n in range(pairs)
    ]


def flipping(flips: float | list[float], seed: int, *, comparisons: int = 60) -> list[Tally]:
    """Three votes on each of three pairs a comparison; each goes the wrong way with a probability in `flips`, one for
    all pairs of a comparison."""
    rng = np.random.default_rng(seed)
    found = []
    for comparison in range(comparisons):
        flip = rng.choice(flips)
        for wrong in rng.binomial(3, flip, size=3).tolist():
            turned = rng.random() < 0.5
            found.append(Tally(comparison, *((wrong, 0, 3 - wrong) if turned else (3 - wrong, 0, wrong))))
    return found


def pair(pro: int, contra: int) -> PreferencePair:
    return PreferencePair(None, None, pro, contra, 0)


class TestAlpha:
    @pytest.mark.parametrize("seed", range(5))
    @pytest.mark.parametrize("level", ["ordinal", "interval"])
    def test_it_is_that_of_the_library_on_both_ways_round(self, seed: int, level: str) -> None:
        tallies = votes_with_ties(seed)
        peer = krippendorff.alpha(value_counts=mirrored(tallies), value_domain=[-1, 0, 1], level_of_measurement=level)
        assert measure(tallies).alpha.value == pytest.approx(peer)

    def test_it_is_one_where_all_agree_and_below_nothing_where_they_never_do(self) -> None:
        assert measure([Tally(n, 3, 0, 0) for n in range(30)]).alpha.value == 1
        assert measure([Tally(n, 1, 0, 1) for n in range(30)]).alpha.value < 0

    def test_which_story_is_named_first_does_not_matter(self) -> None:
        tallies = votes_with_ties(1)
        assert measure([Tally(t.comparison, t.second, t.equal, t.first) for t in tallies]) == measure(tallies)

    def test_its_interval_holds_the_true_alpha(self) -> None:
        flips = [0.05, 0.25]
        # no ties: 1 - D_o / D_e with D_o = 2 e (1 - e) and D_e = 1/2
        truth = 1 - 4 * float(np.mean([e * (1 - e) for e in flips]))
        found = [measure(flipping(flips, seed)).alpha for seed in range(300)]
        assert 0.91 <= np.mean([one.low <= truth <= one.high for one in found]) <= 0.98

    def test_ties_alone_measure_nothing(self) -> None:
        assert measure([Tally(n, 0, 3, 0) for n in range(40)]).alpha is None


class TestShare:
    def test_it_is_of_all_two_strict_votes_on_the_same_stories(self) -> None:
        # 3 against 1: 6 pairs of votes, 3 of them alike; 2 and a tie: 1 of 1
        tallies = [Tally(n, 3, 0, 1) for n in range(20)] + [Tally(n, 2, 1, 0) for n in range(20)]
        assert measure(tallies).share.value == pytest.approx((3 + 1) / (6 + 1))

    def test_too_few_pairs_or_comparisons_give_no_figure_but_their_number(self) -> None:
        few = [Tally(n, 2, 0, 0) for n in range(ENOUGH - 1)]
        of_few = [Tally(n % (COMPARISONS - 1), 2, 0, 0) for n in range(3 * ENOUGH)]
        for tallies in (few, of_few, []):
            found = measure(tallies)
            assert (found.pairs, found.votes) == (len(tallies), 2 * len(tallies))
            assert (found.alpha, found.share, found.flipped) == (None, None, None)


class TestFlips:
    @pytest.mark.parametrize("flip", [0.05, 0.15, 0.3])
    def test_a_known_rate_is_recovered_within_its_interval(self, flip: float) -> None:
        found = [measure(flipping([flip], seed)).flipped for seed in range(100)]
        assert np.mean([one.value for one in found]) == pytest.approx(flip, abs=0.01)
        assert np.mean([one.low <= flip <= one.high for one in found]) >= 0.9

    @pytest.mark.parametrize(("share", "flip"), [(1, 0), (0.82, 0.1), (0.68, 0.2), (0.5, 0.5), (0.4, 0.5)])
    def test_it_makes_two_votes_agree_as_often_as_they_do(self, share: float, flip: float) -> None:
        assert flip_rate(share) == pytest.approx(flip)

    def test_pairs_that_are_harder_than_others_make_it_too_low(self) -> None:
        tallies = flipping([0.0, 0.5], 1, comparisons=2000)
        assert measure(tallies).flipped.value == pytest.approx((1 - 0.5**0.5) / 2, abs=0.02)  # of 0.25 in truth


class TestFlippedPairs:
    def test_a_majority_is_wrong_as_bayes_says(self) -> None:
        assert flipped_pairs([pair(1, 0)], 0.2) == pytest.approx(0.2)
        assert flipped_pairs([pair(2, 0)], 0.2) == flipped_pairs([pair(4, 2)], 0.2) == pytest.approx(1 / 17)
        assert flipped_pairs([pair(1, 0), pair(3, 0)], 0.2) == pytest.approx((1 / 5 + 1 / 65) / 2)

    @pytest.mark.parametrize("flip", [0.05, 0.15, 0.3])
    def test_as_many_pairs_of_a_simulated_export_are_wrong(self, flip: float) -> None:
        rng = np.random.default_rng(1)
        votes = rng.integers(1, 6, 40_000)
        wrong = rng.binomial(votes, flip)
        decided = 2 * wrong != votes  # equal votes make no pair
        wrong, votes = wrong[decided], votes[decided]
        pairs = [pair(max(w, v - w), min(w, v - w)) for w, v in zip(wrong.tolist(), votes.tolist(), strict=True)]
        assert flipped_pairs(pairs, flip) == pytest.approx((2 * wrong > votes).mean(), abs=0.006)

    @pytest.mark.parametrize(("flip", "found"), [(0, 0), (0.5, HIGHEST_SMOOTHING), (0.499, HIGHEST_SMOOTHING)])
    def test_the_ends_are_no_smoothing_and_the_highest(self, flip: float, found: float) -> None:
        assert flipped_pairs([pair(1, 0)], flip) == found

    def test_no_pairs_have_none_wrong(self) -> None:
        assert flipped_pairs([], 0.2) is None


@pytest.mark.django_db
class TestVotes:
    def test_each_two_stories_of_two_experts_are_a_pair(self) -> None:
        comparison = make_comparison(3)
        for order in ("A > B > C", "B > A > C"):
            answer(make_expert(), comparison, order)
        assert (agreement().pairs, agreement().votes) == (3, 6)

    def test_one_experts_votes_agree_with_nobody(self) -> None:
        answer(make_expert(), make_comparison(3), "A > B > C")
        assert agreement().pairs == 0

    def test_a_verdict_of_equals_and_ties_at_the_ends_are_votes(self) -> None:
        comparison = make_comparison(3)
        for order in ("all_good", "A = B > C", "A > B = C"):
            answer(make_expert(), comparison, order)
        assert (agreement().pairs, agreement().votes) == (3, 9)

    def test_the_stories_between_best_and_worst_are_not_called_equal(self) -> None:
        comparison = make_comparison(4)
        for order in ("A > B = C > D", "A > B > C > D"):
            answer(make_expert(), comparison, order)
        assert (agreement().pairs, agreement().votes) == (5, 10)

    def test_people_and_simulated_experts_are_measured_apart(self) -> None:
        comparison = make_comparison(2)
        for simulated in (False, True, True):
            answer(make_expert(simulated=simulated), comparison, "A > B")
        assert (agreement().votes, agreement(simulated=True).votes) == (0, 2)

    def test_repeats_and_adjudications_are_no_second_vote(self) -> None:
        comparison, expert = make_comparison(2), make_expert()
        answer(expert, comparison, "A > B")
        answer(expert, comparison, "A > B", kind=Kind.REPEAT)
        answer(make_expert(), comparison, "A > B", kind=Kind.ADJUDICATION)
        assert agreement().pairs == 0

    def test_only_the_comparisons_that_are_named_count(self) -> None:
        comparisons = [make_comparison(2) for _ in range(3)]
        for comparison in comparisons:
            for _ in range(2):
                answer(make_expert(), comparison, "A > B")
        assert agreement([c.pk for c in comparisons[:2]]).pairs == 2
        assert agreement([]).pairs == 0

    def test_the_votes_are_those_of_a_plain_reckoning(self) -> None:
        orders = ["A > B > C", "C > B > A", "B > A > C"]
        for n in range(COMPARISONS):
            comparison = make_comparison(3)
            for order in (orders[n % 3], orders[0]):
                answer(make_expert(), comparison, order)
        same = sum(
            (x.index(a) < x.index(b)) == (orders[0].index(a) < orders[0].index(b))
            for x in (orders[n % 3] for n in range(COMPARISONS))
            for a, b in combinations("ABC", 2)
        )
        assert agreement().share.value == pytest.approx(same / (3 * COMPARISONS))
