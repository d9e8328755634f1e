"""What is entered is kept before it is submitted, and two tabs do not overwrite each other."""

from collections.abc import Callable
from uuid import UUID, uuid4

import pytest
from django.test import Client
from django.utils import timezone

from annotate.comparisons import close_comparisons
from annotate.judgements import record_judgement
from annotate.models import Assignment, Draft, Expert, Judgement, Place
from annotate.pages import Conflict, PageState, check_page, save_draft
from annotate.queue import next_assignment, skip_assignment
from tests.annotate.browsing import address, checked, html, keep, open_tab, page_of, post, submit, tab
from tests.factories import make_comparison, make_expert
from tests.threads import at_once

pytestmark = pytest.mark.django_db
FIRST = {"best": ["1"]}
SECOND = {"best": ["2"], "reason": ["Kinder."]}
ANOTHER = UUID(int=1)  # no page's; not drawn, as test names must be the same in each process


@pytest.fixture
def assignment(expert: Expert) -> Assignment:
    make_comparison(3)
    return next_assignment(expert=expert)


def page(version: int = 0) -> PageState:
    """A showing of the page that has read `version`."""
    return PageState(uuid4(), version)


def save(assignment: Assignment, fields: dict[str, list[str]], state: PageState) -> int:
    return save_draft(assignment=assignment, fields=fields, page=state)


def kept(assignment: Assignment) -> dict[str, list[str]] | None:
    draft = Draft.objects.filter(assignment=assignment).first()
    return draft.fields if draft else None


class TestConflicts:
    def test_a_page_that_has_read_the_newest_version_may_write(self) -> None:
        check_page(Assignment(version=4, page=uuid4()), page(4))

    def test_a_page_that_has_read_less_may_not(self) -> None:
        with pytest.raises(Conflict):
            check_page(Assignment(version=4, page=uuid4()), page(3))

    def test_the_page_that_wrote_last_may_always_write_again(self) -> None:
        last = page(3)
        check_page(Assignment(version=4, page=last.key), last)

    def test_a_conflict_carries_the_answer_as_it_stands(self) -> None:
        current = Assignment(version=4)
        with pytest.raises(Conflict) as raised:
            check_page(current, page(0))
        assert raised.value.assignment is current


class TestSaving:
    def test_a_draft_is_kept_as_it_was_sent(self, assignment: Assignment) -> None:
        save(assignment, SECOND, page())
        assert kept(assignment) == SECOND

    def test_a_later_draft_takes_the_earlier_ones_stead(self, assignment: Assignment) -> None:
        mine = page()
        save(assignment, FIRST, mine)
        save(assignment, SECOND, mine)
        assert kept(assignment) == SECOND

    def test_each_draft_is_a_version_of_its_own(self, assignment: Assignment) -> None:
        mine = page()
        assert [save(assignment, FIRST, mine) for _ in range(3)] == [1, 2, 3]

    def test_the_same_page_need_not_know_its_newest_version(self, assignment: Assignment) -> None:
        mine = page(0)
        save(assignment, FIRST, mine)
        assert save(assignment, SECOND, mine) == 2

    def test_a_tab_that_has_not_read_the_others_draft_does_not_overwrite_it(self, assignment: Assignment) -> None:
        save(assignment, FIRST, page())
        with pytest.raises(Conflict) as raised:
            save(assignment, SECOND, page())
        assert (kept(assignment), raised.value.assignment.version) == (FIRST, 1)

    def test_a_tab_that_was_opened_later_goes_on_with_the_draft(self, assignment: Assignment) -> None:
        save(assignment, FIRST, page())
        save(assignment, SECOND, page(1))
        assert kept(assignment) == SECOND

    def test_the_first_tab_does_not_win_it_back_silently(self, assignment: Assignment) -> None:
        mine, other = page(), page(1)
        save(assignment, FIRST, mine)
        save(assignment, SECOND, other)
        with pytest.raises(Conflict):
            save(assignment, FIRST, PageState(mine.key, 1))

    def test_a_draft_changes_no_judgement(self, assignment: Assignment) -> None:
        save(assignment, FIRST, page())
        assert not Judgement.objects.exists()
        assert Assignment.objects.get().answered_at is None

    def test_an_answer_ends_its_draft(self, assignment: Assignment) -> None:
        save(assignment, FIRST, page())
        record_judgement(assignment=assignment, verdict="tie")
        assert kept(assignment) is None

    def test_a_draft_that_the_same_pages_answer_has_overtaken_changes_nothing(self, assignment: Assignment) -> None:
        mine = page()
        record_judgement(assignment=assignment, verdict="tie", page=mine)
        before = Assignment.objects.values().get()
        answer = {"verdict": ["tie"], "reason": [""]}
        assert save(assignment, answer, mine) == before["version"]
        assert (kept(assignment), Assignment.objects.values().get()) == (None, before)

    def test_what_the_same_page_enters_after_a_success_that_it_never_heard_of_is_a_conflict(
        self, assignment: Assignment
    ) -> None:
        mine = page()
        record_judgement(assignment=assignment, verdict="tie", page=mine)
        with pytest.raises(Conflict):
            save(assignment, FIRST, mine)

    def test_another_tabs_draft_after_the_answer_is_a_conflict(self, assignment: Assignment) -> None:
        record_judgement(assignment=assignment, verdict="tie", page=page())
        with pytest.raises(Conflict):
            save(assignment, FIRST, page())
        assert kept(assignment) is None

    def test_an_edits_draft_leaves_the_answer_as_it_stands(self, assignment: Assignment) -> None:
        record_judgement(assignment=assignment, verdict="tie", page=page())
        save(assignment, FIRST, page(1))
        assert Judgement.objects.get().verdict == "tie"


class TestTime:
    def test_a_draft_holds_the_place_for_its_full_time_again(self, assignment: Assignment) -> None:
        Place.objects.filter(assignment=assignment).update(held_until=timezone.now())
        save(assignment, FIRST, page())
        assert Place.objects.get(assignment=assignment).held_until > timezone.now()

    def test_a_draft_survives_the_end_of_its_reservation(self, assignment: Assignment, expire: Callable) -> None:
        save(assignment, FIRST, page())
        expire(assignment)
        assert next_assignment(expert=assignment.expert) == assignment
        assert kept(assignment) == FIRST

    def test_a_draft_survives_that_somebody_else_took_the_place(
        self, settings, expert: Expert, expire: Callable
    ) -> None:
        settings.PLACES_PER_COMPARISON = 1
        make_comparison()
        mine = next_assignment(expert=expert)
        save(mine, FIRST, page())
        expire(mine)
        theirs = next_assignment(expert=make_expert())
        assert (kept(mine), Place.objects.get().assignment) == (FIRST, theirs)

    def test_a_draft_does_not_take_the_place_back_from_somebody_else(
        self, settings, expert: Expert, expire: Callable
    ) -> None:
        settings.PLACES_PER_COMPARISON = 1
        make_comparison()
        mine = next_assignment(expert=expert)
        expire(mine)
        theirs = next_assignment(expert=make_expert())
        save(mine, FIRST, page())
        assert Place.objects.get().assignment == theirs

    def test_a_draft_survives_the_end_of_its_comparison(self, judging: Client, assignment: Assignment) -> None:
        save(assignment, FIRST, page())
        close_comparisons([assignment.comparison])
        assert checked(judging.get(page_of(assignment))) == {("best", "1")}

    def test_a_draft_survives_a_skip(self, assignment: Assignment) -> None:
        save(assignment, FIRST, page())
        skip_assignment(assignment=assignment)
        assert kept(assignment) == FIRST

    def test_a_late_answer_made_of_a_draft_is_kept_as_an_extra(
        self, settings, judging: Client, expert: Expert, expire: Callable
    ) -> None:
        settings.PLACES_PER_COMPARISON = 1
        make_comparison()
        mine = next_assignment(expert=expert)
        save(mine, FIRST, page())
        expire(mine)
        record_judgement(assignment=next_assignment(expert=make_expert()), verdict="tie")
        submit(judging, mine, best=1, **open_tab(judging, mine))
        assert mine.judgement.extra


class TestView:
    def test_a_draft_is_answered_with_its_version_and_nothing_else(
        self, judging: Client, assignment: Assignment
    ) -> None:
        response = keep(judging, assignment, best=1, **open_tab(judging, assignment))
        assert (response.status_code, response.json()) == (200, {"version": 1})

    def test_the_page_opens_with_what_was_entered(self, judging: Client, assignment: Assignment) -> None:
        entered = {"best": 2, "worst": 1, "reason": "<Kinder>", "reasons_for": ["clear_structure", "good_message"]}
        more = {"criterion_structure": 3, "improved": "A fox.", "rank_1": 3, "passages": "[[1, 0, 5, true]]"}
        keep(judging, assignment, **entered, **more, seconds="12.5", **open_tab(judging, assignment))
        response = judging.get(page_of(assignment))
        found = html(response)
        assert checked(response) == {("best", "2"), ("worst", "1")}
        assert "&lt;Kinder&gt;</textarea>" in found
        assert found.count('name="reasons_for" value="clear_structure" checked') == 1
        assert 'name="criterion_structure" value="3" checked' in found
        assert ">A fox.</textarea>" in found
        assert "<option selected>3</option>" in found
        assert 'name="passages" value="[[1, 0, 5, true]]"' in found
        assert 'name="seconds" value="12.5"' in found

    def test_the_next_page_of_the_queue_opens_with_it_too(self, judging: Client, assignment: Assignment) -> None:
        keep(judging, assignment, best=3, **open_tab(judging, assignment))
        assert checked(judging.get("/judge/")) == {("best", "3")}

    def test_what_belongs_to_no_answer_is_not_kept(self, judging: Client, assignment: Assignment) -> None:
        keep(judging, assignment, best=1, worst="", csrfmiddlewaretoken="x", odd="y", **open_tab(judging, assignment))
        assert kept(assignment) == {"best": ["1"]}

    def test_a_character_that_the_database_cannot_hold_is_left_out(
        self, judging: Client, assignment: Assignment
    ) -> None:
        response = keep(judging, assignment, reason="kind\x00er", **open_tab(judging, assignment))
        assert (response.status_code, kept(assignment)) == (200, {"reason": ["kinder"]})

    def test_a_reason_that_is_too_long_to_submit_is_kept_all_the_same(
        self, judging: Client, assignment: Assignment
    ) -> None:
        keep(judging, assignment, reason="x" * 3000, **open_tab(judging, assignment))
        assert kept(assignment) == {"reason": ["x" * 3000]}

    def test_too_much_is_refused_and_the_earlier_draft_stands(self, judging: Client, assignment: Assignment) -> None:
        mine = open_tab(judging, assignment)
        keep(judging, assignment, best=1, **mine)
        response = keep(judging, assignment, improved="x" * 60_001, **mine)
        assert (response.status_code, kept(assignment)) == (422, FIRST)
        assert "60,000 characters" in response.json()["error"]

    @pytest.mark.parametrize("state", [{}, {"page": "x", "version": "0"}, {"page": ANOTHER}, {"version": "0"}], ids=str)
    def test_what_does_not_say_which_page_it_comes_from_is_refused(
        self, judging: Client, assignment: Assignment, state: dict[str, str]
    ) -> None:
        response = keep(judging, assignment, best=1, **state)
        assert (response.status_code, kept(assignment)) == (422, None)
        assert "out of date" in response.json()["error"]

    def test_another_tab_is_told_with_both_versions(self, judging: Client, assignment: Assignment) -> None:
        mine, other = (open_tab(judging, assignment) for _ in range(2))
        keep(judging, assignment, best=1, reason="theirs", **other)
        response = keep(judging, assignment, best=2, reason="mine", **mine)
        assert (response.status_code, kept(assignment)) == (409, {"best": ["1"], "reason": ["theirs"]})
        for words in ("Best: story 1", "Why: theirs", "Best: story 2", "Why: mine"):
            assert words in html(response)
        assert "<html" not in html(response)

    def test_who_keeps_their_own_version_after_that_replaces_the_others(
        self, judging: Client, assignment: Assignment
    ) -> None:
        mine, other = (open_tab(judging, assignment) for _ in range(2))
        keep(judging, assignment, best=1, **other)
        refused = html(keep(judging, assignment, best=2, **mine))
        version = refused.split('data-version="')[1].split('"')[0]
        keep(judging, assignment, best=2, page=mine["page"], version=version)
        assert kept(assignment) == {"best": ["2"]}

    def test_the_other_tabs_version_can_be_taken(self, judging: Client, assignment: Assignment) -> None:
        mine, other = (open_tab(judging, assignment) for _ in range(2))
        keep(judging, assignment, best=1, **other)
        keep(judging, assignment, best=2, **mine)
        taken = judging.get(f"/judge/{assignment.key}/edit/", follow=True)
        assert checked(taken) == {("best", "1")}
        assert tab(taken)["version"] == "1"

    def test_another_experts_draft_is_not_found(self, client: Client, assignment: Assignment) -> None:
        client.force_login(make_expert().user)
        assert keep(client, assignment, best=1, page=uuid4(), version=0).status_code == 404
        assert kept(assignment) is None

    def test_a_link_keeps_nothing(self, judging: Client, assignment: Assignment) -> None:
        assert judging.get(f"/judge/{assignment.key}/draft/").status_code == 405

    def test_undoing_a_skip_brings_the_draft_back(self, judging: Client, assignment: Assignment) -> None:
        keep(judging, assignment, best=2, **open_tab(judging, assignment))
        post(judging, "skip_comparison", assignment)
        response = post(judging, "undo", assignment, htmx=True)
        assert address(response) == f"/judge/{assignment.key}/submit/"
        assert checked(response) == {("best", "2")}


@pytest.mark.django_db(transaction=True)
def test_of_many_tabs_that_write_at_once_one_wins_and_the_others_are_told() -> None:
    make_comparison()
    assignment = next_assignment(expert=make_expert())

    def write(index: int) -> int | None:
        try:
            return save(assignment, {"best": [str(index)]}, page())
        except Conflict:
            return None

    written = at_once(6, write)
    assert sorted(version for version in written if version) == [1]
    assert kept(assignment) == {"best": [str(written.index(1))]}
