"""Judging as an expert does it: by keyboard, by mouse, without JavaScript, with a dropped connection."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Demo, go_on, judged

pytestmark = pytest.mark.slow
Open = Callable[..., Page]


def last_judgement(demo: Demo) -> dict[int, int]:
    """{shown position: rank} of the newest judgement."""
    sql = "SELECT shown_position, rank FROM annotate_rank WHERE judgement_id = (SELECT max(id) FROM annotate_judgement)"
    return dict(demo.query(sql))


def test_best_and_worst_by_keyboard_alone(open_page: Open, demo: Demo) -> None:
    page = open_page("educator")
    page.keyboard.press("2")
    page.keyboard.press("d")
    go_on(page, lambda: page.keyboard.press("Enter"))
    assert last_judgement(demo) == {1: 2, 2: 1, 3: 2, 4: 3}


def test_best_by_mouse_with_a_reason(open_page: Open, demo: Demo) -> None:
    page = open_page("educator")
    page.locator("label.best").nth(2).click()
    page.get_by_label("Why? (optional)").fill("It ends well.")
    go_on(page, lambda: page.get_by_role("button", name="Save and go on").click())
    assert last_judgement(demo)[3] == 1
    assert demo.query("SELECT reason FROM annotate_judgement ORDER BY id DESC LIMIT 1") == [("It ends well.",)]


def test_the_full_order_with_a_tie_in_it(open_page: Open, demo: Demo) -> None:
    page = open_page("educator")
    page.get_by_text("Give the full order, if you like").click()
    for position, rank in ((1, "2"), (2, "2"), (3, "1"), (4, "4")):
        page.locator(f"select[name=rank_{position}]").select_option(rank)
    go_on(page, lambda: page.get_by_role("button", name="Save and go on").click())
    assert last_judgement(demo) == {1: 2, 2: 2, 3: 1, 4: 4}


def test_a_tie_by_its_key(open_page: Open, demo: Demo) -> None:
    page = open_page("educator")
    go_on(page, lambda: page.keyboard.press("t"))
    assert set(last_judgement(demo).values()) == {1}


def test_skip_by_its_key_saves_nothing(open_page: Open) -> None:
    page = open_page("parent")
    before = judged(page)
    go_on(page, lambda: page.keyboard.press("Backspace"))
    assert judged(page) == before


def test_keys_are_letters_while_typing_a_reason(open_page: Open) -> None:
    page = open_page("parent")
    page.get_by_label("Why? (optional)").press_sequentially("2 td")
    assert page.locator("input[type=radio]:checked").count() == 0
    expect(page.get_by_label("Why? (optional)")).to_have_value("2 td")


def test_without_javascript_everything_essential_works(open_page: Open, demo: Demo) -> None:
    page = open_page("writer", java_script_enabled=False)
    page.get_by_role("radio", name="Best 4").check(force=True)
    page.get_by_role("button", name="Save and go on").click()
    expect(page.get_by_text("Saved. Thank you!")).to_be_visible()
    assert last_judgement(demo)[4] == 1


def test_the_order_is_the_same_after_a_reload_and_when_coming_back(open_page: Open) -> None:
    page = open_page("writer")
    before = page.locator(".story").all_inner_texts()
    page.reload()
    assert page.locator(".story").all_inner_texts() == before
    page.goto("/")
    assert page.locator(".story").all_inner_texts() == before


def test_a_save_that_cannot_reach_the_server_keeps_the_choices_and_says_so(open_page: Open, demo: Demo) -> None:
    page = open_page("writer")
    count = demo.query("SELECT count(*) FROM annotate_judgement")
    page.keyboard.press("1")
    page.context.set_offline(True)
    page.keyboard.press("Enter")
    expect(page.get_by_text("Not saved: the server could not be reached.")).to_be_visible()
    expect(page.locator("input[name=best]:checked")).to_have_value("1")
    page.context.set_offline(False)
    go_on(page, lambda: page.keyboard.press("Enter"))
    assert demo.query("SELECT count(*) FROM annotate_judgement") == [(count[0][0] + 1,)]


def test_back_to_a_judged_comparison_leads_to_the_next(open_page: Open) -> None:
    page = open_page("writer")
    before = page.url
    page.keyboard.press("1")
    go_on(page, lambda: page.keyboard.press("Enter"))
    page.goto(before)
    expect(page.get_by_text("You have judged that comparison already.")).to_be_visible()


def test_an_empty_answer_says_what_to_do(open_page: Open) -> None:
    page = open_page("writer")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Choose the best story first.")).to_be_visible()


def test_the_interface_switches_to_chinese_and_the_story_keeps_its_language(open_page: Open) -> None:
    page = open_page("writer")
    page.get_by_role("button", name="中文").click()
    expect(page.locator("html")).to_have_attribute("lang", "zh-hans")
    assert page.locator(".story").first.get_attribute("lang") in ("en", "zh")
    page.get_by_role("button", name="English").click()


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (360, "dark")])
def test_nothing_is_wider_than_the_screen_and_axe_finds_nothing(open_page: Open, width: int, scheme: str) -> None:
    from axe_core_python.sync_playwright import Axe

    page = open_page("writer", viewport={"width": width, "height": 800}, color_scheme=scheme, bypass_csp=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    found = Axe().run(page)["violations"]
    assert [(v["id"], v["nodes"][0]["html"]) for v in found] == []


def test_pages_ask_no_other_host_and_break_no_policy(open_page: Open, demo: Demo) -> None:
    page = open_page("writer")
    asked, said = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.goto("/judge/")
    page.keyboard.press("1")
    go_on(page, lambda: page.keyboard.press("Enter"))
    assert {url for url in asked if not url.startswith(demo.url)} == set()
    assert said == []
