import pytest

from annotate.forms import JudgementForm


def answered(count: int = 3, **data: object) -> JudgementForm:
    form = JudgementForm({"verdict": "ranked", **data}, count=count)
    form.is_valid()
    return form


def complaint(form: JudgementForm) -> str:
    return " ".join(message for messages in form.errors.values() for message in messages)


@pytest.mark.parametrize(
    ("data", "ranks"),
    [
        ({"best": 2}, {1: 2, 2: 1, 3: 2}),
        ({"best": 2, "worst": 1}, {1: 3, 2: 1, 3: 2}),
        ({"rank_1": 3, "rank_2": 1, "rank_3": 2}, {1: 3, 2: 1, 3: 2}),
        ({"rank_1": 1, "rank_2": 2, "rank_3": 2}, {1: 1, 2: 2, 3: 2}),
        ({"best": 2, "worst": 1, "rank_1": 3, "rank_2": 1, "rank_3": 2}, {1: 3, 2: 1, 3: 2}),
        ({"best": 1, "rank_1": 1, "rank_2": 1, "rank_3": 2}, {1: 1, 2: 1, 3: 2}),
    ],
    ids=["best", "best and worst", "full order", "ties inside", "order that agrees", "one of two best"],
)
def test_an_answer_becomes_ranks_by_shown_position(data: dict[str, int], ranks: dict[int, int]) -> None:
    form = answered(**data)
    assert (complaint(form), form.ranks) == ("", ranks)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({}, "best story first"),
        ({"worst": 1}, "best story first"),
        ({"best": 1, "worst": 1}, "both the best and the worst"),
        ({"best": 2, "rank_1": 1}, "contradicts"),
        ({"best": 2, "rank_1": 1, "rank_2": 2, "rank_3": 3}, "contradicts"),
        ({"worst": 1, "rank_1": 1, "rank_2": 2, "rank_3": 3}, "contradicts"),
        ({"best": 4}, "less than or equal to 3"),
        ({"best": 0}, "greater than or equal to 1"),
        ({"rank_1": 1, "rank_2": 2, "rank_3": 4}, "less than or equal to 3"),
        ({"best": "the second"}, "whole number"),
        ({"best": 1, "verdict": "never"}, "never is not one"),
        ({"best": 1, "verdict": ""}, "required"),
        ({"best": 1, "reason": "x" * 2001}, "at most 2000"),
        ({"best": 1, "reason": "nul \x00"}, "Null characters"),
    ],
    ids=str,
)
def test_an_answer_that_is_not_clear_is_sent_back_with_what_to_change(data: dict[str, object], message: str) -> None:
    form = answered(**data)
    assert message in complaint(form)
    assert form.ranks == {}


def test_a_tie_needs_no_choice() -> None:
    assert complaint(answered(verdict="tie")) == ""


def test_a_tie_outweighs_a_choice_made_before() -> None:
    form = answered(verdict="tie", best=1, worst=1)
    assert (complaint(form), form.ranks) == ("", {})


def test_of_two_stories_the_best_is_enough() -> None:
    assert answered(2, best=1).ranks == {1: 1, 2: 2}


def test_a_rank_of_a_story_that_is_not_shown_is_not_read() -> None:
    assert answered(2, best=1, rank_3=1).ranks == {1: 1, 2: 2}


def test_a_reason_counts_its_line_breaks_once_as_the_browser_does() -> None:
    typed = "kind\n" * 400  # with the break, 2,000 characters for the textarea
    assert complaint(answered(best=1, reason=typed.replace("\n", "\r\n"))) == ""
