"""Leanings to a place on the screen that are known, and against scipy."""

from collections.abc import Sequence

import numpy as np
import pytest
from django.utils import timezone
from scipy import stats

from annotate.models import Assignment, Comparison, Expert, Judgement, Kind, Rank
from annotate.position import experts_who_lean, false_discovery, measure, position_bias
from generation.models import Story
from tests.annotate.answering import answer
from tests.factories import make_comparison, make_expert

HONEST, LEANING = (1 / 3, 1 / 3, 1 / 3), (0.75, 0.15, 0.1)


def drawn(rng: np.random.Generator, answers: dict[int, int], lean: float = 0) -> dict[int, list[int]]:
    """`answers` of each number of stories; with `lean`, so much more of the first place than chance gives."""
    found = {}
    for stories, n in answers.items():
        chances = np.full(stories, (1 - 1 / stories - lean) / (stories - 1))
        chances[0] = 1 / stories + lean
        found[stories] = rng.multinomial(n, chances).tolist()
    return found


def rejected(answers: dict[int, int], lean: float = 0, *, runs: int) -> float:
    rng = np.random.default_rng(0)
    return sum(measure(drawn(rng, answers, lean)).leans for _ in range(runs)) / runs


class TestMeasure:
    def test_without_a_lean_one_in_twenty_is_called_one(self) -> None:
        assert 0.02 <= rejected({2: 40, 3: 60, 4: 50}, runs=300) <= 0.09

    def test_without_a_lean_few_answers_are_called_one_no_more_often(self) -> None:
        assert 0.01 <= rejected({3: 9, 5: 15}, runs=100) <= 0.09

    def test_every_p_is_as_likely_as_any_other_without_a_lean(self) -> None:
        rng = np.random.default_rng(1)
        found = [measure(drawn(rng, {3: 90, 4: 120})).p for _ in range(300)]
        assert stats.kstest(found, "uniform").pvalue > 0.01

    def test_a_set_lean_is_found(self) -> None:
        assert rejected({3: 200, 4: 200}, lean=0.12, runs=100) > 0.95

    @pytest.mark.parametrize("counts", [[30, 20, 10], [8, 12, 9, 11], [40, 41]])
    def test_one_number_of_stories_gives_what_scipy_gives(self, counts: list[int]) -> None:
        assert measure({len(counts): counts}).p == pytest.approx(stats.chisquare(counts).pvalue)

    def test_several_numbers_of_stories_are_tested_together(self) -> None:
        three, four = [30, 20, 10], [8, 12, 9, 11]
        together = stats.chisquare(three).statistic + stats.chisquare(four).statistic
        assert measure({3: three, 4: four}).p == pytest.approx(stats.chi2.sf(together, 2 + 3))

    @pytest.mark.parametrize("counts", [[8, 1], [5, 4], [9, 0], [1, 5]])
    def test_chance_played_out_is_the_exact_test_of_two_places(self, counts: list[int]) -> None:
        exact = stats.binomtest(counts[0], sum(counts)).pvalue
        assert measure({2: counts}).p == pytest.approx(exact, abs=0.012)

    @pytest.mark.parametrize("p", [[0.04], [0.01, 0.02, 0.03], [0.9, 0.001, 0.04, 0.001, 0.5], []])
    def test_several_experts_are_corrected_for_as_scipy_does(self, p: list[float]) -> None:
        assert false_discovery(p).tolist() == pytest.approx(stats.false_discovery_control(p).tolist() if p else [])

    def test_it_is_never_impossible_that_it_was_chance(self) -> None:
        assert measure({5: [20, 0, 0, 0, 0]}).p > 0

    def test_it_counts_beside_what_chance_gives(self) -> None:
        found = measure({2: [6, 2], 4: [1, 3, 0, 4]})
        assert (found.counts, found.expected, found.n) == ([7, 5, 0, 4], [6, 6, 2, 2], 16)
        assert (found.first_share, found.first_by_chance) == (7 / 16, 6 / 16)

    @pytest.mark.parametrize("places", [{}, {3: [2, 1, 1]}])
    def test_a_few_answers_say_nothing(self, places: dict[int, list[int]]) -> None:
        found = measure(places)
        assert (found.p, found.leans) == (None, False)
        assert (found.n, found.first_share) == (sum(map(sum, places.values())), 2 / 4 if places else 0)


def judged(experts: dict[Expert, Sequence[float]], comparisons: list[Comparison]) -> None:
    """Every expert has judged every comparison: the best stands first, second or third with these chances."""
    rng = np.random.default_rng(4)
    shown = {c.pk: list(c.stories.values_list("pk", flat=True)) for c in comparisons}
    now = timezone.now()
    made = Assignment.objects.bulk_create(
        Assignment(comparison=c, expert=expert, shown=shown[c.pk], answered_at=now)
        for expert in experts
        for c in comparisons
    )
    judgements = Judgement.objects.bulk_create(Judgement(assignment=one, verdict="ranked") for one in made)
    best = [int(rng.choice(3, p=experts[one.expert])) for one in made]
    Rank.objects.bulk_create(
        Rank(judgement=judgement, story_id=story, rank=1 + (place != first), shown_position=place + 1)
        for judgement, one, first in zip(judgements, made, best, strict=True)
        for place, story in enumerate(one.shown)
    )


@pytest.mark.django_db
class TestExperts:
    def test_the_one_who_leans_is_found_among_twenty_who_do_not(self) -> None:
        honest, leaning = [make_expert() for _ in range(20)], make_expert()
        judged({**dict.fromkeys(honest, HONEST), leaning: LEANING}, [make_comparison(3) for _ in range(60)])
        found = experts_who_lean()
        assert list(found) == [leaning.pk]
        assert found[leaning.pk].first_share == pytest.approx(0.75, abs=0.15)

    def test_nobody_is_named_in_an_honest_crowd(self) -> None:
        judged(dict.fromkeys([make_expert() for _ in range(20)], HONEST), [make_comparison(3) for _ in range(30)])
        assert experts_who_lean() == {}
        assert not position_bias().leans

    def test_simulated_experts_are_kept_apart_from_people(self) -> None:
        person, made_up = make_expert(), make_expert(simulated=True)
        judged({person: HONEST, made_up: LEANING}, [make_comparison(3) for _ in range(40)])
        assert (position_bias().n, position_bias(simulated=True).n) == (40, 40)
        assert experts_who_lean() == {}
        assert list(experts_who_lean(simulated=True)) == [made_up.pk]

    def test_nobody_leans_where_nobody_has_judged(self) -> None:
        assert experts_who_lean() == {}
        assert position_bias().counts == [0]


@pytest.mark.django_db
class TestWhatCounts:
    def test_it_is_the_place_on_the_screen_of_the_best_story(self, expert: Expert) -> None:
        answer(expert, make_comparison(3), "C > A > B", shown="ABC")
        answer(expert, make_comparison(4), "C > A > B > D", shown="DCAB")
        assert position_bias().counts == [0, 1, 1, 0]

    def test_no_single_best_story_and_silent_checks_say_nothing(self, expert: Expert) -> None:
        answer(expert, make_comparison(3), "A = B > C", shown="ABC")
        answer(expert, make_comparison(3), "all_good", shown="ABC")
        answer(expert, make_comparison(3), "A > B > C", shown="ABC", kind=Kind.GOLD)
        assert position_bias().n == 0

    def test_an_answer_without_a_withdrawn_storys_place_is_left_out(self, expert: Expert) -> None:
        judgement = answer(expert, make_comparison(3), "A > B > C", shown="ABC")
        judgement.ranks.filter(shown_position=2).delete()
        assert position_bias().n == 0

    def test_a_story_withdrawn_after_the_answer_changes_nothing(self, expert: Expert) -> None:
        answer(expert, make_comparison(3), "A > B > C", shown="ABC")
        Story.objects.update(withdrawn_at=timezone.now())
        assert position_bias().counts == [1, 0, 0]
