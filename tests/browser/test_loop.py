"""The whole loop, as people drive it: two rounds, the second launched by the beat.

The tests of this file are the stages of one story and run in their order.
"""

import time
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Demo

pytestmark = pytest.mark.slow
Open = Callable[..., Page]
ROUND_SECONDS = 400


def wait_until(demo: Demo, sql: str, wanted: object, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while (found := demo.query(sql)[0][0]) != wanted:
        assert time.monotonic() < deadline, f"{sql} is {found}, not {wanted}"
        time.sleep(0.5)


def let_simulated_experts_judge(page: Page, demo: Demo) -> None:
    page.goto("/rounds/")
    page.get_by_role("button", name="Let simulated experts judge what is open").click()
    open_places = (
        "SELECT count(*) FROM annotate_place p JOIN annotate_comparison c ON c.id = p.comparison_id "
        "LEFT JOIN annotate_judgement j ON j.assignment_id = p.assignment_id "
        "WHERE c.closed_at IS NULL AND p.assignment_id IS NULL"
    )
    wait_until(demo, open_places, 0, 120)


@pytest.fixture
def admin(open_page: Open) -> Iterator[Page]:
    return open_page("admin")


def test_an_admin_launches_a_round_and_watches_it_without_reloading(admin: Page, demo: Demo) -> None:
    let_simulated_experts_judge(admin, demo)
    admin.goto("/rounds/")
    admin.get_by_role("link", name="Set up a round").click()
    admin.get_by_label("Simulated experts count").check()
    everything = admin.locator("#side dd").first.inner_text()
    admin.get_by_label("Pairs of an order").select_option("adjacent")
    expect(admin.locator("#side dd").first).not_to_have_text(everything)  # by htmx
    admin.get_by_label("Pairs of an order").select_option("all")
    expect(admin.locator("#side dd").first).to_have_text(everything)
    admin.get_by_role("button", name="Launch", exact=True).click()
    expect(admin.get_by_role("heading", name="Round 1")).to_be_visible()
    figures = admin.locator("#live-now")
    expect(figures.get_by_text("rewards/accuracies")).to_be_visible(timeout=ROUND_SECONDS * 1000)
    expect(admin.get_by_role("button", name="Promote")).to_be_visible(timeout=ROUND_SECONDS * 1000)


def test_the_rounds_export_is_frozen_with_count_and_hash(admin: Page) -> None:
    import hashlib

    admin.goto("/rounds/1/")
    with admin.expect_download() as download:
        admin.get_by_role("link", name="download", exact=True).click()
    content = download.value.path().read_bytes()
    assert hashlib.sha256(content).hexdigest() in admin.content()
    pairs = admin.get_by_role("definition").filter(has=admin.get_by_role("link", name="download", exact=True))
    expect(pairs).to_contain_text(str(content.count(b"\n")))


def test_before_anybody_judged_the_win_rate_says_how_many_judgements_are_missing(admin: Page) -> None:
    admin.goto("/rounds/1/")
    expect(admin.get_by_text("not enough yet: 20 more").first).to_be_visible()


def test_a_person_judges_new_against_old_without_seeing_which_is_which(open_page: Open, demo: Demo) -> None:
    page = open_page("parent")
    for _ in range(200):
        if page.locator(".story").count() == 2:
            break
        page.keyboard.press("Backspace")
        page.wait_for_timeout(150)
    assert page.locator(".story").count() == 2
    html = page.content()
    for secret in ("round-1", "evaluation", "policy", "baseline"):
        assert secret not in html
    page.keyboard.press("1")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Saved. Thank you!")).to_be_visible()


def test_the_round_shows_its_win_rate_with_n_and_interval_and_what_is_simulated(admin: Page, demo: Demo) -> None:
    let_simulated_experts_judge(admin, demo)
    admin.goto("/rounds/1/")
    row = admin.get_by_role("row", name="base").first
    expect(row).to_contain_text("%")
    expect(row).to_contain_text("[")
    expect(row).to_contain_text("simulated")


def test_an_admin_promotes_and_the_new_policy_writes_from_now_on(admin: Page, demo: Demo) -> None:
    admin.goto("/rounds/1/")
    admin.get_by_role("button", name="Promote").click()
    expect(admin.get_by_text("Promoted: its stories are before the experts now.")).to_be_visible()
    assert demo.query("SELECT name FROM generation_policy WHERE is_current") == [("round-1",)]


def test_beat_launches_the_next_round_when_enough_new_pairs_are_there(admin: Page, demo: Demo) -> None:
    admin.goto("/rounds/schedules/")
    admin.get_by_label("Switched on").check()
    admin.get_by_label("Every … minutes").fill("1")
    admin.get_by_label("When there are at least this many new pairs").fill("50")
    admin.get_by_label("Simulated experts count", exact=True).check()
    admin.get_by_role("button", name="Add").click()
    expect(admin.get_by_text("The schedule is saved.")).to_be_visible()
    let_simulated_experts_judge(admin, demo)
    # the minute until it looks again is over; beat itself comes by every 20 seconds
    demo.change("UPDATE training_schedule SET next_at = next_at - interval '1 minute'")
    wait_until(demo, "SELECT count(*) FROM training_round", 2, 180)
    assert demo.query("SELECT launched_by_id FROM training_round WHERE number = 2") == [(None,)]


def test_the_second_round_starts_from_the_first_ones_policy_and_is_judged_against_the_base_too(
    admin: Page, demo: Demo
) -> None:
    wait_until(demo, "SELECT state FROM training_round WHERE number = 2", "judging", ROUND_SECONDS)
    let_simulated_experts_judge(admin, demo)
    admin.goto("/rounds/2/")
    for policy in ("round-1", "base"):
        expect(admin.get_by_role("row", name=policy).first).to_contain_text("%")


def test_the_rounds_page_is_sound_on_a_phone_and_for_a_screen_reader(open_page: Open) -> None:
    from axe_core_python.sync_playwright import Axe

    page = open_page("admin", viewport={"width": 360, "height": 800}, bypass_csp=True)
    for address in ("/rounds/", "/rounds/new/", "/rounds/2/"):
        page.goto(address)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        assert [(v["id"], v["nodes"][0]["html"]) for v in Axe().run(page)["violations"]] == []


def test_no_story_was_written_twice_and_each_has_its_own_sampling(demo: Demo) -> None:
    assert demo.query(
        "SELECT count(*) - count(DISTINCT (policy_id, prompt_id, sample_index)) FROM generation_story"
    ) == [(0,)]
    assert demo.query("SELECT count(*) - count(DISTINCT (policy_id, seed)) FROM generation_story") == [(0,)]
