"""The admins' side of judging: how it is set up, what is reported, who decides, what is known."""

import time
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Locator, Page, expect

from annotate.models.campaign import CACHED_SECONDS
from tests.browser import desk
from tests.browser.conftest import Demo, go_on

pytestmark = pytest.mark.slow
Open = Callable[..., Page]
TEXTS = ["The red hat.", "The green hat.", "The blue hat.", "The old hat."]


@pytest.fixture
def _campaign_as_before(demo: Demo) -> Iterator[None]:
    yield
    demo.change(
        "UPDATE annotate_campaign SET criteria = %s, criteria_required = false, practice = true, guidelines_en = ''",
        ["language_fit", "structure", "educational_value"],
    )
    every_process_asks_again()


def every_process_asks_again() -> None:
    """The web's processes keep the settings so long, and nothing shows when."""
    time.sleep(CACHED_SECONDS)


def panel(page: Page, comparison: int) -> Locator:
    return page.get_by_role("region", name=f"Comparison {comparison}", exact=True)


@pytest.mark.usefixtures("_campaign_as_before")
def test_criteria_guidelines_and_practice_are_as_the_admin_sets_them(open_page: Open, demo: Demo) -> None:
    admin = open_page("admin", "/judging/")
    admin.get_by_label("Clear beginning, middle and end").uncheck()
    admin.get_by_label("Creativity").check()
    admin.get_by_label("An answer by every criterion is required").check()
    admin.get_by_label("New experts practise first").uncheck()
    admin.get_by_label("Guidelines in English").fill("Read every story aloud first.")
    admin.get_by_role("button", name="Save").click()
    expect(admin.get_by_text("Saved. It holds from the next comparison on.")).to_be_visible()
    every_process_asks_again()
    page = open_page(desk.unpractised(demo, "parent-13"), "/judge/", as_is=True)
    expect(page.get_by_role("group", name="Creativity")).to_be_visible()
    expect(page.get_by_role("group", name="Clear beginning, middle and end")).to_have_count(0)
    page.locator(".guide summary").click()
    expect(page.get_by_text("Read every story aloud first.")).to_be_visible()
    page.keyboard.press("1")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Say which story wins by each criterion; missing:")).to_be_visible()
    for group in page.locator(".criteria fieldset").all():
        group.get_by_label("Story 2").check(force=True)
    go_on(page, lambda: page.keyboard.press("Enter"))
    assert desk.ranks_of(demo, "parent-13")[1] == 1


@pytest.mark.parametrize(("decision", "back"), [("Dismiss", True), ("Uphold", False)])
def test_an_unsafe_story_comes_back_only_if_its_report_is_dismissed(
    open_page: Open, demo: Demo, decision: str, back: bool
) -> None:
    page = open_page("writer", "/judge/guidelines/")
    comparison = desk.write_comparison(demo, TEXTS, places=2)
    desk.hand_out(demo, "writer", comparison)
    page.goto("/judge/")
    page.get_by_label("Why? (optional)").fill("The hat burns.")
    page.locator("#report summary").click()
    page.locator("input[name=unsafe][value='2']").check(force=True)
    go_on(page, page.get_by_role("button", name="Report as unsafe").click)
    withdrawn = "SELECT text FROM generation_story WHERE withdrawn_at IS NOT NULL AND id BETWEEN %s AND %s"
    assert demo.query(withdrawn, comparison, comparison + 9) == [("The blue hat.",)]
    admin = open_page("admin", "/judging/")
    admin.locator("main dd").get_by_role("link").first.click()
    report = admin.get_by_role("region", name="unsafe for children").last
    expect(report).to_contain_text("The hat burns.")
    expect(report).to_contain_text("The blue hat.")
    report.get_by_role("button", name=decision).click()
    expect(admin.get_by_text("Dismissed: the story is back in the queue." if back else "Upheld:")).to_be_visible()
    assert bool(demo.query(withdrawn, comparison, comparison + 9)) is not back
    expect(admin.get_by_role("row", name="The hat burns.").first).to_contain_text("admin")


def test_an_upheld_report_that_stories_cannot_be_ranked_closes_the_comparison(open_page: Open, demo: Demo) -> None:
    page = open_page("parent", "/judge/guidelines/")
    comparison = desk.write_comparison(demo, TEXTS, places=2)
    desk.hand_out(demo, "parent", comparison)
    page.goto("/judge/")
    page.get_by_label("Why? (optional)").fill("They are all one story.")
    page.locator("h1").click()
    go_on(page, lambda: page.keyboard.press("r"))
    admin = open_page("admin", "/judging/reports/")
    report = admin.get_by_role("region", name="cannot be ranked").filter(has_text="They are all one story.")
    report.get_by_role("button", name="Uphold").click()
    expect(admin.get_by_text("Upheld: the comparison is closed, nobody else is asked.")).to_be_visible()
    assert demo.one("SELECT closed_at IS NOT NULL FROM annotate_comparison WHERE id = %s", comparison)
    assert demo.one("SELECT count(*) FROM annotate_place WHERE wanted AND comparison_id = %s", comparison) == 0


def test_a_strong_disagreement_goes_to_an_adjudicator_who_judges_blind(open_page: Open, demo: Demo) -> None:
    comparison = desk.untouched(demo)
    for name, ranks in (("educator-11", [1, 2, 3, 4]), ("parent-11", [4, 3, 2, 1])):
        desk.judge(demo, name, comparison, ranks)
    decider = open_page("writer-11", "/judge/guidelines/")
    admin = open_page("admin", "/judging/disagreements/")
    found = panel(admin, comparison)
    expect(found).to_contain_text("Agreement on two stories: 0 %")
    expect(found.get_by_role("row", name="So says parent-11.")).to_be_visible()
    found.get_by_label("Adjudicator").select_option(label="writer-11 (writer)")
    found.get_by_role("button", name="Send to the adjudicator").click()
    expect(admin.get_by_text("writer-11 gets it as the next comparison.")).to_be_visible()
    expect(panel(admin, comparison)).to_have_count(0)
    expect(admin.get_by_role("row", name="waiting").filter(has_text=str(comparison))).to_be_visible()
    decider.goto("/judge/")
    assert "So says" not in decider.content()
    assert "adjudicat" not in decider.content()
    decider.keyboard.press("1")
    go_on(decider, lambda: decider.keyboard.press("Enter"))
    admin.goto("/judging/disagreements/")
    expect(admin.get_by_role("row", name="decided").filter(has_text=str(comparison))).to_be_visible()


def test_a_comparison_on_which_all_agree_becomes_a_known_answer_until_it_is_retired(
    open_page: Open, demo: Demo
) -> None:
    comparison = desk.untouched(demo)
    for name in ("educator-11", "parent-11"):
        desk.judge(demo, name, comparison, [2, 1, 3, 4])
    admin = open_page("admin", "/judging/gold/")
    expect(panel(admin, comparison)).to_contain_text("Best: B, worst: D.")
    panel(admin, comparison).get_by_role("button", name="Use as a known answer").click()
    expect(admin.get_by_text("It now comes up, silently, for experts who have never seen it.")).to_be_visible()
    in_use = "SELECT retired_at IS NULL FROM annotate_gold WHERE comparison_id = %s"
    assert demo.query(in_use, comparison) == [(True,)]
    panel(admin, comparison).get_by_role("button", name="Retire").click()
    expect(admin.get_by_text("Retired: it comes up no more")).to_be_visible()
    assert demo.query(in_use, comparison) == [(False,)]


def test_the_experts_page_gives_no_percentage_of_fewer_than_five(open_page: Open, demo: Demo) -> None:
    desk.judge(demo, "educator-13", desk.untouched(demo), [1, 2, 3, 4])
    admin = open_page("admin", "/judging/experts/")
    row = admin.get_by_role("row", name="educator-13")
    expect(row).to_contain_text("not enough yet")
    expect(row).to_contain_text("ranked 1")
    assert "%" not in row.inner_text()


def test_an_expert_finds_no_way_to_the_admins_pages(open_page: Open) -> None:
    page = open_page("educator")
    assert page.locator("a[href^='/judging/']").count() == 0
    for address in ("", "experts/", "reports/", "disagreements/", "gold/"):
        assert page.request.get(f"/judging/{address}").status == 403
