"""Comparisons whose answer is known."""

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import User
from django.utils import timezone

from annotate.gold import Candidate, NoGold, gold_candidates, make_gold, retire_gold
from annotate.models import Comparison, Expert, Gold, Kind
from annotate.queue import assign, shown_order
from tests.annotate.answering import answer, story
from tests.factories import make_comparison, make_evaluation, make_expert, make_policy

pytestmark = pytest.mark.django_db


@pytest.fixture
def boss() -> User:
    return get_user_model().objects.create_user("boss", is_staff=True)


@pytest.fixture
def known() -> Comparison:
    return judged("A > B > C", "A > B > C")


def judged(*orders: str, stories: int = 3) -> Comparison:
    comparison = make_comparison(stories)
    for order in orders:
        answer(make_expert(), comparison, order)
    return comparison


def candidates() -> list[int]:
    return [one.comparison for one in gold_candidates()]


class TestCandidates:
    def test_all_name_the_same_best_and_the_same_worst(self, known: Comparison) -> None:
        best, worst = story(known, "A").pk, story(known, "C").pk
        assert gold_candidates() == [Candidate(known.pk, best, worst, judgements=2, simulated=0)]

    def test_the_middle_may_differ(self) -> None:
        comparison = judged("A > B > C > D", "A > C > B > D", "A > B = C > D", stories=4)
        assert candidates() == [comparison.pk]

    @pytest.mark.parametrize(
        "orders",
        [
            ("A > B > C",),
            ("A > B > C", "B > A > C"),
            ("A > B > C", "A > C > B"),
            ("A > B > C", "A = B > C"),
            ("A > B > C", "A > B = C"),
            ("A > B > C", "A > B > C", "tie"),
            ("A > B > C", "A > B > C", "cannot_rank"),
            ("tie", "tie"),
        ],
    )
    def test_whatever_leaves_a_doubt_is_none(self, orders: tuple[str, ...]) -> None:
        judged(*orders)
        assert candidates() == []

    def test_a_withdrawn_story_makes_it_none(self, known: Comparison) -> None:
        known.stories.filter(pk=story(known, "B").pk).update(withdrawn_at=timezone.now())
        assert candidates() == []

    def test_one_expert_who_answers_alike_twice_is_not_two(self, expert: Expert) -> None:
        comparison = make_comparison(3)
        answer(expert, comparison, "A > B > C")
        answer(expert, comparison, "A > B > C", kind=Kind.REPEAT)
        assert candidates() == []

    def test_two_policies_are_never_gold(self) -> None:
        comparison = make_evaluation(make_policy(), make_policy())
        for expert in (make_expert(), make_expert()):
            answer(expert, comparison, "A > B")
        assert candidates() == []

    def test_simulated_experts_are_told_apart(self, known: Comparison) -> None:
        answer(make_expert(simulated=True), known, "A > B > C")
        (one,) = gold_candidates()
        assert (one.judgements, one.simulated) == (3, 1)

    def test_what_most_people_agree_on_comes_first(self, known: Comparison) -> None:
        more = judged("A > B > C", "A > B > C", "A > B > C")
        played = make_comparison(3)
        for _ in range(4):
            answer(make_expert(simulated=True), played, "A > B > C")
        assert candidates() == [more.pk, known.pk, played.pk]

    def test_there_are_no_more_than_asked_for(self, known: Comparison) -> None:
        judged("A > B", "A > B", stories=2)
        assert len(gold_candidates(limit=1)) == 1

    def test_gold_is_a_candidate_no_more(self, known: Comparison, boss: User) -> None:
        retire_gold(make_gold(comparison=known, by=boss))
        assert candidates() == []


class TestMakeGold:
    def test_it_keeps_the_best_the_worst_and_who_made_it(self, known: Comparison, boss: User) -> None:
        gold = make_gold(comparison=known, by=boss)
        assert (gold.best, gold.worst, gold.made_by) == (story(known, "A"), story(known, "C"), boss)

    def test_twice_is_one_gold_and_a_refusal(self, known: Comparison, boss: User) -> None:
        make_gold(comparison=known, by=boss)
        with pytest.raises(NoGold):
            make_gold(comparison=known, by=boss)
        assert Gold.objects.count() == 1

    def test_without_agreement_it_is_refused(self, boss: User) -> None:
        with pytest.raises(NoGold, match="Not all who judged"):
            make_gold(comparison=judged("A > B > C", "C > B > A"), by=boss)

    def test_another_comparisons_agreement_is_not_enough(self, known: Comparison, boss: User) -> None:
        with pytest.raises(NoGold):
            make_gold(comparison=make_comparison(), by=boss)

    def test_a_known_answer_given_silently_does_not_change_what_is_known(self, known: Comparison, boss: User) -> None:
        retire_gold(make_gold(comparison=known, by=boss))
        answer(make_expert(), known, "C > B > A", kind=Kind.GOLD)
        assert make_gold(comparison=known, by=boss).best == story(known, "A")


class TestRetire:
    def test_it_is_kept_and_used_no_more(self, known: Comparison, boss: User) -> None:
        assert retire_gold(make_gold(comparison=known, by=boss))
        assert Gold.objects.get().retired_at

    def test_the_second_time_says_so(self, known: Comparison, boss: User) -> None:
        gold = make_gold(comparison=known, by=boss)
        retire_gold(gold)
        assert not retire_gold(gold)

    def test_it_can_be_used_again(self, known: Comparison, boss: User) -> None:
        retire_gold(make_gold(comparison=known, by=boss))
        make_gold(comparison=known, by=boss)
        assert Gold.objects.get().retired_at is None

    def test_whoever_has_it_before_them_may_finish(self, known: Comparison, expert: Expert, boss: User) -> None:
        gold = make_gold(comparison=known, by=boss)
        given = assign(known, expert, kind=Kind.GOLD, shown=shown_order(expert, known))
        retire_gold(gold)
        assert list(expert.assignments.unanswered()) == [given]
