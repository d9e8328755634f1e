"""The admins' pages about writing: the plan, and a run that is watched. What a worker would do is done by SQL."""

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Demo
from tests.browser.test_every_page import LOOKS, a_look, verdict_on

pytestmark = pytest.mark.slow
Open = Callable[..., Page]


@pytest.fixture
def run(demo: Demo) -> Iterator[int]:
    """A run at work, of which 30 of 400 stories are written."""
    demo.change(
        "INSERT INTO generation_writingrun (policy_id, count, engine, state, message, wanted, stored, cut_off, "
        "started_at, seen_at) SELECT id, 4, 'transformers', 'running', '', 400, 30, 2, now(), now() "
        "FROM generation_policy WHERE is_current"
    )
    number = demo.one("SELECT max(id) FROM generation_writingrun")
    demo.change("INSERT INTO generation_redraw (run_id, fault, draws) VALUES (%s, 'near', 9)", number)
    demo.change(
        "INSERT INTO generation_emptyplace (run_id, prompt_id, sample_index, fault) "
        "SELECT %s, id, 1, 'language' FROM generation_prompt ORDER BY id LIMIT 3",
        number,
    )
    yield number
    for table in ("redraw", "emptyplace"):
        demo.change(f"DELETE FROM generation_{table} WHERE run_id = %s", number)
    demo.change("DELETE FROM generation_writingrun WHERE id = %s", number)


@pytest.fixture
def _default_plan(demo: Demo) -> Iterator[None]:
    yield
    demo.change("DELETE FROM generation_samplingrow")


@pytest.mark.usefixtures("_default_plan")
def test_an_admin_changes_the_plan_and_takes_it_back(open_page: Open) -> None:
    page = open_page("admin", "/writing/plan/")
    heat = page.get_by_label("Story 1: Temperature")
    heat.fill("1.0")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Saved. It holds for the stories")).to_be_visible()
    expect(page.get_by_text("Stories 1, 2 are drawn in the same way")).to_be_visible()
    expect(heat).to_have_value("1.0")
    page.get_by_role("button", name="Back to the defaults").click()
    expect(heat).to_have_value("0.9")


def test_a_run_moves_without_reloading_and_can_be_cancelled(open_page: Open, demo: Demo, run: int) -> None:
    page = open_page("admin", "/writing/")
    shown = page.get_by_role("article", name=f"Run {run}")
    expect(shown).to_contain_text("30 of 400 stories")
    page.evaluate("window.sameDocument = true")
    demo.change("UPDATE generation_writingrun SET stored = 120, seen_at = now() WHERE id = %s", run)
    expect(shown).to_contain_text("120 of 400 stories")
    demo.change("UPDATE generation_writingrun SET seen_at = now() - interval '5 minutes' WHERE id = %s", run)
    expect(shown).to_contain_text("No worker since")
    expect(shown.get_by_role("button", name="Continue")).to_be_visible()
    assert page.evaluate("window.sameDocument")
    shown.get_by_role("button", name="Cancel").click()
    expect(shown).to_contain_text("cancelled")
    expect(shown.get_by_role("button")).to_have_count(0)


def states(page: Page, run: int) -> Iterator[str]:
    for address in ("", f"runs/{run}/", "plan/"):
        page.goto(f"/writing/{address}")
        yield f"writing/{address}"
    page.locator("#plan-form").evaluate("(form) => { form.noValidate = true; }")
    page.locator("#id_story-2-temperature").fill("7")
    page.locator("button.primary").click()
    page.locator(".errorlist").wait_for()
    yield "a plan with a mistake"


@pytest.mark.parametrize(("language", "scheme", "widths"), LOOKS)
def test_its_pages_fit_the_screen_suit_everybody_and_ask_nobody_else(
    open_page: Open, run: int, language: str, scheme: str, widths: tuple[int, int]
) -> None:
    page = a_look(open_page, "admin", language, scheme)
    assert verdict_on(page, states(page, run), widths) == ""
