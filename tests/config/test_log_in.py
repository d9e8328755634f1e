"""Logging in, how often it may be tried, how long it lasts (checklist 15-17, 20, 22 of anchors/operations.md)."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from unittest import mock

import pytest
from django.contrib.auth.hashers import MD5PasswordHasher
from django.core.cache import cache
from django.core.cache.backends.db import DatabaseCache
from django.test import Client
from django.utils import timezone

from config import middleware
from config.models import CacheEntry
from tests.apart import apart
from tests.config.people import PASSWORD, log_in, logged_in, make_admin, make_person
from tests.factories import make_expert
from tests.threads import at_once

pytestmark = pytest.mark.django_db
WRONG = "seven small dogs"


def is_in(client: Client) -> bool:
    return client.get("/account/").status_code == 200


@contextmanager
def counted_hashes() -> Iterator[list[str]]:
    """The passwords that are hashed inside."""
    found: list[str] = []
    encode = MD5PasswordHasher.encode

    def noted(self, password: str, salt: str) -> str:
        found.append(password)
        return encode(self, password, salt)

    with mock.patch.object(MD5PasswordHasher, "encode", noted):
        yield found


def test_the_right_password_leads_to_where_one_was_going() -> None:
    make_person()
    client, response = log_in(next="/account/tokens/")
    assert response.headers["Location"] == "/account/tokens/"
    assert is_in(client)


@pytest.mark.parametrize("onward", ["https://evil.example/", "//evil.example", "javascript:alert(1)"])
def test_nobody_is_led_to_another_site(onward: str) -> None:
    make_person()
    client, response = log_in(next=onward)
    assert response.headers["Location"] == "/"
    assert client.get("/log-in/", {"next": onward}).headers["Location"] == "/"


def test_who_is_logged_in_needs_no_log_in_page() -> None:
    assert logged_in(make_person()).get("/log-in/").headers["Location"] == "/"


def test_a_wrong_password_and_an_unknown_name_get_the_same_answer() -> None:
    make_person()
    make_person("gone", is_active=False)
    answers = []
    for name, password in (("anna", WRONG), ("nobody", WRONG), ("gone", PASSWORD)):
        with counted_hashes() as hashes:
            page = log_in(name, password)[1]
        answers.append((page.status_code, page.content.count(b"do not match"), len(hashes)))
    assert answers == [(200, 1, 1)] * 3


def test_after_five_wrong_passwords_the_right_one_is_refused_for_a_while() -> None:
    make_person()
    for _ in range(5):
        assert log_in(password=WRONG)[1].status_code == 200
    client, response = log_in()
    assert (response.status_code, is_in(client)) == (429, False)
    assert "Wait five minutes" in response.content.decode()
    assert log_in("ANNA")[1].status_code == 429  # no new tries by another spelling
    make_person("ben")
    assert is_in(log_in("ben")[0])  # nobody else is shut out
    CacheEntry.objects.update(expires=timezone.now() - timedelta(seconds=1))
    assert is_in(log_in()[0])


@pytest.mark.django_db(transaction=True)
def test_24_wrong_passwords_at_once_are_five_tries() -> None:
    make_person()
    with counted_hashes() as hashes:
        at_once(24, lambda _: log_in(password=WRONG))
    assert hashes.count(WRONG) <= 5
    assert log_in()[1].status_code == 429


def test_tries_are_counted_where_all_processes_see_them() -> None:
    assert isinstance(cache._connections[cache._alias], DatabaseCache)


@pytest.mark.django_db(transaction=True)
def test_another_process_sees_the_tries() -> None:
    make_person()
    for _ in range(5):
        log_in(password=WRONG)
    code = (
        "from django.conf import settings\n"
        "plain = {'BACKEND': 'django.contrib.staticfiles.storage.StaticFilesStorage'}\n"
        "settings.STORAGES = {**settings.STORAGES, 'staticfiles': plain}\n"
        "from django.test import Client\n"
        f"page = Client().post('/log-in/', {{'username': 'anna', 'password': {PASSWORD!r}}})\n"
        "print(page.status_code)"
    )
    process = apart(code, STORYLOOP_HOSTS="testserver")
    assert process.communicate(timeout=60)[0].strip() == "429"


def test_many_tries_from_one_place_are_slowed_down(settings) -> None:
    settings.ACCOUNT_RATE_LIMITS = {**settings.ACCOUNT_RATE_LIMITS, "login": "2/m/ip"}
    statuses = [log_in(f"name-{number}", WRONG)[1].status_code for number in range(3)]
    assert statuses == [200, 200, 429]


@pytest.mark.parametrize(("proxies", "last"), [(0, 429), (1, 200)], ids=["no proxy", "a proxy"])
def test_only_a_proxy_says_where_a_try_comes_from(proxies: int, last: int, settings) -> None:
    settings.ACCOUNT_RATE_LIMITS = {**settings.ACCOUNT_RATE_LIMITS, "login": "2/m/ip"}
    settings.ALLAUTH_TRUSTED_PROXY_COUNT = proxies
    sent = [
        Client().post("/log-in/", {"username": "x", "password": WRONG}, headers={"X-Forwarded-For": f"10.0.0.{n}"})
        for n in range(3)
    ]
    assert sent[-1].status_code == last


# -- how long it lasts


def test_the_sessions_id_changes_at_log_in() -> None:
    make_person()
    client = Client()
    client.get("/invitation/none/")  # gives an anonymous session
    before = client.cookies["sessionid"].value
    log_in(client=client)
    assert client.cookies["sessionid"].value != before


@pytest.mark.parametrize("how", ["log out", "new password", "blocked"])
def test_a_stolen_cookie_is_worth_nothing_after(how: str) -> None:
    user = make_person()
    client, stolen = log_in()[0], Client()
    stolen.cookies["sessionid"] = client.cookies["sessionid"].value
    assert is_in(stolen)
    if how == "log out":
        client.post("/log-out/")
    elif how == "new password":
        given = {"oldpassword": PASSWORD, "password1": "eight small foxes", "password2": "eight small foxes"}
        assert client.post("/account/password/", given).status_code == 302
        assert is_in(client)  # who changed it stays
    else:
        user.is_active = False
        user.save()
    assert not is_in(stolen)


@pytest.mark.parametrize(
    ("key", "ago"), [(middleware.BEGAN, "SESSION_COOKIE_AGE"), (middleware.SEEN, "SESSION_IDLE_SECONDS")]
)
def test_a_session_ends(key: str, ago: str, settings) -> None:
    client = logged_in(make_expert().user)
    assert is_in(client)
    session = client.session
    session[key] -= getattr(settings, ago) + 1
    session.save()
    assert client.post("/judge/", headers={"HX-Request": "true"}).status_code == 401  # the page keeps what it holds
    assert not is_in(client)


def test_a_session_in_use_is_noted_now_and_then_only(django_assert_num_queries) -> None:
    client = logged_in(make_person())
    is_in(client)
    seen = client.session[middleware.SEEN]
    session = client.session
    session[middleware.SEEN] = seen - middleware.NOTED_EACH
    session.save()
    is_in(client)
    assert client.session[middleware.SEEN] >= seen


def test_there_are_no_accounts_but_those_that_somebody_made() -> None:
    from django.contrib.auth.models import User

    assert not User.objects.exists()  # what the migrations leave


# -- passwords


@pytest.mark.parametrize(
    ("password", "taken"),
    [("elevenchars", False), ("q1w2e3r4t5y6", False), ("x" * 64 + "Ä", True), ("twelve chars", True)],
)
def test_a_password_is_long_and_not_a_usual_one(password: str, taken: bool) -> None:
    make_person()
    client = log_in()[0]
    client.post("/account/password/", {"oldpassword": PASSWORD, "password1": password, "password2": password})
    client.post("/log-out/")
    assert is_in(log_in(password=password)[0]) is taken
    assert not is_in(log_in(password=password[:-1])[0])  # nothing is cut off


def test_admins_are_people_like_others_to_the_log_in_page() -> None:
    admin = make_admin()
    admin.set_password(PASSWORD)
    admin.save()
    assert is_in(log_in("boss")[0])
