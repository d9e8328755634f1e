"""A passkey of a virtual authenticator: added, used instead of name and password, and as the second factor."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser import desk
from tests.browser.conftest import Demo, log_in

pytestmark = pytest.mark.slow
NAME = "parent-passkey"
AUTHENTICATOR = {
    "protocol": "ctap2", "transport": "internal", "hasResidentKey": True, "hasUserVerification": True,
    "isUserVerified": True, "automaticPresenceSimulation": True,
}  # fmt: skip


@pytest.fixture
def page(browser: Browser, demo: Demo) -> Iterator[Page]:
    """At localhost: a passkey belongs to a name, never to an IP address."""
    if not demo.query("SELECT id FROM auth_user WHERE username = %s", NAME):
        desk.make_expert(demo, NAME)
    context = browser.new_context(base_url=f"http://localhost:{demo.port}/")
    yield context.new_page()
    context.close()


def test_a_passkey_replaces_the_password_and_is_the_second_factor(page: Page, demo: Demo) -> None:
    device = page.context.new_cdp_session(page)
    device.send("WebAuthn.enable")
    number = device.send("WebAuthn.addVirtualAuthenticator", {"options": AUTHENTICATOR})["authenticatorId"]
    log_in(page, demo, NAME)
    page.goto("/account/second-factor/webauthn/add/")
    page.get_by_label("Password").fill(demo.logins["parent"])
    page.get_by_role("button", name="Go on").click()
    page.get_by_label("It may replace name and password").check()
    page.get_by_role("button", name="Add it").click()
    expect(page.get_by_role("heading", name="Recovery codes")).to_be_visible()
    assert len(device.send("WebAuthn.getCredentials", {"authenticatorId": number})["credentials"]) == 1

    page.get_by_role("button", name="Log out").click()
    page.get_by_role("button", name="Use a passkey instead").click()
    expect(page.get_by_role("link", name=NAME)).to_be_visible()

    page.get_by_role("button", name="Log out").click()
    page.get_by_label("Name").fill(NAME)
    page.get_by_label("Password").fill(demo.logins["parent"])
    page.get_by_role("button", name="Log in", exact=True).click()
    page.get_by_role("button", name="Use my passkey").click()
    expect(page.get_by_role("link", name=NAME)).to_be_visible()

    page.get_by_role("button", name="Log out").click()
    device.send("WebAuthn.setUserVerified", {"authenticatorId": number, "isUserVerified": False})
    page.get_by_role("button", name="Use a passkey instead").click()
    expect(page.get_by_role("alert")).to_contain_text("was not used")
