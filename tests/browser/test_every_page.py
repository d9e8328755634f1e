"""Every page of judging: fits the screen, can be read by everybody, asks nobody else, and gives nothing away."""

import re
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest
from axe_core_python.sync_playwright import Axe
from playwright.sync_api import Page, Request, Route, expect

from tests.browser import desk
from tests.browser.conftest import Demo, go_on

pytestmark = pytest.mark.slow
Open = Callable[..., Page]
TEXTS = ["The red hat flew. It was late.", "The green hat stayed.", "The blue hat sang.", "The old hat slept."]
# the browser's own note of an answer that is not 2xx; the page shows it
EXPECTED = re.compile(r"the server responded with a status of (409|422)")
# axe looks at the last width: light on the English desktop, dark on the Chinese phone
LOOKS = [("en", "light", (360, 1280)), ("zh-hans", "dark", (1280, 360))]

# this axe (4.4.3) takes what lies in a closed fold for visible, and for the background of what lies behind it
HIDE_CLOSED = """(hide) => {
  const closed = document.querySelectorAll(hide ? "details:not([open]) > :not(summary)" : "[data-was-closed]");
  for (const element of closed) {
    element.toggleAttribute("data-was-closed", hide);
    element.hidden = hide;
  }
}"""


def faults(page: Page, state: str, widths: tuple[int, int]) -> list[str]:
    """What is wrong with the page as it stands."""
    found = []
    for width in widths:
        page.set_viewport_size({"width": width, "height": 800})
        if (actual := page.evaluate("document.documentElement.scrollWidth")) > width:
            found.append(f"{state}: {actual} wide at {width}")
    page.evaluate(HIDE_CLOSED, True)
    for violation in Axe().run(page)["violations"]:
        nodes = [(node["html"][:200], node["failureSummary"].splitlines()[1].strip()) for node in violation["nodes"]]
        found += [f"{state}: {violation['id']} {html} {why}" for html, why in nodes]
    page.evaluate(HIDE_CLOSED, False)
    return found


def said_by(page: Page) -> list[str]:
    """What the browser complains of from now on, and who else is asked."""
    said: list[str] = []
    own = urlsplit(page.url).netloc

    def asked(request: Request) -> None:
        if urlsplit(request.url).netloc != own:
            said.append(request.url)

    page.on("request", asked)
    page.on("console", lambda message: None if EXPECTED.search(message.text) else said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    return said


def a_look(open_page: Open, name: str, language: str, scheme: str, **options: object) -> Page:
    page = open_page(name, "/judge/guidelines/", reduced_motion="reduce", color_scheme=scheme, **options)
    host = urlsplit(page.url).hostname or ""
    page.context.add_cookies([{"name": "django_language", "value": language, "domain": host, "path": "/"}])
    return page


def expert_states(page: Page, demo: Demo, name: str) -> Iterator[str]:
    """Lead the page through all that an expert can see."""
    for address in ("guidelines", "mine", "summary"):
        page.goto(f"/judge/{address}/")
        yield address
    key = desk.hand_out(demo, name, desk.write_comparison(demo, TEXTS))
    yield from _states_before_the_answer(page)
    yield from _states_after_the_answer(page, key)
    demo.change(
        "INSERT INTO annotate_assignment (key, comparison_id, expert_id, kind, shown, minimum_seconds, opened_at, "
        f"version, skipped_at) SELECT gen_random_uuid(), id, {desk.EXPERT}, 'ordinary', '{{}}', 0, now(), 0, now() "
        "FROM annotate_comparison ON CONFLICT DO NOTHING",
        name,
    )
    desk.clear(demo, name)
    page.goto("/judge/")
    page.locator("#work.narrow").wait_for()
    yield "nothing to judge"
    demo.change("DELETE FROM annotate_assignment WHERE shown = '{}'")


def _states_before_the_answer(page: Page) -> Iterator[str]:
    page.goto("/judge/")
    page.keyboard.press("1")
    page.keyboard.press("c")
    page.keyboard.press("m")
    page.locator(".sentence").nth(0).click()
    page.locator(".sentence").nth(1).click(click_count=2)
    page.keyboard.press("o")
    page.keyboard.press("Space")
    page.evaluate("document.querySelectorAll('details').forEach((fold) => { fold.open = true; })")
    expect(page.locator(".guide dl").first).to_be_visible()
    yield "judge, all of it open"
    page.evaluate("document.querySelectorAll('details').forEach((fold) => { fold.open = false; })")
    page.locator("[data-open-keys]").click()
    yield "keys"
    page.keyboard.press("Escape")
    page.goto("/judge/mine/")
    page.goto("/judge/")
    other = page.context.new_page()
    other.goto("/judge/")
    other.keyboard.press("2")
    expect(other.locator("#draft-status")).not_to_be_empty()
    other.close()
    page.keyboard.press("3")
    page.locator(".conflict").wait_for()
    yield "two tabs, a draft"
    page.locator(".conflict a.button").click()
    expect(page.locator(".conflict")).to_have_count(0)
    page.wait_for_load_state()
    page.locator("#order").evaluate("(fold) => { fold.open = true; }")
    page.locator("[data-order-clear]").click()
    page.locator("input[name=best]:checked").evaluate("(radio) => { radio.checked = false; }")
    page.keyboard.press("Enter")
    page.locator(".error[role=alert]:visible").wait_for()
    yield "an empty answer"


def _states_after_the_answer(page: Page, key: str) -> Iterator[str]:
    page.keyboard.press("1")
    go_on(page, lambda: page.keyboard.press("Enter"))
    page.locator(".toast summary").click()
    page.locator(".toast table").wait_for()
    yield "saved"
    page.goto(f"/judge/{key}/")
    yield "judged"
    page.goto(f"/judge/{key}/edit/")
    yield "edit"
    other = page.context.new_page()
    other.goto(f"/judge/{key}/edit/")
    other.keyboard.press("2")
    go_on(other, lambda: other.keyboard.press("Enter"))
    other.close()
    page.keyboard.press("4")
    page.keyboard.press("Enter")
    page.locator(".conflict").wait_for()
    yield "two tabs, a submit"
    page.goto("/judge/mine/")
    yield "mine, with answers"
    page.goto("/judge/summary/")
    yield "summary, with answers"


def practice_states(page: Page) -> Iterator[str]:
    page.goto("/judge/")
    yield "practice"
    page.keyboard.press("Enter")
    page.locator(".error").wait_for()
    page.wait_for_load_state()
    yield "practice without a choice"
    page.keyboard.press("1")
    page.keyboard.press("Enter")
    page.locator(".tag").first.wait_for()
    yield "explanation"


def admin_states(page: Page, demo: Demo) -> Iterator[str]:
    agreed, opposed = desk.untouched(demo), 0
    for name in ("educator-11", "parent-11"):
        desk.judge(demo, name, agreed, [1, 2, 3, 4])
    opposed = desk.untouched(demo)
    for name, ranks in (("educator-11", [1, 2, 3, 4]), ("parent-11", [4, 3, 2, 1])):
        desk.judge(demo, name, opposed, ranks)
    demo.change(
        "INSERT INTO annotate_report (assignment_id, subject, note, created_at, outcome) SELECT id, 'cannot_rank', "
        "'They are in two languages.', now(), '' FROM annotate_assignment WHERE answered_at IS NOT NULL "
        "AND comparison_id = %s",
        opposed,
    )
    demo.change(
        "UPDATE annotate_report SET outcome = 'dismissed', settled_at = now(), settled_by_id = "
        "(SELECT id FROM auth_user WHERE username = 'admin') WHERE id = (SELECT max(id) FROM annotate_report)"
    )
    page.goto("/judging/gold/")
    page.locator("form[action*='gold/add'] button").first.click()
    page.locator("form[action*='gold/remove'] button").first.wait_for()
    for address in ("", "experts/", "reports/", "disagreements/", "gold/"):
        page.goto(f"/judging/{address}")
        page.evaluate("document.querySelectorAll('details').forEach((fold) => { fold.open = true; })")
        yield f"judging/{address}"
    for address in ("people", "account", "account/second-factor", "account/leave"):
        page.goto(f"/{address}/")
        yield address
    page.goto("/judging/")
    page.locator("input[name=gold_every]").fill("3")
    page.locator("input[name=repeat_every]").fill("3")
    page.locator("main button.primary").click()
    page.locator(".errorlist").wait_for()
    yield "settings with a mistake"


def verdict_on(page: Page, states: Iterator[str], widths: tuple[int, int]) -> str:
    said, found = said_by(page), []
    for state in states:
        found += faults(page, state, widths)
    return "\n".join(sorted({*found, *said}))


@pytest.mark.parametrize(("language", "scheme", "widths"), LOOKS)
def test_an_experts_pages_fit_the_screen_suit_everybody_and_ask_nobody_else(
    open_page: Open, demo: Demo, language: str, scheme: str, widths: tuple[int, int]
) -> None:
    name = f"educator-{language[:2]}"
    page = a_look(open_page, name, language, scheme)
    assert verdict_on(page, expert_states(page, demo, name), widths) == ""


@pytest.mark.parametrize(("language", "scheme", "widths"), LOOKS)
def test_the_calibration_pages_fit_the_screen_suit_everybody_and_ask_nobody_else(
    open_page: Open, demo: Demo, language: str, scheme: str, widths: tuple[int, int]
) -> None:
    page = a_look(open_page, desk.unpractised(demo, "parent-12"), language, scheme, as_is=True)
    assert verdict_on(page, practice_states(page), widths) == ""


@pytest.mark.parametrize(("language", "scheme", "widths"), LOOKS)
def test_the_admins_pages_fit_the_screen_suit_everybody_and_ask_nobody_else(
    open_page: Open, demo: Demo, language: str, scheme: str, widths: tuple[int, int]
) -> None:
    page = a_look(open_page, "admin", language, scheme)
    assert verdict_on(page, admin_states(page, demo), widths) == ""


def test_nothing_that_the_browser_receives_says_who_wrote_a_story(open_page: Open, demo: Demo) -> None:
    received: list[tuple[str, str]] = []  # path, everything

    def record(route: Route) -> None:
        response = route.fetch(max_redirects=0)
        headers = " ".join(header["value"] for header in response.headers_array)
        received.append((urlsplit(response.url).path, f"{response.url} {headers} {response.text()}"))
        route.fulfill(response=response)

    page = open_page("writer", "/judge/guidelines/")
    page.context.route(re.compile(r"^(?!.*/static/)"), record)
    judge_everything(page, desk.hand_out(demo, "writer", desk.write_comparison(demo, TEXTS)))
    paths = {path.rstrip("/").rsplit("/", 1)[-1] for path, _ in received}
    assert paths >= {"judge", "draft", "submit", "readability", "edit", "undo", "skip", "mine", "summary", "guidelines"}
    secret = re.compile(  # the demo's writer may tell of a seed in a pot
        rf"{desk.SECRET[:7]}|5ec2e7|{str(desk.SECRET_NUMBERS)[:5]}\d{{4}}|0\.[79]375"
        r"|evaluation|baseline|temperature|\bseeds?\b(?! in a pot)|weights|\bpolicy|\bpolicies",
        re.IGNORECASE,
    )
    assert {(path, word) for path, text in received for word in secret.findall(text)} == set()


def judge_everything(page: Page, key: str) -> None:
    """All that an expert can do with one comparison."""
    page.goto("/judge/")
    page.keyboard.press("1")
    expect(page.get_by_text("Draft saved")).to_be_visible()
    go_on(page, lambda: page.keyboard.press("Enter"))
    page.get_by_text("How easy to read were they?").click()
    expect(page.get_by_role("region", name="Readability")).to_be_visible()
    for address in (f"{key}/", "mine/", "summary/", "guidelines/", f"{key}/edit/"):
        page.goto(f"/judge/{address}")
    other = page.context.new_page()
    other.goto(f"/judge/{key}/edit/")
    other.keyboard.press("2")
    go_on(other, lambda: other.keyboard.press("Enter"))
    page.keyboard.press("3")
    page.keyboard.press("Enter")
    page.locator(".conflict").wait_for()
    page.goto(f"/judge/{key}/")
    page.get_by_role("button", name="Take it back").click()
    page.locator("#judgement").wait_for()
    page.wait_for_load_state()
    go_on(page, lambda: page.keyboard.press("Backspace"))
