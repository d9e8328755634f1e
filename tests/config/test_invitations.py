"""Invitations: once, in time, for whom they were meant (checklist 21 of shared/anchors/operations.md)."""

import re
import socket
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import IntegrityError, transaction
from django.test import Client
from django.utils import timezone

from annotate.models import Expert
from config.invitations import InvitationOver, accept_invitation
from config.models import Invitation
from config.tokens import digest_of
from tests.config.people import PASSWORD, invited, log_in, logged_in, make_admin, make_person
from tests.factories import make_expert
from tests.threads import at_once

pytestmark = pytest.mark.django_db
FORM = {"username": "anna", "email": "", "password": PASSWORD, "password_again": PASSWORD}


def come(token: str, client: Client | None = None, **given: str):
    """(client, the page after the form is sent)"""
    client = client or Client()
    client.get(f"/invitation/{token}/")
    return client, client.post("/invitation/", {**FORM, **given})


def later(days: int) -> None:
    Invitation.objects.update(created_at=timezone.now() - timedelta(days=days + 9),
                              expires_at=timezone.now() - timedelta(days=days))  # fmt: skip


@pytest.mark.parametrize(
    ("constraint", "fields"),
    [
        ("invitation_role_known", {"role": "owner"}),
        ("invitation_audience_of_experts", {"audience": ""}),
        ("invitation_audience_of_experts", {"role": "admin"}),
        ("invitation_audience_of_experts", {"audience": "child"}),
        ("invitation_keeps_a_digest", {"digest": "the-token-itself"}),
        ("invitation_expires_later", {"expires_at": timezone.now() - timedelta(days=9)}),
        ("invitation_is_used_or_revoked", {"used_at": timezone.now(), "revoked_at": timezone.now()}),
        ("digest", {"digest": "a" * 64}),
    ],
)
def test_the_database_refuses_an_invitation_that_breaks(constraint: str, fields: dict) -> None:
    values = {"role": "expert", "audience": "parent", "expires_at": timezone.now() + timedelta(days=1)}
    Invitation.objects.create(**values, digest="a" * 64)
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        Invitation.objects.create(**{**values, "digest": "b" * 64, **fields})


def test_the_database_knows_of_no_user_of_an_unused_invitation() -> None:
    invited()
    with pytest.raises(IntegrityError, match="once_used"), transaction.atomic():
        Invitation.objects.update(used_by=make_person())


@pytest.mark.parametrize(
    ("role", "admin", "adjudicates"), [("expert", False, False), ("adjudicator", False, True), ("admin", True, None)]
)
def test_who_comes_has_the_part_that_they_were_invited_to(role: str, admin: bool, adjudicates: bool | None) -> None:
    client, response = come(invited(role=role))
    user = User.objects.get(username="anna")
    assert (response.status_code, user.is_staff, user.is_superuser) == (302, admin, False)
    expert = Expert.objects.filter(user=user).first()
    assert (expert and expert.adjudicates) is adjudicates
    assert expert is None or expert.audience == "parent"
    assert client.get("/account/").status_code == 200  # logged in
    assert log_in()[1].status_code == 302


def test_it_works_once() -> None:
    token = invited()
    come(token)
    client, response = come(token, username="ben")
    assert response.status_code == client.get("/invitation/").status_code == 410
    assert User.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_of_eight_at_once_one_gets_it() -> None:
    token = invited()

    def accept(number: int) -> str:
        try:
            accept_invitation(token=token, name=f"anna-{number}", password=PASSWORD)
        except InvitationOver:
            return "over"
        return "in"

    assert sorted(at_once(8, accept)) == ["in"] + ["over"] * 7
    assert User.objects.count() == Expert.objects.count() == 1


def test_its_time_ends() -> None:
    token = invited()
    later(days=1)
    assert come(token)[1].status_code == 410


def test_only_its_address_may_use_it() -> None:
    token = invited(email="Anna@Example.org")
    client, response = come(token, email="eve@example.org")
    assert response.status_code == 422
    assert "for another address" in response.content.decode()
    assert "anna@example.org" not in response.content.decode()
    assert come(token, client)[1].status_code == 422  # none at all
    come(token, client, email="ANNA@example.org")
    assert User.objects.get().email == "anna@example.org"


def test_the_token_is_nowhere_but_in_the_link(caplog) -> None:
    token = invited()
    assert len(token) == 43  # 256 bits
    kept = Invitation.objects.values().get()
    assert kept["digest"] == digest_of(token)
    assert token not in str(kept)
    client = Client()
    response = client.get(f"/invitation/{token}/")
    assert response.headers["Location"] == "/invitation/"  # the page's own address is without it
    assert token not in client.get("/invitation/").content.decode()
    later(days=1)
    come(token, client)
    assert token not in caplog.text


@pytest.mark.parametrize("token", ["", "guess", "a" * 43, "%00", "é" * 20])
def test_a_guess_opens_nothing(token: str) -> None:
    invited()
    assert come(token)[1].status_code == 410


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"username": ""}, "required"),
        ({"username": "a b"}, "valid username"),
        ({"username": "BOSS"}, "already"),
        ({"username": "former-7"}, "kept for others"),
        ({"email": "no address"}, "valid email"),
        ({"email": "boss@example.org"}, "already"),
        ({"password": "short", "password_again": "short"}, "too short"),
        ({"password": "q1w2e3r4t5y6", "password_again": "q1w2e3r4t5y6"}, "too common"),
        ({"password_again": "another"}, "differ"),
    ],
)
def test_a_form_that_cannot_be_meant_leaves_the_invitation(given: dict, said: str) -> None:
    make_person("boss", email="Boss@example.org")
    client, response = come(invited(), **given)
    assert response.status_code == 422
    assert said in response.content.decode()
    assert Invitation.objects.usable().count() == 1


@pytest.mark.parametrize("extra", [{"is_staff": "on"}, {"role": "admin"}, {"is_superuser": "1", "audience": "writer"}])
def test_nobody_takes_more_than_they_were_given(extra: dict) -> None:
    come(invited(), **extra)
    user = User.objects.get()
    assert (user.is_staff, user.is_superuser, user.expert.audience) == (False, False, "parent")


def test_who_has_an_account_is_not_given_another_by_mistake() -> None:
    client = logged_in(make_person())
    page = come(invited(), client)[1].content.decode()
    assert "You have an account already" in page
    assert Invitation.objects.usable().count() == 1


# -- the admins' page


def test_an_admin_makes_a_link_that_works_and_is_shown_once() -> None:
    client = logged_in(make_admin())
    given = {"role": "expert", "audience": "writer", "note": "Ms Li <b>", "email": "", "days": "1"}
    page = client.post("/people/invite/", given)
    token = re.search(r'value="http://testserver/invitation/([\w-]+)/"', page.content.decode())[1]
    assert "no-store" in page.headers["Cache-Control"]
    assert "Ms Li &lt;b&gt;" in page.content.decode()
    assert token not in client.get("/people/").content.decode()
    assert come(token)[1].status_code == 302
    assert Invitation.objects.get().used_by.expert.audience == "writer"
    assert "by anna" in client.get("/people/").content.decode()


def test_a_link_says_where_others_reach_the_pages(settings) -> None:
    settings.SITE_URL = "https://stories.example.org"
    page = logged_in(make_admin()).post("/people/invite/", {"role": "admin", "days": "7"})
    assert "https://stories.example.org/invitation/" in page.content.decode()


@pytest.mark.parametrize(
    "given", [{"audience": ""}, {"role": "owner"}, {"days": "999"}, {"email": "x"}, {"note": "x" * 101}]
)
def test_an_invitation_that_cannot_be_meant_is_not_made(given: dict) -> None:
    sent = {"role": "expert", "audience": "writer", "note": "", "email": "", "days": "1", **given}
    assert logged_in(make_admin()).post("/people/invite/", sent).status_code == 422
    assert not Invitation.objects.exists()


def test_a_revoked_link_works_no_more() -> None:
    token = invited(note="Ben")
    client = logged_in(make_admin())
    address = f"/people/invitations/{Invitation.objects.get().pk}/revoke/"
    assert "works no more" in client.post(address, follow=True).content.decode()
    assert come(token)[1].status_code == 410
    assert "before" in client.post(address, follow=True).content.decode()


def test_experts_see_nobodys_account() -> None:
    assert logged_in(make_expert().user).get("/people/").status_code == 403


# -- the command


def test_the_first_admin_comes_by_a_command(capsys) -> None:
    call_command("invite", "admin", note="the first")
    link = capsys.readouterr().out.strip()
    assert link.startswith("http://127.0.0.1:8000/invitation/")
    come(link.split("/")[-2])
    assert User.objects.get().is_staff


@pytest.mark.parametrize(("given", "said"), [(["expert"], "--audience"), (["admin", "--days", "0"], "1 to 90")])
def test_the_command_refuses_what_it_cannot_do(given: list[str], said: str) -> None:
    with pytest.raises(CommandError, match=said):
        call_command("invite", *given)


def mailed(settings, **given: str):
    settings.MAIL_SERVER = True
    wanted = {"role": "expert", "audience": "parent", "days": "7", "email": "li@example.org", "send": "on", **given}
    return logged_in(make_admin()).post("/people/invite/", wanted)


def test_the_link_is_mailed_to_its_address(settings, mailoutbox) -> None:
    page = mailed(settings)
    assert [(mail.to, page.context["link"] in mail.body) for mail in mailoutbox] == [(["li@example.org"], True)]
    assert "Sent to li@example.org." in page.content.decode()


def test_a_mail_speaks_the_language_of_who_invites(settings, mailoutbox) -> None:
    settings.MAIL_SERVER = True
    client = logged_in(make_admin())
    client.cookies["django_language"] = "zh-hans"
    client.post("/people/invite/", {"role": "admin", "days": "1", "email": "li@example.org", "send": "on"})
    assert "邀请" in mailoutbox[0].body


@pytest.mark.parametrize("given", [{"email": ""}, {"send": ""}])
def test_nothing_is_mailed_without_an_address_or_a_wish(given: dict, settings, mailoutbox) -> None:
    assert mailed(settings, **given).context["link"]
    assert mailoutbox == []


def test_a_mail_that_is_not_taken_leaves_the_link_to_be_copied(settings) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # bound, and nobody listens
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        settings.EMAIL_HOST, settings.EMAIL_PORT = nobody.getsockname()
        page = mailed(settings)
    assert "The mail server did not take it" in page.content.decode()
    assert page.context["link"] in page.content.decode()


def test_without_a_mail_server_nobody_is_asked_whether_to_send() -> None:
    assert 'name="send"' not in logged_in(make_admin()).get("/people/").content.decode()
