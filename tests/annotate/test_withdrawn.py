"""A story that has left the queue: what nobody read is ranked by nobody, and counts nowhere."""

from uuid import uuid4

import pytest
from django.test import Client

from annotate.judgements import BadAnswer, Details, record_judgement
from annotate.models import Assignment, Expert, Judgement, Place, Report
from annotate.pages import PageState
from annotate.pairs import preference_judgements, preference_pairs
from annotate.queue import next_assignment
from annotate.reports import settle
from annotate.views.page import _round_progress
from annotate.winrates import win_rate
from generation.models import Story
from tests.annotate.answering import answer, story
from tests.annotate.browsing import html, page_of, submit
from tests.factories import judge_by_story, make_comparison, make_evaluation, make_expert, make_policy

pytestmark = pytest.mark.django_db


@pytest.fixture
def assignment(expert: Expert) -> Assignment:
    """Three stories, the one shown third reported by somebody else before the page is opened."""
    comparison = make_comparison(3)
    found = next_assignment(expert=expert)
    letter = next(x for x in "ABC" if story(comparison, x).pk == found.shown[2])
    reporter = make_expert()
    answer(reporter, comparison, "unsafe", shown=letter + "ABC".replace(letter, ""), unsafe=frozenset({1}))
    return found


def dismiss(django_user_model) -> None:
    settle(report=Report.objects.get(), by=django_user_model.objects.create_user("boss"), upheld=False)


def ranked(judgement: Judgement) -> dict[int, int]:
    return dict(judgement.ranks.values_list("shown_position", "rank"))


def test_the_page_does_not_show_it_and_says_so_when_it_is_sent(judging: Client, assignment: Assignment) -> None:
    page = html(judging.get(page_of(assignment)))
    assert "This story has left the queue" in page
    assert '<input type="hidden" name="gone" value="3">' in page


def test_best_and_worst_of_the_others_give_it_no_rank(judging: Client, assignment: Assignment) -> None:
    submit(judging, assignment, best="1", worst="2", gone="3")
    assert set(ranked(Judgement.objects.get(assignment=assignment))) == {1, 2}


def test_neither_does_a_tie(assignment: Assignment) -> None:
    kept = record_judgement(assignment=assignment, verdict="tie", details=Details(gone=frozenset({3})))
    assert ranked(kept.judgement) == {1: 1, 2: 1}


def test_when_it_comes_back_nobody_has_preferred_it(assignment: Assignment, django_user_model) -> None:
    record_judgement(
        assignment=assignment, verdict="ranked", ranks={1: 1, 2: 3, 3: 2}, details=Details(gone=frozenset({3}))
    )
    dismiss(django_user_model)
    assert len(preference_pairs(preference_judgements())) == 1


def test_it_loses_by_no_criterion_either(assignment: Assignment, django_user_model) -> None:
    won = Details(gone=frozenset({3}), criteria={"structure": 1})
    record_judgement(assignment=assignment, verdict="ranked", ranks={1: 1, 2: 2}, details=won)
    dismiss(django_user_model)
    pairs = preference_pairs(preference_judgements(), by_criterion=True)
    assert [pair.criterion for pair in pairs] == ["overall", "structure"]


def test_a_story_that_is_there_cannot_be_left_out(assignment: Assignment, django_user_model) -> None:
    dismiss(django_user_model)
    with pytest.raises(BadAnswer, match="Give every story a rank"):
        record_judgement(
            assignment=assignment, verdict="ranked", ranks={1: 1, 2: 2}, details=Details(gone=frozenset({3}))
        )


def test_a_win_over_a_withdrawn_story_is_no_outcome() -> None:
    new, old = make_policy(), make_policy()
    comparison = make_evaluation(new, old)
    judge_by_story(make_expert(), list(comparison.stories.order_by("pk")))
    assert win_rate(new, old).n == 1
    Story.objects.filter(policy=old).update(withdrawn_at="2026-01-01T00:00Z")
    assert win_rate(new, old).n == 0


def test_who_changes_unsafe_to_a_ranking_fills_a_place_that_is_free() -> None:
    comparison = make_comparison(2)
    unsafe = answer(make_expert(), comparison, "unsafe", shown="AB", unsafe=frozenset({1}))
    found = Assignment.objects.get(pk=unsafe.assignment_id)
    page = PageState(uuid4(), found.version)
    kept = record_judgement(assignment=found, verdict="ranked", ranks={1: 1, 2: 2}, page=page)
    assert not kept.judgement.extra
    assert Place.objects.get(assignment=found).held_until is None


def test_the_rounds_progress_only_grows() -> None:
    make_comparison(2)
    comparison = make_comparison(2)
    seen = [_round_progress()]
    for _ in range(comparison.places.count() * 2):
        record_judgement(assignment=next_assignment(expert=make_expert()), verdict="tie")
        seen.append(_round_progress())
    assert [done for _, done in seen] == list(range(7))
    assert {left + done for left, done in seen} == {6}
