"""The second factor: who needs one, setting it up, and that nothing goes past it (checklist 18 and 19)."""

import re

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value, yield_hotp_counters_from_time
from django.contrib.auth.models import User
from django.test import Client

from config.accounts import has_second_factor
from config.models import CacheEntry
from tests.config.people import PASSWORD, log_in, logged_in, make_admin, make_person
from tests.factories import make_expert

pytestmark = pytest.mark.django_db
PAGES = "/account/second-factor/"


@pytest.fixture(autouse=True)
def rule(settings) -> None:
    settings.SECOND_FACTOR = "admins"


def code_of(secret: str, steps: int = 0) -> str:
    """What an app shows now, or `steps` half minutes from now."""
    now = next(iter(yield_hotp_counters_from_time()))
    return format_hotp_value(hotp_value(secret, now + steps))


def set_up(client: Client) -> str:
    """The secret of an app that is switched on."""
    client.post("/account/confirm-it-is-you/", {"password": PASSWORD})
    page = client.get(PAGES + "totp/activate/").content.decode()
    secret = re.search(r'<code id="secret">(\w+)</code>', page)[1]
    assert "data:image/svg+xml;base64," in page
    assert client.post(PAGES + "totp/activate/", {"code": "000000"}).status_code == 200
    assert not Authenticator.objects.exists()
    response = client.post(PAGES + "totp/activate/", {"code": code_of(secret)})
    assert response.headers["Location"] == PAGES + "recovery-codes/"
    return secret


@pytest.fixture
def user() -> User:
    return make_person(is_staff=True)


@pytest.fixture
def secret(user: User) -> str:
    return set_up(log_in()[0])


def second(client: Client, code: str):
    return client.post(PAGES + "authenticate/", {"code": code})


def test_an_admin_without_one_reaches_nothing_else(user: User) -> None:
    client = log_in()[0]
    for page in ("/rounds/", "/people/", "/account/", "/account/tokens/", "/account/leave/", "/"):
        assert client.get(page).headers["Location"] == PAGES + "?first"
    assert "before you can go on" in client.get(PAGES + "?first").content.decode()
    assert client.post("/people/invite/", headers={"HX-Request": "true"}).status_code == 401
    set_up(client)
    assert client.get("/rounds/").status_code == 200
    assert "before you can go on" not in client.get(PAGES + "?first").content.decode()


def test_experts_need_none_unless_all_do(settings) -> None:
    client = logged_in(make_expert().user)
    assert client.get("/account/").status_code == 200
    settings.SECOND_FACTOR = "all"
    assert client.get("/account/").status_code == 302


def test_recovery_codes_alone_are_no_second_factor(user: User) -> None:
    Authenticator.objects.create(user=user, type="recovery_codes", data={"seed": "x"})
    assert not has_second_factor(user)
    assert logged_in(user).get("/rounds/").status_code == 302


def test_the_password_alone_opens_nothing(secret: str) -> None:
    client, response = log_in(next="/people/")
    assert response.headers["Location"] == PAGES + "authenticate/"
    assert "/log-in/" in client.get("/people/").headers["Location"]
    assert second(client, "000000").status_code == 200
    assert "/log-in/" in client.get("/people/").headers["Location"]
    assert second(client, code_of(secret, 1)).headers["Location"] == "/people/"
    assert client.get("/people/").status_code == 200


def test_a_code_of_the_app_works_once(secret: str) -> None:
    code = code_of(secret, 1)
    assert second(log_in()[0], code).status_code == 302
    assert second(log_in()[0], code).status_code == 200
    # allauth forgets it after half a minute, but it is good for one and a half
    assert CacheEntry.objects.filter(cache_key__contains="totp.used").delete()[0]
    for spelling in (code, f"{code[:3]} {code[3:]}"):
        assert second(log_in()[0], spelling).status_code == 200


def test_a_recovery_code_works_once(secret: str, user: User) -> None:
    code = Authenticator.objects.get(user=user, type="recovery_codes").wrap().get_unused_codes()[0]
    assert second(log_in()[0], code).status_code == 302
    assert second(log_in()[0], code).status_code == 200


def test_codes_are_not_guessed(secret: str) -> None:
    client = log_in()[0]
    for _ in range(5):
        second(client, "000000")
    assert second(client, code_of(secret, 1)).status_code == 200  # the right one comes too late
    assert "/log-in/" in client.get("/people/").headers["Location"]


def test_a_new_password_does_not_go_past_it(secret: str, user: User) -> None:
    page = logged_in(make_admin_with_factor()).post(f"/people/{user.pk}/reset-link/").content.decode()
    link = re.search(r'value="http://testserver(/account/password/reset/[^"]+)"', page)[1]
    client = Client()
    client.post(
        client.get(link).headers["Location"], {"password1": "eight foxes here", "password2": "eight foxes here"}
    )
    client, response = log_in(password="eight foxes here")
    assert response.headers["Location"] == PAGES + "authenticate/"
    assert client.get("/rounds/").status_code == 302


def make_admin_with_factor() -> User:
    boss = make_admin()
    Authenticator.objects.create(user=boss, type="totp", data={"secret": "s"})
    return boss


def test_an_admin_takes_away_what_somebody_has_lost(secret: str, user: User) -> None:
    boss = logged_in(make_admin_with_factor())
    page = boss.post(f"/people/{user.pk}/second-factor/remove/", follow=True).content.decode()
    assert "password alone" in page
    client, response = log_in()
    assert response.headers["Location"] == "/"
    assert client.get("/rounds/").headers["Location"] == PAGES + "?first"


def test_switching_off_wants_the_password_once_more(secret: str, user: User) -> None:
    client = log_in()[0]
    second(client, code_of(secret, 1))
    response = client.get(PAGES + "totp/deactivate/")
    assert "/account/confirm-it-is-you/" in response.headers["Location"]
    client.post("/account/confirm-it-is-you/", {"password": PASSWORD})
    client.post(PAGES + "totp/deactivate/")
    assert not Authenticator.objects.exists()
    assert client.get("/rounds/").status_code == 302


@pytest.mark.parametrize("page", ["", "recovery-codes/", "recovery-codes/generate/", "webauthn/", "webauthn/add/",
                                  "reauthenticate/", "totp/deactivate/", "recovery-codes/download/"])  # fmt: skip
def test_every_page_of_it_is_there(page: str, secret: str) -> None:
    client = log_in()[0]
    second(client, code_of(secret, 1))
    client.post("/account/confirm-it-is-you/", {"password": PASSWORD})
    response = client.get(PAGES + page)
    assert response.status_code == 200
    assert not [one.name for one in response.templates if "site-packages/allauth" in str(one.origin)]


def test_an_api_token_is_what_it_was(secret: str, user: User) -> None:
    from config.tokens import make_token
    from tests.config.api import Program

    assert Program(make_token(user=user, name="x", days=1)[1]).get("/me").status_code == 200
