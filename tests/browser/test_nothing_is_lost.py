"""What can go wrong between an expert and the database, and that no answer is lost or doubled by it."""

import json
from collections.abc import Callable

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from tests.browser import desk
from tests.browser.conftest import Demo, go_on, log_in

pytestmark = pytest.mark.slow
Open = Callable[..., Page]
DRAFT = f"SELECT d.fields->>%s FROM annotate_draft d WHERE d.assignment_id IN ({desk.UNANSWERED})"
HISTORY = (
    "SELECT string_agg(r.act, ' ' ORDER BY r.number) FROM annotate_revision r "
    "JOIN annotate_assignment a ON a.id = r.assignment_id WHERE a.key = %s"
)


def key_of(page: Page) -> str:
    """The key of the comparison on the page."""
    return (page.locator("#judgement").get_attribute("data-draft") or "").split("/")[2]


def best(page: Page) -> str:
    return page.locator("input[name=best]:checked").input_value()


def history(demo: Demo, key: str) -> str:
    """What was done to an answer, as its revisions say."""
    return demo.one(HISTORY, key)


def store(*values: object) -> str:
    return json.dumps([str(value) for value in values])


def test_everything_entered_is_there_after_going_away_and_coming_back(open_page: Open, demo: Demo) -> None:
    page = open_page("educator", "/judge/guidelines/")
    desk.hand_out(demo, "educator", desk.write_comparison(demo, ["A red hat. It flew.", "A green hat.", "A blue hat."]))
    page.goto("/judge/")
    page.keyboard.press("m")
    page.locator(".sentence", has_text="It flew.").click()
    page.keyboard.press("2")
    page.keyboard.press("c")
    page.keyboard.press("o")
    page.get_by_role("button", name="This is my order").click()
    page.get_by_label("children learn from it").check(force=True)
    page.get_by_text("Which story wins by each criterion? (optional)").click()
    page.get_by_role("group", name="Language fits the age").get_by_label("Story 3").check(force=True)
    page.get_by_text("Improve the best story (optional)").click()
    expect(page.locator("#improved")).to_have_value("A green hat.")  # the best story's text comes when it has opened
    page.locator("#improved").fill("A hat, improved.")
    page.keyboard.press("Tab")
    page.locator("#report summary").click()
    page.locator("input[name=unsafe][value='1']").check(force=True)
    page.get_by_label("Why? (optional)").fill("It ends well.")
    expect(page.get_by_text("Draft saved")).to_be_visible()
    demo.wait_for(store("It ends well."), DRAFT, "reason", "educator")
    entered = page.evaluate("[...new FormData(document.getElementById('judgement'))].slice(4)")
    page.goto("/judge/mine/")
    page.goto("/judge/")
    assert page.evaluate("[...new FormData(document.getElementById('judgement'))].slice(4)") == entered
    expect(page.locator(".sentence[data-mark=good]")).to_have_text("It flew.")
    assert [item.get_attribute("data-position") for item in page.locator(".order li").all()] == ["2", "1", "3"]
    assert demo.query(DRAFT, "improved", "educator") == [(store("A hat, improved."),)]


def test_what_was_entered_last_is_kept_when_the_page_is_left_at_once(open_page: Open, demo: Demo) -> None:
    page = open_page("educator")
    page.clock.install()
    page.goto("/judge/")
    page.clock.pause_at("2100-01-01")  # no timer comes any more: only leaving the page can save
    page.get_by_label("Why? (optional)").fill("Left at once.")
    page.goto("/judge/mine/")
    demo.wait_for(store("Left at once."), DRAFT, "reason", "educator")
    page.goto("/judge/")
    expect(page.get_by_label("Why? (optional)")).to_have_value("Left at once.")


def test_a_draft_that_cannot_be_saved_says_so_and_is_tried_again(open_page: Open, demo: Demo) -> None:
    page = open_page("educator")
    page.context.set_offline(True)
    page.get_by_label("Why? (optional)").fill("Written in a tunnel.")
    expect(page.get_by_text("Draft not saved; it will be tried again.")).to_be_visible()
    expect(page.get_by_label("Why? (optional)")).to_have_value("Written in a tunnel.")
    assert demo.query(DRAFT, "reason", "educator") == []
    page.context.set_offline(False)
    expect(page.get_by_text("Draft saved")).to_be_visible()
    assert demo.query(DRAFT, "reason", "educator") == [(store("Written in a tunnel."),)]


def test_a_browser_closed_while_offline_still_has_what_was_entered(
    open_page: Open, demo: Demo, browser: Browser
) -> None:
    page = open_page("educator")
    page.keyboard.press("3")
    expect(page.get_by_text("Draft saved")).to_be_visible()
    page.context.set_offline(True)
    page.get_by_label("Why? (optional)").fill("The battery is nearly empty.")
    expect(page.get_by_text("Draft not saved; it will be tried again.")).to_be_visible()
    kept = page.context.storage_state()
    page.context.close()
    context = browser.new_context(base_url=demo.url, storage_state=kept)
    again = context.new_page()
    again.clock.install()
    again.goto("/judge/guidelines/")
    again.clock.pause_at("2100-01-01")  # not sent on before it was seen
    again.goto("/judge/")
    expect(again.get_by_text("Restored from this browser")).to_be_visible()
    expect(again.get_by_label("Why? (optional)")).to_have_value("The battery is nearly empty.")
    assert best(again) == "3"
    again.clock.resume()
    demo.wait_for(store("The battery is nearly empty."), DRAFT, "reason", "educator")
    context.close()


def test_a_submit_without_a_connection_keeps_the_page_and_can_be_repeated(open_page: Open, demo: Demo) -> None:
    page = open_page("writer")
    before, key = desk.count(demo, "writer"), key_of(page)
    page.keyboard.press("1")
    page.get_by_label("Why? (optional)").fill("Still here.")
    page.context.set_offline(True)
    page.get_by_role("button", name="Save and go on").click()
    expect(page.get_by_text("Not saved: the server could not be reached.")).to_be_visible()
    assert best(page) == "1"
    expect(page.get_by_label("Why? (optional)")).to_have_value("Still here.")
    assert desk.count(demo, "writer") == before
    page.context.set_offline(False)
    go_on(page, page.get_by_role("button", name="Save and go on").click)
    expect(page.locator("#not-saved")).to_be_hidden()
    assert (desk.count(demo, "writer"), history(demo, key)) == (before + 1, "submitted")


def test_a_submit_that_the_server_fails_at_keeps_the_page_and_can_be_repeated(open_page: Open, demo: Demo) -> None:
    page = open_page("writer")
    before, key = desk.count(demo, "writer"), key_of(page)
    page.route("**/submit/", lambda route: route.fulfill(status=500, body="<h1>Server Error</h1>"), times=1)
    page.keyboard.press("2")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Not saved: the server could not be reached.")).to_be_visible()
    assert best(page) == "2"
    assert "Server Error" not in page.content()
    go_on(page, lambda: page.keyboard.press("Enter"))
    assert (desk.count(demo, "writer"), history(demo, key)) == (before + 1, "submitted")


def test_an_answer_whose_receipt_was_lost_is_not_stored_twice(open_page: Open, demo: Demo) -> None:
    def lose_receipt(route: Route) -> None:
        route.fetch()
        route.abort("connectionreset")

    page = open_page("writer")
    before, key = desk.count(demo, "writer"), key_of(page)
    page.route("**/submit/", lose_receipt, times=1)
    page.keyboard.press("2")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Not saved: the server could not be reached.")).to_be_visible()
    go_on(page, lambda: page.keyboard.press("Enter"))
    expect(page.get_by_text("This judgement had been saved before; the first one stands.")).to_be_visible()
    assert (desk.count(demo, "writer"), history(demo, key)) == (before + 1, "submitted")


def test_a_double_click_is_one_judgement(open_page: Open, demo: Demo) -> None:
    page = open_page("writer")
    before, key = desk.count(demo, "writer"), key_of(page)
    page.keyboard.press("1")
    go_on(page, page.get_by_role("button", name="Save and go on").dblclick)
    assert (desk.count(demo, "writer"), history(demo, key)) == (before + 1, "submitted")


def test_a_request_sent_twice_is_one_judgement(open_page: Open, demo: Demo) -> None:
    page = open_page("writer")
    before, key = desk.count(demo, "writer"), key_of(page)
    sent = {
        name: page.locator(f"#judgement input[name={name}]").input_value()
        for name in ("page", "version", "csrfmiddlewaretoken")
    }
    form = {**sent, "best": "1", "verdict": "ranked"}
    first = page.request.post(f"/judge/{key}/submit/", form=form)
    second = page.request.post(f"/judge/{key}/submit/", form=form)
    other = page.request.post(f"/judge/{key}/submit/", form={**form, "best": "2"})
    assert (first.status, second.status, other.status) == (200, 200, 409)
    assert (desk.count(demo, "writer"), history(demo, key)) == (before + 1, "submitted")
    assert desk.ranks_of(demo, "writer")[1] == 1


def test_somebody_logged_out_logs_in_again_in_another_tab_and_saves(open_page: Open, demo: Demo) -> None:
    page = open_page("writer-out")
    page.keyboard.press("2")
    demo.change("DELETE FROM django_session WHERE session_key = %s", cookie(page, "sessionid"))
    page.keyboard.press("Enter")
    expect(page.get_by_text("Not saved: you were logged out.")).to_be_visible()
    assert best(page) == "2"
    log_in(page.context.new_page(), demo, "writer-out")
    go_on(page, lambda: page.keyboard.press("Enter"))
    assert desk.ranks_of(demo, "writer-out")[2] == 1


def cookie(page: Page, name: str) -> str:
    return next(found["value"] for found in page.context.cookies() if found["name"] == name)


def two_tabs(open_page: Open, name: str) -> tuple[Page, Page]:
    """Both with the same comparison; in the first story 1 was chosen since, and is saved as a draft."""
    first = open_page(name)
    second = first.context.new_page()
    second.goto("/judge/")
    first.keyboard.press("1")
    expect(first.get_by_text("Draft saved")).to_be_visible()
    return first, second


def test_what_was_entered_last_is_kept_when_undo_leads_elsewhere_at_once(open_page: Open, demo: Demo) -> None:
    page = open_page("writer")
    go_on(page, lambda: page.keyboard.press("t"))
    key = key_of(page)
    page.get_by_label("Why? (optional)").fill("Half a thought.")
    go_on(page, page.get_by_role("button", name="Undo").click)
    page.goto(f"/judge/{key}/")
    expect(page.get_by_label("Why? (optional)")).to_have_value("Half a thought.")


def test_while_an_answer_is_on_its_way_no_other_can_be_sent(open_page: Open) -> None:
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page = open_page("writer")
    page.route("**/submit/", hold)
    answers = page.locator("#judgement .acts.sticky button[name=verdict]:enabled")
    expect(answers).to_have_count(4)
    page.keyboard.press("1")
    page.keyboard.press("Enter")
    expect(answers).to_have_count(0)
    go_on(page, held[0].continue_)
    expect(answers).to_have_count(4)


def test_two_tabs_show_both_versions_and_this_pages_can_be_kept(open_page: Open, demo: Demo) -> None:
    _, second = two_tabs(open_page, "parent")
    with second.expect_response("**/draft/") as answer:
        second.keyboard.press("2")
    assert answer.value.status == 409
    conflict = second.locator(".conflict")
    expect(conflict).to_contain_text("Best: story 1")
    expect(conflict).to_contain_text("Best: story 2")
    assert demo.query(DRAFT, "best", "parent") == [(store(1),)]
    conflict.get_by_role("button", name="Keep this page's").click()
    demo.wait_for(store(2), DRAFT, "best", "parent")
    expect(conflict).to_have_count(0)
    go_on(second, lambda: second.keyboard.press("Enter"))
    assert desk.ranks_of(demo, "parent")[2] == 1


def test_two_tabs_show_both_versions_and_the_other_tabs_can_be_taken(open_page: Open, demo: Demo) -> None:
    _, second = two_tabs(open_page, "parent")
    second.keyboard.press("2")
    second.get_by_role("link", name="Take the other tab's").click()
    expect(second.locator(".conflict")).to_have_count(0)
    second.wait_for_load_state()
    assert best(second) == "1"
    go_on(second, lambda: second.keyboard.press("Enter"))
    assert desk.ranks_of(demo, "parent")[1] == 1


def test_an_answer_from_a_tab_that_knows_nothing_of_the_others_replaces_it_only_when_sent_again(
    open_page: Open, demo: Demo
) -> None:
    first, second = two_tabs(open_page, "parent")
    key = key_of(first)
    go_on(first, lambda: first.keyboard.press("Enter"))
    second.keyboard.press("3")
    with second.expect_response("**/submit/") as answer:
        second.keyboard.press("Enter")
    assert answer.value.status == 409
    expect(second.locator(".conflict")).to_contain_text("Best: story 1")
    expect(second.locator(".conflict")).to_contain_text("Best: story 3")
    assert best(second) == "3"
    assert (desk.ranks_of(demo, "parent")[1], history(demo, key)) == (1, "submitted")
    go_on(second, second.get_by_role("button", name="Save the change").click)
    assert (desk.ranks_of(demo, "parent")[3], history(demo, key)) == (1, "submitted edited")


def test_a_place_that_somebody_else_took_meanwhile_costs_neither_the_draft_nor_the_answer(
    open_page: Open, demo: Demo
) -> None:
    late, quick = open_page("educator", "/judge/guidelines/"), open_page("parent", "/judge/guidelines/")
    comparison = desk.write_comparison(demo, ["A red hat.", "A green hat.", "A blue hat."])
    key = desk.hand_out(demo, "educator", comparison)
    late.goto("/judge/")
    late.keyboard.press("3")
    late.get_by_label("Why? (optional)").fill("I was called away.")
    expect(late.get_by_text("Draft saved")).to_be_visible()
    # the hour is over, and the place comes first in the queue
    demo.change(
        "UPDATE annotate_place SET held_until = now() - interval '1 minute', number = 0, draw_order = -1 "
        "WHERE comparison_id = %s",
        comparison,
    )
    quick.goto("/judge/")
    expect(quick.locator(".story", has_text="A green hat.")).to_be_visible()
    quick.keyboard.press("1")
    go_on(quick, lambda: quick.keyboard.press("Enter"))
    assert desk.newest(demo, "parent", "extra") is False
    late.goto("/judge/mine/")
    late.goto(f"/judge/{key}/")
    expect(late.get_by_label("Why? (optional)")).to_have_value("I was called away.")
    assert best(late) == "3"
    go_on(late, lambda: late.keyboard.press("Enter"))
    expect(late.get_by_text("Saved as an extra: others had filled this comparison in the meantime.")).to_be_visible()
    assert desk.newest(demo, "educator", "extra") is True
    assert desk.newest(demo, "educator", "reason") == "I was called away."


def test_the_back_button_after_a_submit_shows_the_answer_and_stores_none_again(open_page: Open, demo: Demo) -> None:
    page = open_page("parent")
    go_on(page, lambda: page.keyboard.press("Backspace"))
    page.keyboard.press("2")
    go_on(page, lambda: page.keyboard.press("Enter"))
    before = desk.count(demo, "parent")
    page.go_back()
    expect(page.get_by_text("You have judged that comparison already.")).to_be_visible()
    expect(page.get_by_text("Best: story 2")).to_be_visible()
    page.go_forward()
    expect(page.get_by_role("heading", name="Which story is best?")).to_be_visible()
    assert desk.count(demo, "parent") == before


def test_a_page_reached_by_the_back_button_works_like_any_other(open_page: Open, demo: Demo) -> None:
    page = open_page("parent")
    go_on(page, lambda: page.keyboard.press("Backspace"))
    text = page.locator(".story").first.inner_text()
    go_on(page, lambda: page.keyboard.press("Backspace"))
    page.go_back()
    expect(page.locator(".story").first).to_have_text(text, use_inner_text=True)
    expect(page.locator(".order li")).to_have_count(4)
    page.keyboard.press("m")
    page.locator(".sentence").first.click()
    expect(page.get_by_text("Draft saved")).to_be_visible()
    go_on(page, lambda: page.keyboard.press("t"))


def test_an_edit_adds_a_revision_and_keeps_the_first_answer_in_the_history(open_page: Open, demo: Demo) -> None:
    page = open_page("parent")
    key = key_of(page)
    page.keyboard.press("1")
    go_on(page, lambda: page.keyboard.press("Enter"))
    page.goto("/judge/mine/")
    page.get_by_role("link", name="Change").first.click()
    page.wait_for_url("**/edit/")
    assert best(page) == "1"
    page.keyboard.press("4")
    go_on(page, page.get_by_role("button", name="Save the change").click)
    assert desk.ranks_of(demo, "parent")[4] == 1
    assert history(demo, key) == "submitted edited"
    assert demo.one(
        "SELECT fields->'best' FROM annotate_revision r JOIN annotate_assignment a ON a.id = r.assignment_id "
        "WHERE a.key = %s AND number = (SELECT min(number) FROM annotate_revision WHERE assignment_id = a.id)",
        key,
    ) == ["1"]


def test_undo_by_its_key_takes_the_answer_back_and_shows_it_as_a_draft(open_page: Open, demo: Demo) -> None:
    page = open_page("parent")
    key, before = key_of(page), desk.count(demo, "parent")
    page.keyboard.press("2")
    page.get_by_label("Why? (optional)").fill("Too fast.")
    go_on(page, page.get_by_role("button", name="Save and go on").click)
    go_on(page, lambda: page.keyboard.press("u"))
    assert (key_of(page), best(page)) == (key, "2")
    expect(page.get_by_label("Why? (optional)")).to_have_value("Too fast.")
    assert (desk.count(demo, "parent"), history(demo, key)) == (before, "submitted undone")
    page.goto("/judge/mine/")
    page.goto("/judge/")
    assert (key_of(page), best(page)) == (key, "2")
    go_on(page, lambda: page.keyboard.press("Enter"))
    assert (desk.count(demo, "parent"), history(demo, key)) == (before + 1, "submitted undone submitted")
