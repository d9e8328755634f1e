"""Judging as an expert does it: by keyboard, by mouse, without JavaScript, in the language of their choice."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.browser import desk
from tests.browser.conftest import Demo, go_on

pytestmark = pytest.mark.slow
Open = Callable[..., Page]


def test_the_calibration_set_comes_first_and_can_be_done_by_keyboard(open_page: Open, demo: Demo) -> None:
    page = open_page(desk.unpractised(demo, "parent-new"), as_is=True)
    expect(page.get_by_role("heading", name="Practice: which story is best?")).to_be_visible()
    total = demo.one("SELECT count(*) FROM annotate_example")
    for number in range(1, total + 1):
        expect(page.get_by_text(f"example {number} of {total}")).to_be_visible()
        expect(page.locator(".tag")).to_have_count(0)
        page.wait_for_load_state()
        page.keyboard.press("1")
        page.keyboard.press("b")
        page.keyboard.press("Enter")
        expect(page.locator(".tag", has_text="Your best")).to_have_count(1)
        page.wait_for_load_state()
        page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Which story is best?", exact=True)).to_be_visible()
    assert demo.query(
        "SELECT count(*), bool_and(best = 1 AND worst = 2) FROM annotate_practiceanswer WHERE expert_id = "
        f"{desk.EXPERT}",
        "parent-new",
    ) == [(total, True)]
    assert demo.one(f"SELECT practised_at IS NOT NULL FROM annotate_expert WHERE id = {desk.EXPERT}", "parent-new")
    assert desk.count(demo, "parent-new") == 0


def test_best_and_worst_by_keyboard_alone(open_page: Open, demo: Demo) -> None:
    page = open_page("educator")
    page.keyboard.press("2")
    page.keyboard.press("d")
    go_on(page, lambda: page.keyboard.press("Enter"))
    assert desk.ranks_of(demo, "educator") == {1: 2, 2: 1, 3: 2, 4: 3}


def test_best_by_mouse_and_saved_by_the_key_enter(open_page: Open, demo: Demo) -> None:
    page = open_page("educator")
    page.locator("label.best").nth(2).click()
    go_on(page, lambda: page.keyboard.press("Enter"))
    assert desk.ranks_of(demo, "educator") == {1: 2, 2: 2, 3: 1, 4: 2}


def test_five_ways_not_to_name_a_best_story_are_five_verdicts(open_page: Open, demo: Demo) -> None:
    page = open_page("educator")
    verdicts = []
    for key in "tgnr":
        go_on(page, lambda key=key: page.keyboard.press(key))
        verdicts.append(desk.newest(demo, "educator", "verdict"))
    page.keyboard.press("x")
    page.keyboard.press("Space")
    go_on(page, page.get_by_role("button", name="Report as unsafe").click)
    verdicts.append(desk.newest(demo, "educator", "verdict"))
    assert verdicts == ["tie", "all_good", "all_bad", "cannot_rank", "unsafe"]


def test_an_unsafe_story_leaves_the_queue_for_another_expert_at_once(open_page: Open, demo: Demo) -> None:
    texts = ["A fine hat.", "A hat that bites.", "A warm hat."]
    comparison = desk.write_comparison(demo, texts, places=2)
    reporter, other = open_page("writer", path="/judge/guidelines/"), open_page("parent", path="/judge/guidelines/")
    desk.hand_out(demo, "writer", comparison)
    desk.hand_out(demo, "parent", comparison)
    other.goto("/judge/")
    expect(other.locator(".story", has_text="A hat that bites.")).to_be_visible()
    reporter.goto("/judge/")
    reporter.get_by_text("Something is wrong with these stories").click()
    place = texts[::-1].index("A hat that bites.") + 1  # the desk deals them backwards
    reporter.locator(f"input[name=unsafe][value='{place}']").check(force=True)
    go_on(reporter, reporter.get_by_role("button", name="Report as unsafe").click)
    expect(reporter.get_by_text("The story has left the queue; an admin will look at it.")).to_be_visible()
    other.goto("/judge/")
    expect(other.get_by_text("This story has left the queue. Judge the others.")).to_be_visible()
    assert "bites" not in other.content()
    assert other.locator("input[name=best]").count() == 2


def test_skip_by_its_key_saves_nothing_and_can_be_taken_back(open_page: Open, demo: Demo) -> None:
    page = open_page("parent")
    before, text = desk.count(demo, "parent"), page.locator(".story").first.inner_text()
    go_on(page, lambda: page.keyboard.press("Backspace"))
    expect(page.get_by_text("Skipped. Somebody else will judge it.")).to_be_visible()
    assert desk.count(demo, "parent") == before
    go_on(page, lambda: page.keyboard.press("u"))
    assert page.locator(".story").first.inner_text() == text


def test_keys_are_letters_while_typing_a_reason_and_control_enter_saves(open_page: Open, demo: Demo) -> None:
    page = open_page("parent")
    page.locator("label.best").first.click()
    reason = page.get_by_label("Why? (optional)")
    reason.press_sequentially("2 t?ug")
    reason.press("Enter")
    reason.press_sequentially("no")
    expect(reason).to_have_value("2 t?ug\nno")
    expect(page.locator("input[name=best]:checked")).to_have_value("1")
    expect(page.locator("#keys")).to_be_hidden()
    go_on(page, lambda: reason.press("Control+Enter"))
    assert desk.newest(demo, "parent", "reason") == "2 t?ug\nno"


def test_the_question_mark_lists_the_keys_and_they_stay_off_once_switched_off(open_page: Open, demo: Demo) -> None:
    page = open_page("parent")
    page.keyboard.press("?")
    keys = page.get_by_role("dialog", name="Keys")
    expect(keys.get_by_text("save and go on (in a text: Ctrl+Enter)")).to_be_visible()
    page.keyboard.press("1")
    with page.expect_response("**/judge/mine/settings/"):
        keys.get_by_label("Single keys act on this page").uncheck()
    page.keyboard.press("Escape")
    expect(keys).to_be_hidden()
    page.keyboard.press("1")
    page.goto("/judge/mine/")
    page.goto("/judge/")
    page.keyboard.press("1")
    page.keyboard.press("?")
    expect(page.locator("#keys")).to_be_hidden()
    assert page.locator("input[name=best]:checked").count() == 0
    page.goto("/judge/mine/")
    page.get_by_label("Single keys act on the judging page").check()
    page.get_by_role("button", name="Save").click()
    page.goto("/judge/")
    page.keyboard.press("1")
    expect(page.locator("input[name=best]:checked")).to_have_value("1")


def test_an_empty_answer_says_what_to_do(open_page: Open) -> None:
    page = open_page("writer")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Choose the best story first.")).to_be_visible()


def test_the_order_is_the_same_after_a_reload_and_when_coming_back(open_page: Open) -> None:
    page = open_page("writer")
    before = page.locator(".story").all_inner_texts()
    page.reload()
    assert page.locator(".story").all_inner_texts() == before
    page.goto("/judge/mine/")
    page.goto("/")
    assert page.locator(".story").all_inner_texts() == before


def test_the_interface_switches_to_chinese_and_the_story_keeps_its_language(open_page: Open) -> None:
    page = open_page("writer")
    language = page.locator(".story").first.get_attribute("lang")
    page.get_by_role("button", name="中文").click()
    expect(page.locator("html")).to_have_attribute("lang", "zh-hans")
    expect(page.locator(".story").first).to_have_attribute("lang", language or "")
    page.get_by_role("button", name="English").click()
    expect(page.locator("html")).to_have_attribute("lang", "en")


def test_an_expert_reads_only_the_languages_of_their_choice(open_page: Open) -> None:
    page = open_page("writer", "/judge/mine/")
    page.get_by_label("English").uncheck()
    page.get_by_role("button", name="Save").click()
    page.goto("/judge/")
    expect(page.locator(".story").first).to_have_attribute("lang", "zh")


def test_the_guidelines_open_beside_the_work_and_leave_it_as_it_is(open_page: Open) -> None:
    page = open_page("educator", viewport={"width": 1280, "height": 900})
    page.keyboard.press("1")
    page.locator(".guide summary").click()
    guidelines = page.get_by_text("What makes a good story for children of 5 to 8")
    expect(guidelines).to_be_visible()
    beside, stories = guidelines.bounding_box(), page.locator(".cards").bounding_box()
    assert beside
    assert stories
    assert beside["x"] >= stories["x"] + stories["width"]
    expect(page.locator("input[name=best]:checked")).to_have_value("1")


def test_readability_figures_appear_only_after_the_vote(open_page: Open, demo: Demo) -> None:
    page = open_page("educator", "/judge/guidelines/")
    key = desk.hand_out(demo, "educator", desk.write_comparison(demo, ["A hat.", "A cat sat on a hat. It was red."]))
    page.goto("/judge/")
    assert "school grade" not in page.content()
    before = page.request.get(f"/judge/{key}/readability/")
    assert before.url.endswith(f"/judge/{key}/")
    assert "school grade" not in before.text()
    page.keyboard.press("1")
    go_on(page, lambda: page.keyboard.press("Enter"))
    page.get_by_text("How easy to read were they?").click()
    expect(page.get_by_role("region", name="Readability").get_by_role("row")).to_have_count(3)
    page.goto(f"/judge/{key}/")
    expect(page.get_by_role("columnheader", name="school grade")).to_be_visible()


def test_a_sitting_ends_with_what_came_of_it(open_page: Open, demo: Demo) -> None:
    demo.change(f"UPDATE annotate_assignment SET answered_at = answered_at - interval '1 day' WHERE expert_id = "
                f"{desk.EXPERT} AND answered_at IS NOT NULL", "writer")  # fmt: skip
    page = open_page("writer")
    page.keyboard.press("1")
    page.get_by_label("Why? (optional)").fill("It ends well.")
    go_on(page, page.get_by_role("button", name="Save and go on").click)
    page.get_by_role("link", name="Stop for now").click()
    expect(page.get_by_text("In this sitting you judged 1 comparison.")).to_be_visible()
    expect(page.get_by_text("You gave a reason 1 time.")).to_be_visible()


def test_without_javascript_the_calibration_set_can_be_done(open_page: Open, demo: Demo) -> None:
    page = open_page(desk.unpractised(demo, "writer-new"), as_is=True, java_script_enabled=False)
    for _ in range(demo.one("SELECT count(*) FROM annotate_example")):
        page.get_by_role("radio", name="Best 1").check(force=True)
        page.get_by_role("button", name="Show me why").click()
        page.locator("button.primary").click()
    expect(page.get_by_role("heading", name="Which story is best?", exact=True)).to_be_visible()


def test_without_javascript_the_essential_acts_work(open_page: Open, demo: Demo) -> None:
    page = open_page("writer", java_script_enabled=False)
    page.get_by_role("radio", name="Best 4").check(force=True)
    page.get_by_role("button", name="Save and go on").click()
    expect(page.get_by_text("Saved. Thank you!")).to_be_visible()
    assert desk.ranks_of(demo, "writer")[4] == 1
    before = desk.count(demo, "writer")
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_role("radio", name="Best 4")).to_be_checked()
    assert desk.count(demo, "writer") == before - 1
    page.get_by_text("Give the full order, if you like").click()
    for position, rank in ((1, "2"), (2, "2"), (3, "4"), (4, "1")):
        page.locator(f"select[name=rank_{position}]").select_option(rank)
    page.get_by_role("button", name="Save and go on").click()
    expect(page.get_by_text("Saved. Thank you!")).to_be_visible()
    assert desk.ranks_of(demo, "writer") == {1: 2, 2: 2, 3: 4, 4: 1}
    page.get_by_role("button", name="Skip").click()
    expect(page.get_by_text("Skipped. Somebody else will judge it.")).to_be_visible()
    assert desk.count(demo, "writer") == before
