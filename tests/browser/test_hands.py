"""What hands do without being told: press twice, press Enter, hold on to a story."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.browser import desk
from tests.browser.conftest import Demo, go_on

pytestmark = pytest.mark.slow
Open = Callable[..., Page]


@pytest.mark.parametrize("scripts", [True, False])
def test_enter_on_a_choice_saves_it_and_reports_nothing(open_page: Open, demo: Demo, scripts: bool) -> None:
    demo.change("UPDATE annotate_expert SET keys_enabled = false WHERE user_id = "
                "(SELECT id FROM auth_user WHERE username = 'parent')")  # fmt: skip
    page = open_page("parent", java_script_enabled=scripts)
    before = desk.count(demo, "parent")
    page.get_by_role("radio", name="Best").first.check(force=True)
    page.get_by_role("radio", name="Best").first.press("Enter")
    expect(page.get_by_text("Saved. Thank you!")).to_be_visible()
    assert (desk.count(demo, "parent"), desk.newest(demo, "parent", "verdict")) == (before + 1, "ranked")
    demo.change("UPDATE annotate_expert SET keys_enabled = true")


def test_a_double_click_does_not_answer_the_next_comparison_too(open_page: Open, demo: Demo) -> None:
    page = open_page("writer")
    before = desk.count(demo, "writer")
    go_on(page, page.get_by_role("button", name="Equally good").dblclick)
    assert desk.count(demo, "writer") == before + 1
    go_on(page, lambda: page.keyboard.press("t"))
    assert desk.count(demo, "writer") == before + 2


def test_enter_puts_a_story_down_and_saves_nothing(open_page: Open, demo: Demo) -> None:
    page = open_page("educator")
    before = desk.count(demo, "educator")
    page.keyboard.press("o")
    for key in ("Space", "ArrowDown", "Enter"):
        page.keyboard.press(key)
    expect(page.locator("[data-grip][aria-pressed=true]")).to_have_count(0)
    assert desk.count(demo, "educator") == before
    expect(page.locator(".ordering.kept")).to_be_visible()


def test_the_worst_can_be_taken_back(open_page: Open) -> None:
    page = open_page("educator")
    worst = page.locator("input[name=worst]:checked")
    page.keyboard.press("b")
    expect(worst).to_have_count(1)
    page.keyboard.press("b")
    expect(worst).to_have_count(0)
    page.locator("label.worst").nth(1).click()
    expect(worst).to_have_count(1)
    page.locator("label.worst").nth(1).click()
    expect(worst).to_have_count(0)


def test_the_next_comparison_takes_keys_at_once_after_a_reason_was_typed(open_page: Open) -> None:
    page = open_page("educator")
    page.keyboard.press("1")
    page.get_by_label("Why? (optional)").fill("Kind.")
    go_on(page, lambda: page.get_by_label("Why? (optional)").press("Control+Enter"))
    page.keyboard.press("2")
    expect(page.locator("input[name=best]:checked")).to_have_value("2")
    expect(page.get_by_label("Why? (optional)")).to_have_value("")
