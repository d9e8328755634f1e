"""An answer is given once, can be changed and taken back, and its history only grows."""

from uuid import uuid4

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from annotate.judgements import BadAnswer, Details, last_fields, record_judgement, undo_judgement
from annotate.models import Assignment, Draft, Expert, Judgement, Place, Revision
from annotate.pages import Conflict, PageState, save_draft
from annotate.pairs import preference_judgements, preference_pairs
from annotate.queue import next_assignment, skip_assignment
from tests.annotate.browsing import HTMX, checked, html, messages_in, open_tab, page_of, post, skip, submit, tab
from tests.factories import make_comparison, make_expert

pytestmark = pytest.mark.django_db
ORDER = {1: 1, 2: 2, 3: 3}


@pytest.fixture
def assignment(expert: Expert) -> Assignment:
    make_comparison(3)
    return next_assignment(expert=expert)


def page(assignment: Assignment) -> PageState:
    """A page opened now."""
    return PageState(uuid4(), Assignment.objects.get(pk=assignment.pk).version)


def give(assignment: Assignment, verdict: str = "ranked", **given: object) -> Judgement:
    given = {"ranks": ORDER if verdict == "ranked" else None, "page": page(assignment), **given}
    return record_judgement(assignment=assignment, verdict=verdict, **given).judgement


def undo(assignment: Assignment) -> None:
    undo_judgement(assignment=assignment)


def acts(assignment: Assignment) -> list[str]:
    return list(assignment.revisions.values_list("act", flat=True))


def judged(assignment: Assignment) -> int:
    return Expert.objects.get(pk=assignment.expert_id).judged


def free_places() -> int:
    return Place.objects.free().count()


class TestHistory:
    def test_an_answer_is_the_first_line(self, assignment: Assignment) -> None:
        key = page(assignment)
        give(assignment, reason="Kind.", page=key)
        (line,) = assignment.revisions.all()
        assert (line.act, line.key, line.fields["reason"]) == ("submitted", key.key, ["Kind."])

    def test_each_act_adds_a_line_in_its_order(self, assignment: Assignment) -> None:
        give(assignment)
        give(assignment, "tie")
        undo(assignment)
        give(assignment, "all_bad")
        assert acts(assignment) == ["submitted", "edited", "undone", "submitted"]

    def test_no_line_is_ever_another_than_it_was(self, assignment: Assignment) -> None:
        seen: list[dict] = []
        for act in (lambda: give(assignment), lambda: give(assignment, "tie"), lambda: undo(assignment)):
            act()
            lines = list(assignment.revisions.values())
            assert lines[:-1] == seen
            seen = lines

    def test_a_line_holds_the_pages_fields_as_they_were_sent(self, judging: Client, assignment: Assignment) -> None:
        sent = {"best": "2", "reason": "Kind.", "reasons_for": ["clear_structure", "right_words"], "odd": "1"}
        submit(judging, assignment, **sent, **open_tab(judging, assignment))
        fields = {"verdict": ["ranked"], "best": ["2"], "reason": ["Kind."], "reasons_for": sent["reasons_for"]}
        assert assignment.revisions.get().fields == fields

    def test_the_answer_as_it_stands_is_the_last_line(self, assignment: Assignment) -> None:
        assert last_fields(assignment) == {}
        give(assignment)
        give(assignment, "all_good")
        assert last_fields(assignment)["verdict"] == ["all_good"]

    def test_a_refused_answer_leaves_no_line(self, assignment: Assignment) -> None:
        with pytest.raises(BadAnswer):
            give(assignment, ranks={})
        assert acts(assignment) == []


class TestEditing:
    def test_an_edit_is_the_same_judgement_with_other_ranks(self, assignment: Assignment) -> None:
        first = give(assignment)
        again = give(assignment, ranks={1: 3, 2: 2, 3: 1})
        assert first == again == Judgement.objects.get()
        assert [rank.rank for rank in again.ranks.all()] == [3, 2, 1]

    def test_an_edit_writes_all_details_anew(self, assignment: Assignment) -> None:
        give(assignment, reason="Kind.", details=Details(["warm"], ["boring"], {"structure": 1}, improved="Better."))
        after = give(assignment, "tie")
        assert (after.reason, after.reasons_for, after.reasons_against) == ("", [], [])
        assert not after.criterion_winners.exists()
        assert not hasattr(Judgement.objects.get(), "improvement")

    def test_an_edit_counts_no_second_judgement(self, assignment: Assignment) -> None:
        give(assignment)
        give(assignment, "tie")
        assert judged(assignment) == 1

    def test_an_edit_keeps_the_hour_of_the_answer(self, assignment: Assignment) -> None:
        give(assignment)
        first = Assignment.objects.get().answered_at
        give(assignment, "tie")
        assert Assignment.objects.get().answered_at == first

    def test_an_edit_keeps_the_place_filled(self, assignment: Assignment) -> None:
        give(assignment)
        free = free_places()
        give(assignment, "tie")
        assert (free_places(), Place.objects.get(assignment=assignment).wanted) == (free, False)

    def test_an_answer_changed_to_unsafe_leaves_its_place_to_somebody_else(self, assignment: Assignment) -> None:
        give(assignment)
        give(assignment, "unsafe", details=Details(unsafe=frozenset({1})))
        assert free_places() == 3

    def test_an_answer_changed_from_unsafe_fills_a_place_again(self, assignment: Assignment) -> None:
        give(assignment, "unsafe", details=Details(unsafe=frozenset({1})))
        give(assignment)
        assert free_places() == 2

    def test_the_page_of_an_edit_opens_with_the_answer(self, judging: Client, assignment: Assignment) -> None:
        submit(judging, assignment, best=2, worst=3, **open_tab(judging, assignment))
        assert checked(judging.get(reverse("edit_judgement", args=[assignment.key]))) == {("best", "2"), ("worst", "3")}

    def test_what_was_not_answered_is_not_edited(self, judging: Client, assignment: Assignment) -> None:
        response = judging.get(reverse("edit_judgement", args=[assignment.key]))
        assert response["Location"] == page_of(assignment)

    def test_the_page_of_an_edit_saves_it(self, judging: Client, assignment: Assignment) -> None:
        submit(judging, assignment, best=2, **open_tab(judging, assignment))
        opened = tab(judging.get(reverse("edit_judgement", args=[assignment.key])))
        submit(judging, assignment, best=1, **opened)
        assert assignment.judgement.ranks.get(rank=1).shown_position == 1
        assert acts(assignment) == ["submitted", "edited"]

    def test_an_edit_that_is_not_clear_is_sent_back_and_the_answer_stands(
        self, judging: Client, assignment: Assignment
    ) -> None:
        submit(judging, assignment, best=2, **open_tab(judging, assignment))
        opened = tab(judging.get(reverse("edit_judgement", args=[assignment.key])))
        response = submit(judging, assignment, best=1, worst=1, **opened)
        assert (response.status_code, tab(response)) == (422, opened)
        assert assignment.judgement.ranks.get(rank=1).shown_position == 2

    def test_changed_from_unsafe_when_all_places_are_filled_it_is_an_extra(self, settings, expert: Expert) -> None:
        settings.PLACES_PER_COMPARISON = 1
        make_comparison(4)
        assignment = next_assignment(expert=expert)
        give(assignment, "unsafe", details=Details(unsafe=frozenset({1})))
        give(next_assignment(expert=make_expert()), "tie")
        assert give(assignment, "tie").extra

    def test_an_extra_that_is_changed_fills_a_place_that_was_given_back(self, settings, expert: Expert, expire) -> None:
        settings.PLACES_PER_COMPARISON = 1
        make_comparison()
        late = next_assignment(expert=expert)
        expire(late)
        other = next_assignment(expert=make_expert())
        assert give(late, "tie").extra
        skip_assignment(assignment=other)
        assert not give(late, "all_good").extra
        assert free_places() == 0


class TestUndo:
    def test_an_answer_taken_back_is_counted_nowhere(self, assignment: Assignment) -> None:
        give(assignment)
        undo(assignment)
        assert (Judgement.objects.count(), judged(assignment)) == (0, 0)
        assert preference_pairs(preference_judgements()) == []

    def test_it_comes_up_again_with_what_was_entered(self, judging: Client, assignment: Assignment) -> None:
        submit(judging, assignment, best=2, reason="Kind.", **open_tab(judging, assignment))
        response = post(judging, "undo", assignment, htmx=True)
        assert checked(response) == {("best", "2")}
        assert "Kind.</textarea>" in html(response)
        assert response["HX-Push-Url"] == page_of(assignment)

    def test_without_javascript_undo_leads_back_to_the_comparison(
        self, judging: Client, assignment: Assignment
    ) -> None:
        submit(judging, assignment, best=2, **open_tab(judging, assignment))
        assert post(judging, "undo", assignment)["Location"] == page_of(assignment)
        assert checked(judging.get(page_of(assignment))) == {("best", "2")}

    def test_it_is_the_experts_next_comparison(self, assignment: Assignment) -> None:
        give(assignment)
        make_comparison()
        undo(assignment)
        assert next_assignment(expert=assignment.expert) == assignment

    def test_its_place_is_held_again_with_a_time_limit(self, assignment: Assignment) -> None:
        give(assignment)
        undo(assignment)
        place = Place.objects.get(assignment=assignment)
        assert place.wanted
        assert place.held_until > timezone.now()

    def test_taking_back_twice_is_taking_back_once(self, assignment: Assignment) -> None:
        give(assignment)
        undo(assignment)
        undo(assignment)
        assert acts(assignment) == ["submitted", "undone"]
        assert judged(assignment) == 0

    def test_it_can_be_answered_again(self, assignment: Assignment) -> None:
        give(assignment)
        undo(assignment)
        assert not give(assignment, "tie").extra
        assert (judged(assignment), Draft.objects.count()) == (1, 0)

    def test_an_extra_taken_back_takes_nobodys_place(self, settings, expert: Expert, expire) -> None:
        settings.PLACES_PER_COMPARISON = 1
        make_comparison()
        late = next_assignment(expert=expert)
        expire(late)
        other = next_assignment(expert=make_expert())
        give(late, "tie")
        undo(late)
        assert Place.objects.get().assignment == other

    def test_a_skip_is_taken_back_with_its_place(self, judging: Client, assignment: Assignment) -> None:
        skip_assignment(assignment=assignment)
        post(judging, "undo", assignment)
        assert Assignment.objects.get().skipped_at is None
        assert Place.objects.get(assignment=assignment)

    def test_a_skip_taken_back_adds_no_line(self, judging: Client, assignment: Assignment) -> None:
        skip_assignment(assignment=assignment)
        post(judging, "undo", assignment)
        assert acts(assignment) == []

    def test_nobody_takes_back_anothers_answer(self, client: Client, assignment: Assignment) -> None:
        give(assignment)
        client.force_login(make_expert().user)
        assert post(client, "undo", assignment).status_code == 404
        assert Judgement.objects.exists()

    def test_a_link_takes_nothing_back(self, judging: Client, assignment: Assignment) -> None:
        give(assignment)
        assert judging.get(reverse("undo", args=[assignment.key])).status_code == 405


class TestTheSameSubmitTwice:
    def test_the_same_page_twice_is_one_answer(self, assignment: Assignment) -> None:
        key = page(assignment)
        give(assignment, page=key)
        kept = record_judgement(assignment=assignment, verdict="ranked", ranks=ORDER, page=key)
        assert (kept.repeated, kept.judgement.verdict) == (True, "ranked")
        assert (acts(assignment), judged(assignment)) == (["submitted"], 1)

    def test_the_same_edit_twice_is_one_edit(self, assignment: Assignment) -> None:
        give(assignment)
        key = page(assignment)
        give(assignment, "tie", page=key)
        assert record_judgement(assignment=assignment, verdict="tie", page=key).repeated
        assert acts(assignment) == ["submitted", "edited"]

    def test_another_answer_from_a_page_that_never_heard_of_its_success_is_a_conflict(
        self, assignment: Assignment
    ) -> None:
        key = page(assignment)
        give(assignment, page=key)
        with pytest.raises(Conflict):
            record_judgement(assignment=assignment, verdict="all_bad", page=key)
        assert (Judgement.objects.get().verdict, acts(assignment)) == ("ranked", ["submitted"])

    def test_a_page_may_answer_again_after_an_undo_that_it_has_read(self, assignment: Assignment) -> None:
        key = page(assignment)
        give(assignment, page=key)
        undo_judgement(assignment=assignment)
        read = PageState(key.key, Assignment.objects.get(pk=assignment.pk).version)
        record_judgement(assignment=assignment, verdict="tie", page=read)
        assert acts(assignment) == ["submitted", "undone", "submitted"]

    def test_a_late_copy_of_the_first_submit_does_not_undo_the_edit(self, assignment: Assignment) -> None:
        key = page(assignment)
        give(assignment, page=key)
        give(assignment, "tie")
        assert record_judgement(assignment=assignment, verdict="ranked", ranks=ORDER, page=key).repeated
        assert Judgement.objects.get().verdict == "tie"

    def test_a_late_copy_of_a_submit_that_was_taken_back_is_not_kept(self, assignment: Assignment) -> None:
        key = page(assignment)
        give(assignment, page=key)
        undo(assignment)
        with pytest.raises(Conflict):
            give(assignment, page=key)
        assert not Judgement.objects.exists()

    def test_both_are_answered_with_the_same_redirect(self, judging: Client, assignment: Assignment) -> None:
        opened = open_tab(judging, assignment)
        first, second = (submit(judging, assignment, best=1, **opened) for _ in range(2))
        assert (first.status_code, first["Location"]) == (second.status_code, second["Location"])

    def test_both_are_answered_with_the_same_next_comparison(self, judging: Client, assignment: Assignment) -> None:
        make_comparison()
        opened = open_tab(judging, assignment)
        first, second = (submit(judging, assignment, htmx=True, best=1, **opened) for _ in range(2))
        assert first["HX-Push-Url"] == second["HX-Push-Url"] != page_of(assignment)
        assert (first.status_code, second.status_code, Judgement.objects.count()) == (200, 200, 1)

    def test_a_key_is_stored_only_with_its_answer(self, assignment: Assignment) -> None:
        key = page(assignment)
        with pytest.raises(BadAnswer):
            give(assignment, ranks={1: 1}, page=key)
        assert not Revision.objects.filter(key=key.key).exists()
        give(assignment, page=key)
        assert Revision.objects.get().key == key.key


class TestTwoTabs:
    def test_an_answer_from_a_tab_that_has_not_read_the_others_is_a_conflict(self, assignment: Assignment) -> None:
        mine = page(assignment)
        give(assignment, "tie")
        with pytest.raises(Conflict):
            give(assignment, page=mine)
        assert (Judgement.objects.get().verdict, acts(assignment)) == ("tie", ["submitted"])

    def test_so_is_an_answer_from_a_tab_that_has_not_read_the_others_draft(self, assignment: Assignment) -> None:
        mine = page(assignment)
        save_draft(assignment=assignment, fields={"best": ["1"]}, page=page(assignment))
        with pytest.raises(Conflict):
            give(assignment, page=mine)
        assert not Judgement.objects.exists()

    @pytest.mark.parametrize("headers", [{}, HTMX], ids=["page", "fragment"])
    def test_both_versions_are_shown(self, judging: Client, assignment: Assignment, headers: dict[str, str]) -> None:
        mine, other = (open_tab(judging, assignment) for _ in range(2))
        submit(judging, assignment, best=1, reason="theirs", **other)
        response = submit(judging, assignment, htmx=bool(headers), best=3, reason="mine", **mine)
        assert response.status_code == 409
        for words in ("Best: story 1", "Why: theirs", "Best: story 3", "Why: mine"):
            assert words in html(response)
        assert checked(response) == {("best", "3")}

    def test_nothing_was_written(self, judging: Client, assignment: Assignment) -> None:
        mine, other = (open_tab(judging, assignment) for _ in range(2))
        submit(judging, assignment, best=1, **other)
        before = Assignment.objects.values().get()
        submit(judging, assignment, best=3, **mine)
        assert (Assignment.objects.values().get(), acts(assignment)) == (before, ["submitted"])

    def test_saving_again_from_there_replaces_the_others(self, judging: Client, assignment: Assignment) -> None:
        mine, other = (open_tab(judging, assignment) for _ in range(2))
        submit(judging, assignment, best=1, **other)
        refused = submit(judging, assignment, best=3, **mine)
        submit(judging, assignment, best=3, **tab(refused))
        assert assignment.judgement.ranks.get(rank=1).shown_position == 3
        assert [line.fields["best"] for line in assignment.revisions.all()] == [["1"], ["3"]]

    def test_a_skip_from_a_tab_that_does_not_know_the_answer_does_not_say_skipped(
        self, judging: Client, assignment: Assignment
    ) -> None:
        submit(judging, assignment, best=1, **open_tab(judging, assignment))
        assert "Skipped" not in html(skip(judging, assignment, htmx=True))
        assert Judgement.objects.exists()

    def test_what_is_sent_without_javascript_from_no_page_leaves_the_first_answer(
        self, judging: Client, assignment: Assignment
    ) -> None:
        submit(judging, assignment, best=1)
        response = submit(judging, assignment, htmx=True, best=3)
        assert "the first one stands" in messages_in(response)[0]
        assert acts(assignment) == ["submitted"]
