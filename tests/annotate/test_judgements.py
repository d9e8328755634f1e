import uuid

import pytest

from annotate.judgements import (
    BadAnswer,
    ranks_from_best_and_worst,
    record_judgement,
)
from annotate.models import Assignment, Expert, Judgement
from annotate.queue import find_assignment, next_assignment
from tests.factories import make_comparison, make_expert


def assigned(expert: Expert, stories: int) -> Assignment:
    make_comparison(stories)
    return next_assignment(expert=expert)


def kept_ranks(judgement: Judgement) -> dict[int, int]:
    """{shown position: rank} as stored."""
    return {rank.shown_position: rank.rank for rank in judgement.ranks.all()}


@pytest.mark.parametrize(
    ("count", "best", "worst", "ranks"),
    [
        (3, 2, None, {1: 2, 2: 1, 3: 2}),
        (5, 1, None, {1: 1, 2: 2, 3: 2, 4: 2, 5: 2}),
        (3, 3, 1, {1: 3, 2: 2, 3: 1}),
        (5, 4, 2, {1: 2, 2: 3, 3: 2, 4: 1, 5: 2}),
        (2, 2, None, {1: 2, 2: 1}),
        (2, 1, 2, {1: 1, 2: 2}),
    ],
)
def test_who_is_neither_best_nor_worst_ties_in_the_middle(
    count: int, best: int, worst: int | None, ranks: dict[int, int]
) -> None:
    assert ranks_from_best_and_worst(count, best, worst) == ranks


def test_the_best_cannot_be_the_worst() -> None:
    with pytest.raises(BadAnswer, match="both the best and the worst"):
        ranks_from_best_and_worst(3, 2, 2)


@pytest.mark.parametrize("worst", [None, 2])
def test_the_best_must_be_named(worst: int | None) -> None:
    with pytest.raises(BadAnswer, match="best story first"):
        ranks_from_best_and_worst(3, None, worst)


@pytest.mark.parametrize(
    ("stories", "ranks"),
    [
        (3, {1: 2, 2: 1, 3: 2}),
        (4, {1: 3, 2: 1, 3: 2, 4: 2}),
        (5, {1: 5, 2: 3, 3: 1, 4: 2, 5: 4}),
        (4, {1: 1, 2: 2, 3: 2, 4: 3}),
        (2, {1: 2, 2: 1}),
    ],
    ids=["best only", "best and worst", "full order", "ties inside the order", "two stories"],
)
def test_an_answer_is_kept_as_given(expert: Expert, stories: int, ranks: dict[int, int]) -> None:
    kept = record_judgement(assignment=assigned(expert, stories), verdict="ranked", ranks=ranks)
    assert (kept.judgement.verdict, kept_ranks(kept.judgement)) == ("ranked", ranks)


def test_a_tie_ranks_all_stories_the_same(expert: Expert) -> None:
    kept = record_judgement(assignment=assigned(expert, 3), verdict="tie")
    assert (kept.judgement.verdict, kept_ranks(kept.judgement)) == ("tie", {1: 1, 2: 1, 3: 1})


def test_a_tie_ignores_ranks_chosen_before(expert: Expert) -> None:
    kept = record_judgement(assignment=assigned(expert, 3), verdict="tie", ranks={1: 1, 2: 2, 3: 3})
    assert set(kept_ranks(kept.judgement).values()) == {1}


def test_rank_and_shown_position_are_kept_apart(expert: Expert) -> None:
    assignment = assigned(expert, 4)
    first, second, third, fourth = assignment.shown
    record_judgement(assignment=assignment, verdict="ranked", ranks={1: 3, 2: 1, 3: 4, 4: 2})
    stored = {rank.story_id: (rank.rank, rank.shown_position) for rank in assignment.judgement.ranks.all()}
    assert stored == {first: (3, 1), second: (1, 2), third: (4, 3), fourth: (2, 4)}


def test_ranks_go_to_the_stories_as_shown_and_not_as_numbered(expert: Expert) -> None:
    assignment = assigned(expert, 3)
    Assignment.objects.filter(pk=assignment.pk).update(shown=sorted(assignment.shown, reverse=True))
    assignment.refresh_from_db()
    record_judgement(assignment=assignment, verdict="ranked", ranks={1: 1, 2: 2, 3: 3})
    best = assignment.judgement.ranks.get(rank=1)
    assert best.story_id == max(assignment.shown)


def test_the_reason_is_kept_without_the_space_around_it(expert: Expert) -> None:
    kept = record_judgement(assignment=assigned(expert, 3), verdict="tie", reason=" Both are kind.\n")
    assert Judgement.objects.get(pk=kept.judgement.pk).reason == "Both are kind."


def test_a_repeated_answer_leaves_the_first_standing(expert: Expert) -> None:
    assignment = assigned(expert, 3)
    first = record_judgement(assignment=assignment, verdict="ranked", ranks={1: 1, 2: 2, 3: 3})
    again = record_judgement(assignment=assignment, verdict="ranked", ranks={1: 3, 2: 2, 3: 1}, reason="no")
    assert (first.repeated, again.repeated) == (False, True)
    assert again.judgement == first.judgement == Judgement.objects.get()
    assert kept_ranks(Judgement.objects.get()) == {1: 1, 2: 2, 3: 3}


@pytest.mark.parametrize(
    ("ranks", "message"),
    [
        ({1: 2, 2: 2, 3: 2}, "equally good"),
        ({1: 1, 2: 2}, "every story a rank"),
        ({}, "every story a rank"),
        (None, "every story a rank"),
        ({1: 1, 2: 2, 4: 3}, "every story a rank"),
        ({1: 1, 2: 2, 3: 3, 4: 4}, "every story a rank"),
        ({1: 0, 2: 1, 3: 2}, "every story a rank"),
        ({1: 1, 2: 2, 3: 4}, "every story a rank"),
    ],
    ids=["all equal", "missing", "empty", "none", "unknown story", "one too many", "rank 0", "rank above K"],
)
def test_ranks_that_say_nothing_clear_are_refused(expert: Expert, ranks: dict[int, int], message: str) -> None:
    with pytest.raises(BadAnswer, match=message):
        record_judgement(assignment=assigned(expert, 3), verdict="ranked", ranks=ranks)


def test_an_unknown_verdict_is_refused(expert: Expert) -> None:
    with pytest.raises(BadAnswer, match="equally good"):
        record_judgement(assignment=assigned(expert, 3), verdict="worst", ranks={1: 1, 2: 2, 3: 3})


def test_a_reason_that_is_too_long_is_refused(expert: Expert) -> None:
    with pytest.raises(BadAnswer, match="2,000 characters"):
        record_judgement(assignment=assigned(expert, 3), verdict="tie", reason="x" * 2001)


def test_a_character_that_the_database_cannot_hold_is_left_out_of_the_reason(expert: Expert) -> None:
    kept = record_judgement(assignment=assigned(expert, 3), verdict="tie", reason="kind\x00er")
    assert Judgement.objects.get(pk=kept.judgement.pk).reason == "kinder"


def test_a_reason_of_two_thousand_characters_is_kept(expert: Expert) -> None:
    kept = record_judgement(assignment=assigned(expert, 3), verdict="tie", reason="好" * 2000)
    assert Judgement.objects.get(pk=kept.judgement.pk).reason == "好" * 2000


def test_a_refused_answer_leaves_the_assignment_open(expert: Expert) -> None:
    assignment = assigned(expert, 3)
    with pytest.raises(BadAnswer):
        record_judgement(assignment=assignment, verdict="ranked", ranks={})
    assert next_assignment(expert=expert) == assignment
    assert not Judgement.objects.exists()


def test_experts_find_their_own_assignment(expert: Expert) -> None:
    assignment = assigned(expert, 3)
    assert find_assignment(expert=expert, key=assignment.key) == assignment


def test_another_experts_key_finds_nothing(expert: Expert) -> None:
    with pytest.raises(Assignment.DoesNotExist):
        find_assignment(expert=make_expert(), key=assigned(expert, 3).key)


def test_an_unknown_key_finds_nothing(expert: Expert) -> None:
    with pytest.raises(Assignment.DoesNotExist):
        find_assignment(expert=expert, key=uuid.uuid4())
