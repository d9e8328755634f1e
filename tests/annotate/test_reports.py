"""Reports: an unsafe story leaves at once, and an admin's decision stands."""

from uuid import uuid4

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import User
from django.db import IntegrityError, transaction
from django.utils import timezone

from annotate.comparisons import close_comparisons
from annotate.judgements import Details, record_judgement, undo_judgement
from annotate.models import Assignment, Comparison, Expert, Place, Report
from annotate.models.reports import Outcome, Subject
from annotate.pages import PageState
from annotate.pairs import preference_judgements, preference_pairs
from annotate.queue import next_assignment
from annotate.reports import settle
from generation.models import Story
from tests.annotate.answering import answer, story
from tests.factories import make_comparison, make_expert, make_policy

pytestmark = pytest.mark.django_db


@pytest.fixture
def boss() -> User:
    return get_user_model().objects.create_user("boss", is_staff=True)


def unsafe(comparison: Comparison, *letters: str, expert: Expert | None = None, reason: str = "") -> Assignment:
    """Somebody's answer that these stories are unsafe; their assignment."""
    assignment = next_assignment(expert=expert or make_expert())
    assert assignment.comparison == comparison
    named = frozenset(assignment.shown.index(story(comparison, letter).pk) + 1 for letter in letters)
    record_judgement(assignment=assignment, verdict="unsafe", reason=reason, details=Details(unsafe=named))
    return assignment


def cannot_rank(comparison: Comparison, reason: str = "") -> Assignment:
    assignment = next_assignment(expert=make_expert())
    assert assignment.comparison == comparison
    record_judgement(assignment=assignment, verdict="cannot_rank", reason=reason)
    return assignment


def edit(assignment: Assignment, verdict: str, **given: object) -> None:
    current = Assignment.objects.get(pk=assignment.pk)
    page = PageState(key=uuid4(), version=current.version)
    record_judgement(assignment=current, verdict=verdict, page=page, **given)


def queued(comparison: Comparison) -> bool:
    return Place.objects.wanted().filter(comparison=comparison).exists()


def withdrawn(comparison: Comparison) -> set[str]:
    return {x for x in "ABCDE"[: comparison.stories.count()] if story(comparison, x).withdrawn_at}


def exported(comparison: Comparison) -> set[int]:
    """Ids of the stories that an export of now would hold."""
    pairs = preference_pairs(preference_judgements(policy=comparison.policy))
    return {found.pk for pair in pairs for found in (pair.chosen, pair.rejected)}


class TestUnsafe:
    def test_the_report_names_the_story_the_expert_and_the_note(self, expert: Expert) -> None:
        comparison = make_comparison(3)
        assignment = unsafe(comparison, "B", expert=expert, reason="a knife")
        report = Report.objects.get()
        assert (report.story, report.subject, report.note) == (story(comparison, "B"), Subject.UNSAFE, "a knife")
        assert (report.assignment, report.outcome) == (assignment, "")

    def test_each_unsafe_story_has_a_report_of_its_own(self) -> None:
        comparison = make_comparison(4)
        unsafe(comparison, "A", "C")
        assert {report.story for report in Report.objects.all()} == {story(comparison, x) for x in "AC"}

    def test_the_story_is_in_no_pair_any_more(self) -> None:
        comparison = make_comparison(3)
        answer(make_expert(), comparison, "A > B > C")
        unsafe(comparison, "A")
        assert exported(comparison) == {story(comparison, x).pk for x in "BC"}

    def test_a_comparison_of_four_goes_on_with_three(self) -> None:
        comparison = make_comparison(4)
        unsafe(comparison, "A")
        following = next_assignment(expert=make_expert())
        assert following.comparison == comparison
        assert set(following.shown) == {story(comparison, x).pk for x in "BCD"}

    def test_a_comparison_of_two_leaves_the_queue(self) -> None:
        comparison = make_comparison(2)
        unsafe(comparison, "A")
        assert not queued(comparison)
        assert next_assignment(expert=make_expert()) is None

    def test_whoever_has_the_last_two_before_them_is_given_other_work(self, expert: Expert) -> None:
        comparison = make_comparison(2)
        held = next_assignment(expert=expert)
        unsafe(comparison, "A")
        other = make_comparison(2)
        assert next_assignment(expert=expert).comparison == other != held.comparison

    def test_the_place_is_left_to_others(self, settings) -> None:
        settings.PLACES_PER_COMPARISON = 1
        comparison = make_comparison(4)
        unsafe(comparison, "A")
        assert next_assignment(expert=make_expert()).comparison == comparison

    def test_new_comparisons_leave_the_story_out(self) -> None:
        comparison = make_comparison(3)
        unsafe(comparison, "A")
        assert story(comparison, "A") not in Story.objects.presentable()

    def test_a_closed_comparison_does_not_come_back_with_its_stories(self, boss: User) -> None:
        comparison = make_comparison(3)
        unsafe(comparison, "A")
        close_comparisons([comparison])
        settle(report=Report.objects.get(), by=boss, upheld=False)
        assert not queued(comparison)


class TestSettle:
    def test_dismissal_brings_everything_back(self, boss: User) -> None:
        comparison = make_comparison(2)
        answer(make_expert(), comparison, "A > B")
        unsafe(comparison, "A")
        assert settle(report=Report.objects.get(), by=boss, upheld=False)
        assert (withdrawn(comparison), queued(comparison)) == (set(), True)
        assert exported(comparison) == {story(comparison, x).pk for x in "AB"}

    def test_upheld_the_story_stays_out(self, boss: User) -> None:
        comparison = make_comparison(2)
        unsafe(comparison, "A")
        settle(report=Report.objects.get(), by=boss, upheld=True)
        assert (withdrawn(comparison), queued(comparison)) == ({"A"}, False)

    def test_who_settled_it_and_when_are_kept(self, boss: User) -> None:
        unsafe(make_comparison(2), "A")
        settle(report=Report.objects.get(), by=boss, upheld=True)
        report = Report.objects.get()
        assert (report.outcome, report.settled_by) == (Outcome.UPHELD, boss)
        assert report.settled_at

    def test_the_first_decision_stands(self, boss: User) -> None:
        comparison = make_comparison(2)
        unsafe(comparison, "A")
        report = Report.objects.get()
        settle(report=report, by=boss, upheld=True)
        assert not settle(report=report, by=boss, upheld=False)
        assert withdrawn(comparison) == {"A"}

    def test_of_two_reports_on_a_story_one_dismissed_leaves_it_out(self, boss: User) -> None:
        comparison = make_comparison(4)
        held = next_assignment(expert=make_expert())
        unsafe(comparison, "A")
        position = held.shown.index(story(comparison, "A").pk) + 1
        record_judgement(assignment=held, verdict="unsafe", details=Details(unsafe=frozenset({position})))
        first, second = Report.objects.order_by("pk")
        settle(report=first, by=boss, upheld=False)
        assert withdrawn(comparison) == {"A"}
        settle(report=second, by=boss, upheld=False)
        assert withdrawn(comparison) == set()

    def test_cannot_rank_upheld_closes_the_comparison(self, boss: User) -> None:
        comparison = make_comparison(3)
        cannot_rank(comparison)
        settle(report=Report.objects.get(), by=boss, upheld=True)
        assert Comparison.objects.get().closed_at
        assert not queued(comparison)

    def test_cannot_rank_dismissed_leaves_the_comparison_open(self, boss: User) -> None:
        comparison = make_comparison(3)
        cannot_rank(comparison)
        settle(report=Report.objects.get(), by=boss, upheld=False)
        assert queued(comparison)

    def test_cannot_rank_leaves_the_queue_as_it_is_until_then(self) -> None:
        comparison = make_comparison(3)
        cannot_rank(comparison, reason="all in French")
        assert queued(comparison)
        assert Report.objects.get().note == "all in French"


class TestTakenBack:
    def test_undoing_the_answer_takes_the_report_back_and_the_story_in(self) -> None:
        comparison = make_comparison(2)
        undo_judgement(assignment=unsafe(comparison, "A"))
        assert Report.objects.get().outcome == Outcome.TAKEN_BACK
        assert (withdrawn(comparison), queued(comparison)) == (set(), True)

    def test_undoing_leaves_a_settled_report_as_it_is(self, boss: User) -> None:
        comparison = make_comparison(3)
        assignment = unsafe(comparison, "A")
        settle(report=Report.objects.get(), by=boss, upheld=True)
        undo_judgement(assignment=assignment)
        assert Report.objects.get().outcome == Outcome.UPHELD
        assert withdrawn(comparison) == {"A"}

    def test_an_edit_to_a_ranking_takes_the_report_back(self) -> None:
        comparison = make_comparison(3)
        edit(unsafe(comparison, "A"), "tie")
        assert Report.objects.get().outcome == Outcome.TAKEN_BACK
        assert withdrawn(comparison) == set()

    def test_an_edit_that_names_another_story_changes_which_is_out(self) -> None:
        comparison = make_comparison(3)
        assignment = unsafe(comparison, "A")
        position = assignment.shown.index(story(comparison, "B").pk) + 1
        edit(assignment, "unsafe", details=Details(unsafe=frozenset({position})))
        assert withdrawn(comparison) == {"B"}

    def test_an_edit_that_names_the_same_story_is_the_same_report(self) -> None:
        comparison = make_comparison(3)
        assignment = unsafe(comparison, "A")
        position = assignment.shown.index(story(comparison, "A").pk) + 1
        edit(assignment, "unsafe", details=Details(unsafe=frozenset({position})))
        assert [report.outcome for report in Report.objects.all()] == [""]

    def test_an_edit_after_a_dismissal_reports_anew(self, boss: User) -> None:
        comparison = make_comparison(3)
        assignment = unsafe(comparison, "A")
        settle(report=Report.objects.get(), by=boss, upheld=False)
        position = assignment.shown.index(story(comparison, "A").pk) + 1
        edit(assignment, "unsafe", details=Details(unsafe=frozenset({position})))
        assert Report.objects.unsettled().count() == 1
        assert withdrawn(comparison) == {"A"}

    def test_taking_back_leaves_a_story_out_that_another_reported(self) -> None:
        comparison = make_comparison(4)
        held = next_assignment(expert=make_expert())
        undone = unsafe(comparison, "A")
        position = held.shown.index(story(comparison, "A").pk) + 1
        record_judgement(assignment=held, verdict="unsafe", details=Details(unsafe=frozenset({position})))
        undo_judgement(assignment=undone)
        assert withdrawn(comparison) == {"A"}


class TestConstraints:
    @pytest.fixture
    def assignment(self, expert: Expert) -> Assignment:
        make_comparison(2, policy=make_policy())
        return next_assignment(expert=expert)

    def broken(self, name: str, assignment: Assignment, **fields: object) -> None:
        with pytest.raises(IntegrityError, match=name), transaction.atomic():
            Report.objects.create(assignment=assignment, **fields)

    def test_an_unsafe_report_names_its_story(self, assignment: Assignment) -> None:
        self.broken("report_names_the_unsafe_story", assignment, subject=Subject.UNSAFE)

    def test_a_report_of_all_names_no_story(self, assignment: Assignment) -> None:
        one = assignment.stories()[0]
        self.broken("report_names_the_unsafe_story", assignment, subject=Subject.CANNOT_RANK, story=one)

    def test_an_outcome_has_its_time(self, assignment: Assignment) -> None:
        fields = {"subject": Subject.CANNOT_RANK, "outcome": Outcome.TAKEN_BACK}
        self.broken("report_settled_at_with_outcome", assignment, **fields)

    def test_a_time_has_its_outcome(self, assignment: Assignment) -> None:
        fields = {"subject": Subject.CANNOT_RANK, "settled_at": timezone.now()}
        self.broken("report_settled_at_with_outcome", assignment, **fields)

    @pytest.mark.parametrize("outcome", [Outcome.UPHELD, Outcome.DISMISSED])
    def test_a_decision_has_somebody_who_made_it(self, assignment: Assignment, outcome: str) -> None:
        fields = {"subject": Subject.CANNOT_RANK, "outcome": outcome, "settled_at": timezone.now()}
        self.broken("report_settled_by_somebody", assignment, **fields)
