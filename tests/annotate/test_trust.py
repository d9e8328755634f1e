"""The figures about experts, worked by hand and against a plain reckoning."""

import random
from datetime import timedelta
from itertools import combinations, product

import pytest
from django.utils import timezone

from annotate.gold import retire_gold
from annotate.models import Assignment, Comparison, Expert, Gold, Judgement, Kind, Verdict
from annotate.position import NO_BIAS
from annotate.trust import ExpertRecord, Share, expert_records, record_of
from tests.annotate.answering import answer, story
from tests.factories import make_comparison, make_expert

pytestmark = pytest.mark.django_db


def record(expert: Expert, **fields: object) -> ExpertRecord:
    nothing = {"verdicts": {}, "median_seconds": None, "hurried": Share(), "repeats": 0, "consistency": Share(),
               "gold": Share(), "agreement": Share(), "places": NO_BIAS, "leans": False}  # fmt: skip
    return ExpertRecord(expert=expert, **{**nothing, **fields})


def timed(expert: Expert, seconds: float, *, hurried: bool = False, kind: str = Kind.ORDINARY) -> None:
    judgement = answer(expert, make_comparison(), "tie", kind=kind)
    Judgement.objects.filter(pk=judgement.pk).update(seconds=seconds, hurried=hurried)


def golden(best: str = "A") -> Gold:
    comparison = make_comparison()
    return Gold.objects.create(comparison=comparison, best=story(comparison, best), made_by=make_expert().user)


def asked_again(expert: Expert, first: str, second: str) -> Share:
    comparison = make_comparison(4)
    answer(expert, comparison, first)
    answer(expert, comparison, second, kind=Kind.REPEAT)
    return record_of(expert).consistency


class TestCounts:
    def test_an_expert_without_answers_has_an_empty_record(self, expert: Expert) -> None:
        assert record_of(expert) == record(expert)

    def test_answers_are_counted_by_verdict(self, expert: Expert) -> None:
        for order in ("A > B > C", "B > A = C", "all_bad", "cannot_rank"):
            answer(expert, make_comparison(), order)
        found = record_of(expert)
        assert found.verdicts == {"ranked": 2, "all_bad": 1, "cannot_rank": 1}
        assert found.judgements == 4

    def test_adjudications_count_and_silent_checks_do_not(self, expert: Expert) -> None:
        for kind in Kind.values:
            answer(expert, make_comparison(), "tie", kind=kind)
        assert record_of(expert).judgements == 2

    def test_verdicts_are_named_in_their_own_order(self, expert: Expert) -> None:
        answer(expert, make_comparison(), "cannot_rank")
        answer(expert, make_comparison(), "A > B > C")
        assert record_of(expert).answers == [(Verdict.RANKED.label, 1), (Verdict.CANNOT_RANK.label, 1)]

    def test_people_come_before_simulated_experts(self, expert: Expert) -> None:
        simulated = make_expert(simulated=True)
        other = make_expert("writer")
        assert [found.expert for found in expert_records()] == [expert, other, simulated]

    def test_the_records_of_all_cost_as_many_queries_as_one(self, expert: Expert, django_assert_num_queries) -> None:
        comparison = make_comparison()
        for other in [expert] + [make_expert() for _ in range(4)]:
            answer(other, comparison, "A > B > C")
        with django_assert_num_queries(7):
            assert [found.expert.user.username for found in expert_records()]


class TestSpeed:
    def test_the_median_is_of_the_times_that_are_known(self, expert: Expert) -> None:
        for seconds in (10, 200, 30):
            timed(expert, seconds)
        answer(expert, make_comparison(), "tie")
        assert record_of(expert).median_seconds == 30

    def test_the_hurried_are_a_share_of_those_whose_time_is_known(self, expert: Expert) -> None:
        timed(expert, 2, hurried=True)
        timed(expert, 90)
        answer(expert, make_comparison(), "tie")
        assert record_of(expert).hurried == Share(1, 2)

    def test_silent_checks_do_not_count_in_the_time(self, expert: Expert) -> None:
        timed(expert, 40)
        timed(expert, 400, kind=Kind.GOLD)
        assert record_of(expert).median_seconds == 40

    @pytest.mark.parametrize(("seconds", "minutes"), [(None, 0), (59, 0), (60, 1), (100, 2), (200, 3)])
    def test_less_than_a_minute_is_no_minute(self, expert: Expert, seconds: float | None, minutes: int) -> None:
        assert record(expert, median_seconds=seconds).minutes == minutes


class TestConsistency:
    def test_the_same_order_again_agrees_in_every_pair(self, expert: Expert) -> None:
        assert asked_again(expert, "A > B > C > D", "A > B > C > D") == Share(6, 6)

    def test_the_opposite_order_agrees_in_none(self, expert: Expert) -> None:
        assert asked_again(expert, "A > B > C > D", "D > C > B > A") == Share(0, 6)

    def test_two_neighbours_that_change_places_are_one_pair(self, expert: Expert) -> None:
        assert asked_again(expert, "A > B > C > D", "B > A > C > D") == Share(5, 6)

    def test_a_tie_agrees_with_a_tie_and_with_no_order(self, expert: Expert) -> None:
        assert asked_again(expert, "A > B = C > D", "A > B = C = D") == Share(4, 6)

    def test_the_order_on_the_screen_does_not_matter(self, expert: Expert) -> None:
        comparison = make_comparison(3)
        answer(expert, comparison, "A > B > C", shown="ABC")
        answer(expert, comparison, "A > B > C", shown="CAB", kind=Kind.REPEAT)
        assert record_of(expert).consistency == Share(3, 3)

    def test_a_repeat_that_ranks_nothing_has_no_pairs(self, expert: Expert) -> None:
        assert asked_again(expert, "A > B > C > D", "cannot_rank") == Share(0, 0)

    def test_repeats_are_counted_apart_from_their_pairs(self, expert: Expert) -> None:
        asked_again(expert, "A > B > C > D", "A > B > C > D")
        asked_again(expert, "A > B > C > D", "B > A > C > D")
        found = record_of(expert)
        assert (found.repeats, found.consistency) == (2, Share(11, 12))

    def test_another_experts_answer_is_no_first_time(self, expert: Expert) -> None:
        comparison = make_comparison(4)
        answer(make_expert(), comparison, "A > B > C > D")
        answer(expert, comparison, "A > B > C > D", kind=Kind.REPEAT)
        assert record_of(expert).consistency == Share()


class TestGold:
    @pytest.mark.parametrize(
        ("order", "right"), [("A > B > C", 1), ("A > B = C", 1), ("A = B > C", 0), ("B > A > C", 0), ("tie", 0)]
    )
    def test_right_is_the_known_best_story_alone(self, expert: Expert, order: str, right: int) -> None:
        answer(expert, golden("A").comparison, order, kind=Kind.GOLD)
        assert record_of(expert).gold == Share(right, 1)

    def test_whoever_made_it_known_is_not_measured_by_it(self, expert: Expert) -> None:
        answer(expert, golden("A").comparison, "A > B > C")
        assert record_of(expert).gold == Share()

    def test_a_retired_gold_is_held_against_nobody(self, expert: Expert) -> None:
        gold = golden("A")
        answer(expert, gold.comparison, "B > A > C", kind=Kind.GOLD)
        retire_gold(gold)
        assert record_of(expert).gold == Share()


class TestAgreement:
    def test_every_other_persons_vote_on_two_stories_counts(self, expert: Expert) -> None:
        comparison = make_comparison(2)
        answer(expert, comparison, "A > B")
        answer(make_expert(), comparison, "A > B")
        answer(make_expert(), comparison, "B > A")
        assert record_of(expert).agreement == Share(1, 2)

    def test_ties_are_left_out(self, expert: Expert) -> None:
        comparison = make_comparison(3)
        answer(expert, comparison, "A > B = C")
        answer(make_expert(), comparison, "A = B > C")
        assert record_of(expert).agreement == Share(1, 1)

    def test_nobody_agrees_with_themselves(self, expert: Expert) -> None:
        comparison = make_comparison(2)
        answer(expert, comparison, "A > B")
        answer(expert, comparison, "A > B", kind=Kind.REPEAT)
        assert record_of(expert).agreement == Share()

    def test_people_are_measured_by_people_alone(self, expert: Expert) -> None:
        comparison = make_comparison(2)
        answer(expert, comparison, "A > B")
        answer(make_expert(simulated=True), comparison, "A > B")
        assert record_of(expert).agreement == Share()

    def test_the_record_of_one_is_that_among_all(self, expert: Expert) -> None:
        for order in ("A > B > C", "C > A = B"):
            comparison = make_comparison(3)
            for other in (expert, make_expert(), make_expert()):
                answer(other, comparison, order if other == expert else "B > A > C")
        assert [found for found in expert_records() if found.expert == expert] == [record_of(expert)]

    def test_chance_answers_give_what_a_plain_reckoning_gives(self) -> None:
        chance = random.Random(3)
        experts = [make_expert() for _ in range(4)]
        for comparison in [make_comparison(4) for _ in range(6)]:
            for expert in chance.sample(experts, 3):
                order = "".join(f"{x} {chance.choice('>=')} " for x in chance.sample("ABCD", 4))[:-2]
                answer(expert, comparison, order if ">" in order else "tie")
        assert {r.expert.pk: r.agreement for r in expert_records(experts)} == {e.pk: plainly(e) for e in experts}


def plainly(expert: Expert) -> Share:
    """Agreement with others, counted one vote after the other."""
    hits = n = 0
    for comparison in Comparison.objects.all():
        judgements = Judgement.objects.filter(assignment__comparison=comparison)
        mine = judgements.filter(assignment__expert=expert).first()
        for other in judgements.exclude(assignment__expert=expert) if mine else ():
            ranks, theirs = ({r.story_id: r.rank for r in j.ranks.all()} for j in (mine, other))
            for one, two in combinations(ranks, 2):
                if ranks[one] != ranks[two] and theirs[one] != theirs[two]:
                    n += 1
                    hits += (ranks[one] < ranks[two]) == (theirs[one] < theirs[two])
    return Share(hits, n)


class TestFirstShown:
    def test_it_is_the_place_on_the_screen_and_not_the_rank(self, expert: Expert) -> None:
        answer(expert, make_comparison(3), "C > A > B", shown="CAB")
        answer(expert, make_comparison(3), "C > A > B", shown="ABC")
        assert record_of(expert).first_shown == Share(1, 2)

    def test_an_answer_without_a_single_best_story_says_nothing_of_it(self, expert: Expert) -> None:
        answer(expert, make_comparison(3), "A = B > C", shown="ABC")
        answer(expert, make_comparison(3), "tie", shown="ABC")
        assert record_of(expert).first_shown == Share()

    def test_chance_depends_on_how_many_stories_there_were(self, expert: Expert) -> None:
        answer(expert, make_comparison(2), "A > B")
        answer(expert, make_comparison(4), "A > B > C > D")
        found = record_of(expert)
        assert found.places.expected == [1 / 2 + 1 / 4, 1 / 2 + 1 / 4, 1 / 4, 1 / 4]
        assert found.percent_by_chance == 38

    def test_who_leans_to_a_place_is_named(self, expert: Expert) -> None:
        for _ in range(14):
            answer(expert, make_comparison(2), "A > B", shown="AB")
        answer(make_expert(), make_comparison(2), "A > B", shown="AB")
        assert {found.expert: found.leans for found in expert_records()}[expert]
        assert sum(found.leans for found in expert_records()) == 1


@pytest.mark.parametrize(("n", "enough"), [(0, False), (4, False), (5, True)])
def test_four_answers_are_not_enough_for_a_percentage(n: int, enough: bool) -> None:
    assert Share(n, n).enough is enough


def test_a_share_of_nothing_is_nothing() -> None:
    assert Share().percent == 0


def test_an_undone_answer_leaves_no_trace_in_the_record(expert: Expert) -> None:
    from annotate.judgements import undo_judgement

    judgement = answer(expert, make_comparison(), "A > B > C")
    Assignment.objects.update(opened_at=timezone.now() - timedelta(minutes=1))
    undo_judgement(assignment=judgement.assignment)
    assert record_of(expert) == record(expert)


@pytest.mark.parametrize(("first", "second"), list(product(["A > B", "B > A", "tie"], repeat=2)))
def test_a_pair_agrees_if_and_only_if_it_is_answered_alike(expert: Expert, first: str, second: str) -> None:
    comparison = make_comparison(2)
    answer(expert, comparison, first)
    answer(expert, comparison, second, kind=Kind.REPEAT)
    assert record_of(expert).consistency == Share(int(first == second), 1)
