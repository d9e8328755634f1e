"""A listening session on a phone's screen: by touch, by keyboard, without scripts; read by a voice of the device."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.browser import desk
from tests.browser.conftest import Demo
from tests.browser.test_every_page import faults, said_by

pytestmark = pytest.mark.slow
Open = Callable[..., Page]
PHONE = {"width": 360, "height": 740}
TEXTS = ["A hen found a hat. It was big.", "A fox found a drum. It was loud."]
# Debian's Chromium has no voice: one of the device, one of a server, and what either is asked to say
VOICES = """
window.spoken = [];
const voice = (name, localService) => ({ name, lang: "en-GB", localService, default: !localService });
const speech = new EventTarget();
speech.getVoices = () => [voice("of a server", false), voice("of the device", true)];
speech.cancel = () => {};
speech.speak = (said) => { window.spoken.push([said.text, said.voice.name]); };
Object.defineProperty(window, "speechSynthesis", { value: speech });
window.SpeechSynthesisUtterance = class { constructor(text) { this.text = text; } };
"""


def begin(page: Page, reader: str) -> None:
    page.locator("label", has_text="5-6").click()
    page.locator("label", has_text=reader).click()
    page.get_by_role("checkbox").check()
    page.get_by_role("button", name="Begin").press("Enter")
    page.get_by_text("The first story ·").wait_for()


def test_a_session_by_touch_fits_a_phone_suits_everybody_and_asks_nobody_else(open_page: Open, demo: Demo) -> None:
    desk.write_comparison(demo, TEXTS, places=0)
    page = open_page("parent-21", "/listen/", viewport=PHONE, has_touch=True, color_scheme="dark")
    said, found = said_by(page), faults(page, "start", (1280, 360))
    expect(page.get_by_text("has no voice of its own")).to_be_visible()
    expect(page.locator("label", has_text="A voice of this device")).to_be_hidden()
    begin(page, "I read them myself")
    found += faults(page, "story", (1280, 360))
    page.get_by_role("link", name="The second story").tap()
    page.get_by_role("link", name="This or that?").tap()
    pictures = page.locator(".this-or-that button")
    expect(pictures).to_have_count(2)
    found += faults(page, "this or that", (1280, 360))
    assert min(min(box["width"], box["height"]) for box in (p.bounding_box() for p in pictures.all())) >= 140
    pictures.nth(1).tap()
    page.locator("label", has_text="was absorbed").first.tap()
    found += faults(page, "notes", (1280, 360))
    with page.expect_navigation():
        page.get_by_role("button", name="Save and go on").tap()
    found += faults(page, "next", (1280, 360))
    page.get_by_role("button", name="That is all for today").tap()
    expect(page.get_by_role("heading", name="Thank you, both of you!")).to_be_visible()
    assert [*found, *said] == []
    kept = "SELECT outcome, engagement_first, (choice_id = first_id) <> first_on_left FROM annotate_listening"
    assert demo.query(f"{kept} ORDER BY id DESC LIMIT 1") == [("chosen", 5, True)]


def test_a_voice_of_the_device_reads_and_the_child_chooses_by_keyboard(open_page: Open, demo: Demo) -> None:
    desk.write_comparison(demo, TEXTS, places=0)
    page = open_page("parent-22", "/judge/guidelines/", viewport=PHONE)
    page.add_init_script(VOICES)
    page.goto("/listen/")
    begin(page, "A voice of this device")
    page.get_by_role("button", name="Read aloud").press("Enter")
    expect(page.get_by_role("button", name="Be quiet")).to_be_visible()
    paragraphs = page.locator(".story p").all_inner_texts()
    assert page.evaluate("spoken") == [[text, "of the device"] for text in paragraphs]
    page.get_by_role("link", name="The second story").press("Enter")
    page.get_by_role("link", name="This or that?").press("Enter")
    page.locator(".this-or-that button").first.focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    expect(page.get_by_role("heading", name="For you: how did the child listen?")).to_be_visible()
