"""Tokens of the API: what is kept of them, who makes them, and how they end."""

import io
import re
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.db import IntegrityError, transaction
from django.test import Client
from django.utils import timezone

from config.models import ApiAnswer, ApiToken
from config.tokens import CannotMakeToken, digest_of, find_token, make_token, revoke_token
from tests.config.api import Program, make_admin
from tests.factories import make_expert

pytestmark = pytest.mark.django_db
DIGEST = "a" * 64


@pytest.mark.parametrize(
    ("constraint", "fields"),
    [
        ("api_token_has_a_name", {"name": ""}),
        ("api_token_is_a_digest", {"digest": "slt_the-token-itself"}),
        ("api_token_expires_later", {"expires_at": timezone.now() - timedelta(days=9)}),
        ("digest", {"name": "other"}),
        ("api_token_name_once_in_use", {"digest": "b" * 64}),
    ],
)
def test_the_database_refuses_a_token_that_breaks(constraint: str, fields: dict) -> None:
    values = {"user": make_admin(), "name": "one", "digest": DIGEST, "prefix": "slt_"}
    ApiToken.objects.create(**values)
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        ApiToken.objects.create(**{**values, **fields})


@pytest.mark.parametrize(("constraint", "key"), [("api_answer_once_a_key", "k"), ("api_answer_has_a_key", "")])
def test_the_database_refuses_an_answer_that_breaks(constraint: str, key: str) -> None:
    user = make_admin()
    ApiAnswer.objects.create(user=user, key="k", digest=DIGEST)
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        ApiAnswer.objects.create(user=user, key=key, digest=DIGEST)


def test_a_token_is_kept_as_its_digest_only() -> None:
    made, token = make_token(user=make_admin(), name="one", days=None)
    assert token.startswith("slt_")
    assert len(token) == 47  # 256 bits
    assert made.digest == digest_of(token)
    assert token not in str(ApiToken.objects.values().get())


def test_a_name_is_free_again_when_its_token_is_revoked() -> None:
    user = make_admin()
    made, token = make_token(user=user, name="one", days=1)
    with pytest.raises(CannotMakeToken, match="already"):
        make_token(user=user, name=" one ", days=1)
    assert not revoke_token(token_id=made.pk, user=make_expert().user)
    assert revoke_token(token_id=made.pk, user=user)
    assert not revoke_token(token_id=made.pk, user=user)
    assert find_token(token) is None
    make_token(user=user, name="one", days=1)


@pytest.mark.parametrize("name", ["", "  ", "x" * 61, "a\nb", "a\x00b"])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(CannotMakeToken, match="name"):
        make_token(user=make_admin(), name=name, days=1)


def test_use_is_noted_once_a_minute(django_assert_num_queries) -> None:
    made, token = make_token(user=make_admin(), name="one", days=1)
    with django_assert_num_queries(2):
        find_token(token)
    made.refresh_from_db()
    assert made.last_used_at is not None
    with django_assert_num_queries(1):
        find_token(token)
    ApiToken.objects.update(last_used_at=made.last_used_at - timedelta(minutes=2))
    find_token(token)
    assert ApiToken.objects.get().last_used_at > made.last_used_at - timedelta(minutes=1)


# -- the page


def logged_in(user) -> Client:
    client = Client()
    client.force_login(user)
    return client


def test_a_token_is_shown_once_and_works() -> None:
    client = logged_in(make_admin())
    response = client.post("/account/tokens/make/", {"name": "nightly", "days": "30"})
    token = re.search(r'value="(slt_[\w-]+)"', response.content.decode())[1]
    assert response.headers["Cache-Control"].startswith("max-age=0, no-cache, no-store")
    assert Program(token).get("/me").json()["token"] == "nightly"
    assert timedelta(days=29) < ApiToken.objects.get().expires_at - timezone.now() < timedelta(days=30)
    assert token not in client.get("/account/tokens/").content.decode()
    assert token not in str(dict(client.session))


@pytest.mark.parametrize("sent", [{"name": ""}, {"name": "x" * 61}, {"name": "one", "days": "31"}, {"name": "taken"}])
def test_a_form_that_cannot_be_meant_makes_nothing(sent: dict) -> None:
    user = make_admin()
    make_token(user=user, name="taken", days=None)
    response = logged_in(user).post("/account/tokens/make/", {"days": "", **sent})
    assert response.status_code == 422
    assert "errorlist" in response.content.decode()
    assert ApiToken.objects.count() == 1


def test_a_token_is_revoked_by_its_user_alone() -> None:
    user = make_admin()
    made, token = make_token(user=user, name="one", days=None)
    address = f"/account/tokens/{made.pk}/revoke/"
    assert logged_in(make_expert().user).post(address).status_code == 404
    assert find_token(token)
    assert "works no more" in logged_in(user).post(address, follow=True).content.decode()
    assert find_token(token) is None
    assert "revoked already" in logged_in(user).post(address, follow=True).content.decode()


# -- the command


def test_the_command_prints_a_token_that_works() -> None:
    make_admin()
    out = io.StringIO()
    call_command("make_token", "boss", days=0, stdout=out)
    assert find_token(out.getvalue().strip()).expires_at is None


def test_the_command_says_what_an_experts_token_is_good_for() -> None:
    err = io.StringIO()
    call_command("make_token", make_expert().user.username, stdout=io.StringIO(), stderr=err)
    assert "no admin" in err.getvalue()


@pytest.mark.parametrize(
    ("given", "said"), [({"user": "nobody"}, "no account"), ({"days": -1}, "0 to 3650"), ({"name": ""}, "name")]
)
def test_the_command_refuses_what_it_cannot_do(given: dict, said: str) -> None:
    make_admin()
    options = {"user": "boss", **given}
    with pytest.raises(CommandError, match=said):
        call_command("make_token", options.pop("user"), **options)
