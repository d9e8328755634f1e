"""Strong disagreements, and who may decide them."""

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import User
from django.utils import timezone

from annotate.adjudication import CannotAdjudicate, adjudicate, adjudicators, disagreements
from annotate.comparisons import close_comparisons
from annotate.models import Comparison, Expert, Kind
from annotate.queue import next_assignment, skip_assignment
from tests.annotate.answering import answer, story
from tests.factories import make_comparison, make_evaluation, make_expert, make_policy, make_prompt

pytestmark = pytest.mark.django_db


@pytest.fixture
def boss() -> User:
    return get_user_model().objects.create_user("boss", is_staff=True)


@pytest.fixture
def disputed() -> Comparison:
    return judged("A > B > C", "C > B > A")


def judged(*orders: str, stories: int = 3) -> Comparison:
    comparison = make_comparison(stories)
    for order in orders:
        answer(make_expert(), comparison, order)
    return comparison


def found(limit: int | None = 50) -> list[int]:
    return [one.comparison for one in disagreements(limit)]


class TestDisagreements:
    def test_opposite_orders_are_one(self, disputed: Comparison) -> None:
        (one,) = disagreements()
        assert (one.comparison, one.agreement, one.opposed) == (disputed.pk, 0.0, True)

    def test_the_same_order_is_none(self) -> None:
        judged("A > B > C", "A > B > C")
        assert found() == []

    def test_one_expert_alone_does_not_disagree(self) -> None:
        judged("A > B > C")
        assert found() == []

    def test_agreement_is_of_all_two_experts_on_all_two_stories(self) -> None:
        # A before B: two of three, one pair of experts agrees of three; A before C, B before C: all three
        judged("A > B > C", "A > B > C", "B > A > C")
        judged("A > B > C", "B > C > A", "C > A > B")
        (one,) = disagreements()
        assert one.agreement == pytest.approx(1 / 3)
        assert one.percent == 33

    def test_a_best_story_that_is_anothers_worst_is_one_however_much_else_agrees(self) -> None:
        comparison = judged("A > B > C > D > E", "B > C > D > E > A", stories=5)
        (one,) = disagreements()
        assert (one.comparison, one.agreement, one.opposed) == (comparison.pk, 0.6, True)

    def test_a_best_story_that_shares_anothers_last_place_is_none(self) -> None:
        judged("A > B > C", "B > A = C")
        judged("A = B > C", "B > C > A")
        assert all(not one.opposed for one in disagreements())

    def test_ties_are_no_disagreement(self) -> None:
        judged("A > B > C", "tie", "all_bad")
        assert found() == []

    def test_an_answer_that_ranks_nothing_is_no_disagreement(self) -> None:
        judged("A > B > C", "cannot_rank")
        assert found() == []

    def test_silent_repeats_do_not_count(self, expert: Expert) -> None:
        comparison = make_comparison(3)
        answer(expert, comparison, "A > B > C")
        answer(expert, comparison, "C > B > A", kind=Kind.REPEAT)
        assert found() == []

    def test_a_closed_comparison_is_still_one(self, disputed: Comparison) -> None:
        close_comparisons([disputed])
        assert found() == [disputed.pk]

    def test_two_policies_that_divide_opinion_are_none(self) -> None:
        comparison = make_evaluation(make_policy(), make_policy())
        answer(make_expert(), comparison, "A > B")
        answer(make_expert(), comparison, "B > A")
        assert found() == []

    def test_a_withdrawn_story_does_not_count(self) -> None:
        comparison = judged("A > B > C", "B > C > A")
        withdrawn = story(comparison, "A")
        withdrawn.withdrawn_at = timezone.now()
        withdrawn.save()
        assert found() == []

    def test_the_worst_comes_first(self) -> None:
        mild = judged("A > B > C", "C > A > B")
        strong = judged("A > B > C", "C > B > A")
        assert found() == [strong.pk, mild.pk]

    def test_there_are_no_more_than_asked_for(self) -> None:
        judged("A > B > C", "C > B > A")
        judged("A > B > C", "C > B > A")
        assert len(found(limit=1)) == 1
        assert len(found(limit=None)) == 2

    def test_it_is_gone_once_an_adjudicator_has_it(self, disputed: Comparison, expert: Expert, boss: User) -> None:
        adjudicate(comparison=disputed, expert=expert, by=boss)
        assert found() == []

    def test_it_is_back_if_the_adjudicator_skips_it(self, disputed: Comparison, expert: Expert, boss: User) -> None:
        skip_assignment(assignment=adjudicate(comparison=disputed, expert=expert, by=boss))
        assert found() == [disputed.pk]


class TestAdjudicate:
    def test_the_adjudicator_gets_it_as_their_next(self, disputed: Comparison, expert: Expert, boss: User) -> None:
        make_comparison(3)
        given = adjudicate(comparison=disputed, expert=expert, by=boss)
        assert next_assignment(expert=expert) == given
        assert (given.kind, given.comparison) == (Kind.ADJUDICATION, disputed)

    def test_it_takes_nobodys_place(self, disputed: Comparison, expert: Expert, boss: User) -> None:
        free = disputed.places.free().count()
        adjudicate(comparison=disputed, expert=expert, by=boss)
        assert disputed.places.free().count() == free

    def test_a_closed_comparison_can_be_decided(self, disputed: Comparison, expert: Expert, boss: User) -> None:
        close_comparisons([disputed])
        given = adjudicate(comparison=disputed, expert=expert, by=boss)
        assert next_assignment(expert=expert) == given

    def test_a_withdrawn_story_is_not_shown(self, disputed: Comparison, expert: Expert, boss: User) -> None:
        withdrawn = story(disputed, "B")
        withdrawn.withdrawn_at = timezone.now()
        withdrawn.save()
        assert withdrawn.pk not in adjudicate(comparison=disputed, expert=expert, by=boss).shown

    def test_after_a_skip_another_may_decide(self, disputed: Comparison, expert: Expert, boss: User) -> None:
        skip_assignment(assignment=adjudicate(comparison=disputed, expert=expert, by=boss))
        assert adjudicate(comparison=disputed, expert=make_expert(), by=boss)


class TestRefused:
    def refused(self, comparison: Comparison, expert: Expert, by: User) -> str:
        with pytest.raises(CannotAdjudicate) as refusal:
            adjudicate(comparison=comparison, expert=expert, by=by)
        assert isinstance(refusal.value, ValueError)
        return str(refusal.value)

    def test_a_second_adjudicator(self, disputed: Comparison, expert: Expert, boss: User) -> None:
        adjudicate(comparison=disputed, expert=expert, by=boss)
        assert "an adjudicator already" in self.refused(disputed, make_expert(), boss)

    def test_whoever_has_judged_it(self, disputed: Comparison, boss: User) -> None:
        judge = disputed.assignments.first().expert
        assert "has been shown these stories" in self.refused(disputed, judge, boss)

    def test_whoever_has_it_before_them(self, disputed: Comparison, expert: Expert, boss: User) -> None:
        assert next_assignment(expert=expert).comparison == disputed
        assert "has been shown these stories" in self.refused(disputed, expert, boss)

    def test_a_simulated_expert(self, disputed: Comparison, boss: User) -> None:
        assert "a simulated expert cannot decide" in self.refused(disputed, make_expert(simulated=True), boss)

    def test_a_person_whose_account_is_closed(self, disputed: Comparison, expert: Expert, boss: User) -> None:
        expert.user.is_active = False
        expert.user.save()
        assert "account is active" in self.refused(disputed, expert, boss)

    def test_an_expert_who_is_no_adjudicator(self, disputed: Comparison, expert: Expert, boss: User) -> None:
        expert.adjudicates = False
        expert.save()
        assert "is no adjudicator" in self.refused(disputed, expert, boss)
        assert expert not in adjudicators([disputed], by=boss)[disputed.pk]

    def test_whoever_does_not_read_the_language(self, disputed: Comparison, expert: Expert, boss: User) -> None:
        expert.languages = ["zh"]
        expert.save()
        assert "does not read the language" in self.refused(disputed, expert, boss)

    def test_the_admin_who_has_seen_the_answers(self, disputed: Comparison, expert: Expert) -> None:
        assert "You have seen the others' answers" in self.refused(disputed, expert, expert.user)

    def test_a_comparison_of_two_policies(self, expert: Expert, boss: User) -> None:
        comparison = make_evaluation(make_policy(), make_policy())
        assert "one policy's stories" in self.refused(comparison, expert, boss)

    def test_a_comparison_with_one_story_left(self, expert: Expert, boss: User) -> None:
        comparison = judged("A > B", "B > A", stories=2)
        comparison.stories.filter(pk=story(comparison, "A").pk).update(withdrawn_at=timezone.now())
        assert "Fewer than two stories" in self.refused(comparison, expert, boss)


class TestAdjudicators:
    def test_they_are_those_whom_adjudicate_takes(self, disputed: Comparison, expert: Expert, boss: User) -> None:
        make_expert(simulated=True)
        chinese = make_comparison(3, prompt=make_prompt("写一个故事。", language="zh"))
        english = make_expert()
        english.languages = ["en"]
        english.save()
        judges = {assignment.expert for assignment in disputed.assignments.all()}
        able = adjudicators([disputed, chinese], by=boss)
        assert set(able[disputed.pk]) == {expert, english}
        assert set(able[chinese.pk]) == {expert, *judges}

    def test_the_admin_who_asks_is_not_among_them(self, disputed: Comparison, expert: Expert) -> None:
        assert adjudicators([disputed], by=expert.user) == {disputed.pk: []}
