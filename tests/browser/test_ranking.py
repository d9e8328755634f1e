"""The full order and what else can be said of stories: chips, passages, criteria, an improvement."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser import desk
from tests.browser.conftest import Demo, go_on

pytestmark = pytest.mark.slow
Open = Callable[..., Page]
TEXTS = ["The red hat.", "The green hat.", "The blue hat.", "The old hat."]


def listed(page: Page) -> list[int]:
    """The shown positions in the order of the list."""
    return [int(item.get_attribute("data-position") or 0) for item in page.locator(".order li").all()]


def row(page: Page, position: int) -> Locator:
    return page.locator(f".order li[data-position='{position}']")


def test_the_full_order_with_a_tie_by_keyboard_alone(open_page: Open, demo: Demo) -> None:
    page = open_page("educator")
    press = page.keyboard.press
    press("o")
    press("Space")
    expect(row(page, 1).locator("[data-grip]")).to_have_attribute("aria-pressed", "true")
    press("ArrowDown")
    press("ArrowDown")
    expect(page.locator("[data-order-said]")).to_have_text("Story 1: now at place 3")
    press("Space")
    expect(row(page, 1).locator("[data-grip]")).to_have_attribute("aria-pressed", "false")
    press("ArrowDown")
    assert listed(page) == [2, 3, 1, 4]
    press("Tab")
    press("Space")
    expect(row(page, 1).get_by_role("checkbox")).to_be_checked()
    go_on(page, lambda: press("Enter"))
    assert desk.ranks_of(demo, "educator") == {1: 2, 2: 1, 3: 2, 4: 4}


def test_a_full_order_by_buttons_sets_best_and_worst_too(open_page: Open, demo: Demo) -> None:
    page = open_page("educator")
    page.get_by_text("Give the full order, if you like").click()
    page.get_by_role("button", name="Up: Story 4").click()
    page.get_by_role("button", name="Down: Story 1").click()
    assert listed(page) == [2, 1, 4, 3]
    expect(page.locator("input[name=best]:checked")).to_have_value("2")
    expect(page.locator("input[name=worst]:checked")).to_have_value("3")
    go_on(page, page.get_by_role("button", name="Save and go on").click)
    assert desk.ranks_of(demo, "educator") == {2: 1, 1: 2, 4: 3, 3: 4}


def test_a_full_order_by_dragging(open_page: Open, demo: Demo) -> None:
    page = open_page("educator", viewport={"width": 1280, "height": 1600})
    page.get_by_text("Give the full order, if you like").click()
    row(page, 1).locator(".grip").drag_to(row(page, 3), target_position={"x": 30, "y": 40})
    expect(page.locator(".order li").nth(2)).to_have_attribute("data-position", "1")
    assert listed(page) == [2, 3, 1, 4]
    go_on(page, page.get_by_role("button", name="Save and go on").click)
    assert desk.ranks_of(demo, "educator") == {2: 1, 3: 2, 1: 3, 4: 4}


def test_an_order_that_nobody_gave_is_not_stored_as_one(open_page: Open, demo: Demo) -> None:
    page = open_page("educator")
    page.get_by_text("Give the full order, if you like").click()
    page.keyboard.press("3")
    page.keyboard.press("a")
    assert listed(page) == [3, 2, 4, 1]
    go_on(page, lambda: page.keyboard.press("Enter"))
    assert desk.ranks_of(demo, "educator") == {3: 1, 2: 2, 4: 2, 1: 3}


def test_the_order_as_it_lies_can_be_confirmed_and_withdrawn(open_page: Open, demo: Demo) -> None:
    page = open_page("educator")
    page.keyboard.press("3")
    page.get_by_text("Give the full order, if you like").click()
    page.get_by_role("button", name="This is my order").click()
    ranks = [page.locator(f"select[name=rank_{position}]") for position in (1, 2, 3, 4)]
    assert [field.input_value() for field in ranks] == ["2", "3", "1", "4"]
    page.get_by_role("button", name="No full order").click()
    assert [field.input_value() for field in ranks] == ["", "", "", ""]
    page.get_by_role("button", name="This is my order").click()
    go_on(page, page.get_by_role("button", name="Save and go on").click)
    assert desk.ranks_of(demo, "educator") == {3: 1, 1: 2, 2: 3, 4: 4}


def test_another_best_story_moves_to_the_top_of_an_order_that_was_given(open_page: Open, demo: Demo) -> None:
    page = open_page("educator")
    page.keyboard.press("o")
    page.get_by_role("button", name="This is my order").click()
    page.locator("label.best").nth(2).click()
    assert listed(page) == [3, 1, 2, 4]
    go_on(page, lambda: page.keyboard.press("Enter"))
    assert desk.ranks_of(demo, "educator") == {3: 1, 1: 2, 2: 3, 4: 4}


def test_two_stories_can_share_the_first_place(open_page: Open, demo: Demo) -> None:
    page = open_page("educator")
    page.get_by_text("Give the full order, if you like").click()
    row(page, 2).get_by_label("as good as the one above").check()
    expect(page.locator("input[name=best]:checked")).to_have_count(0)
    go_on(page, page.get_by_role("button", name="Save and go on").click)
    assert desk.ranks_of(demo, "educator") == {1: 1, 2: 1, 3: 3, 4: 4}


def test_the_rank_is_stored_with_the_story_and_apart_from_where_it_was_shown(open_page: Open, demo: Demo) -> None:
    page = open_page("parent", "/judge/guidelines/")
    comparison = desk.write_comparison(demo, TEXTS)
    desk.hand_out(demo, "parent", comparison)
    page.goto("/judge/")
    shown = [text.strip() for text in page.locator(".story").all_inner_texts()]
    wanted = {"The blue hat.": 1, "The old hat.": 2, "The red hat.": 3, "The green hat.": 4}
    page.get_by_text("Give the full order, if you like").click()
    for place, text in enumerate(wanted):
        item = page.locator(".order li", has_text=text)
        for _ in range(listed(page).index(shown.index(text) + 1) - place):
            item.get_by_role("button", name="Up").click()
    go_on(page, page.get_by_role("button", name="Save and go on").click)
    stored = demo.query(
        "SELECT s.text, r.rank, r.shown_position FROM annotate_rank r JOIN generation_story s ON s.id = r.story_id "
        "JOIN annotate_judgement j ON j.id = r.judgement_id JOIN annotate_assignment a ON a.id = j.assignment_id "
        "WHERE a.comparison_id = %s",
        comparison,
    )
    assert {text: rank for text, rank, _ in stored} == wanted
    assert {text: position for text, _, position in stored} == {text: shown.index(text) + 1 for text in TEXTS}
    assert any(rank != position for _, rank, position in stored)


def passages(demo: Demo, comparison: int) -> list[tuple[str, bool]]:
    """The marked words as the story has them, and whether they were liked."""
    return demo.query(
        "SELECT substr(s.text, p.start + 1, p.end - p.start), p.good FROM annotate_passage p "
        "JOIN annotate_judgement j ON j.id = p.judgement_id JOIN annotate_assignment a ON a.id = j.assignment_id "
        "JOIN generation_story s ON s.id = p.story_id WHERE a.comparison_id = %s ORDER BY p.story_id, p.start",
        comparison,
    )


ENGLISH = ["🐰 Pip ran. He fell! “Ouch,” said Pip.\n\nThen he got up. The end.", "A hat.", "A hat too."]
CHINESE = ["小兔子跑了。它摔倒了！“哎呀。”它说。\n\n最后它站起来了。", "一顶帽子。", "还有一顶帽子。"]


@pytest.mark.parametrize(
    ("language", "texts", "liked", "disliked"),
    [
        ("en", ENGLISH, ["He fell!", "The end."], "Then he got up."),
        ("zh", CHINESE, ["它摔倒了！", "它说。"], "最后它站起来了。"),
    ],
)
def test_passages_marked_by_click_are_where_they_stand_in_the_story(
    open_page: Open, demo: Demo, language: str, texts: list[str], liked: list[str], disliked: str
) -> None:
    page = open_page("writer", "/judge/guidelines/")
    comparison = desk.write_comparison(demo, texts, language)
    desk.hand_out(demo, "writer", comparison)
    page.goto("/judge/")
    sentence = page.locator(".sentence")
    page.keyboard.press("m")
    for text in liked:
        sentence.filter(has_text=text).click()
    sentence.filter(has_text=disliked).click(click_count=2)
    sentence.filter(has_text=texts[1]).first.click(click_count=3)
    go_on(page, lambda: page.keyboard.press("t"))
    assert sorted(passages(demo, comparison)) == sorted([*((text, True) for text in liked), (disliked, False)])


def test_neighbouring_sentences_marked_by_keyboard_are_one_passage(open_page: Open, demo: Demo) -> None:
    page = open_page("writer", "/judge/guidelines/")
    comparison = desk.write_comparison(demo, ENGLISH)
    desk.hand_out(demo, "writer", comparison)
    page.goto("/judge/")
    page.keyboard.press("m")
    first = page.locator(".sentence", has_text="🐰 Pip ran.")
    first.focus()
    page.keyboard.press("Space")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    go_on(page, lambda: page.keyboard.press("t"))
    assert passages(demo, comparison) == [("🐰 Pip ran. He fell!", True)]


def test_chips_and_criteria_are_stored(open_page: Open, demo: Demo) -> None:
    page = open_page("parent")
    page.keyboard.press("2")
    page.get_by_label("good to read aloud").check(force=True)
    page.get_by_label("clear beginning, middle and end").check(force=True)
    page.get_by_label("too frightening").check(force=True)
    page.get_by_text("Which story wins by each criterion? (optional)").click()
    page.get_by_role("group", name="Language fits the age").get_by_label("Story 3").check(force=True)
    page.get_by_role("group", name="Educational value").get_by_label("no difference").check(force=True)
    go_on(page, page.get_by_role("button", name="Save and go on").click)
    assert desk.newest(demo, "parent", "reasons_for") == ["clear_structure", "to_read_aloud"]
    assert desk.newest(demo, "parent", "reasons_against") == ["frightening"]
    winners = demo.query(
        "SELECT criterion, r.shown_position FROM annotate_criterionwinner w LEFT JOIN annotate_rank r ON "
        "r.judgement_id = w.judgement_id AND r.story_id = w.story_id "
        "WHERE w.judgement_id = (SELECT max(id) FROM annotate_judgement)"
    )
    assert dict(winners) == {"language_fit": 3, "educational_value": None}


def test_an_improvement_begins_with_the_best_story_and_is_kept_with_it(open_page: Open, demo: Demo) -> None:
    page = open_page("parent", "/judge/guidelines/")
    comparison = desk.write_comparison(demo, ["The red hat.\n\nIt flew.", "The green hat.", "The blue hat."])
    desk.hand_out(demo, "parent", comparison)
    page.goto("/judge/")
    page.locator(".card", has_text="It flew.").locator("label.best").click()
    page.get_by_text("Improve the best story (optional)").click()
    box = page.locator("#improved")
    expect(box).to_have_value("The red hat.\n\nIt flew.")
    box.fill("The red hat.\n\nIt flew home.")
    go_on(page, page.get_by_role("button", name="Save and go on").click)
    assert demo.query(
        "SELECT s.text, i.text FROM annotate_improvement i JOIN generation_story s ON s.id = i.story_id "
        "WHERE s.id BETWEEN %s AND %s",
        comparison,
        comparison + 9,
    ) == [("The red hat.\n\nIt flew.", "The red hat.\n\nIt flew home.")]
