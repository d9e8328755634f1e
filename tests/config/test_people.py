"""What admins change of accounts, and leaving."""

import json
import re

import pytest
from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.test import Client

from annotate.judgements import record_judgement
from annotate.models import Draft, Expert, Judgement
from annotate.queue import next_assignment
from annotate.votes import pseudonym
from config.leaving import CannotLeave, leave
from config.models import ApiToken, Invitation
from config.tokens import make_token
from generation.permissions import is_adjudicator, is_owner, needs_second_factor
from tests.config.people import PASSWORD, invited, log_in, logged_in, make_admin, make_person
from tests.config.test_invitations import come
from tests.factories import make_comparison, make_expert
from tests.threads import at_once
from training.models import Destination

pytestmark = pytest.mark.django_db
STAYS = {"active": "on", "audience": "parent"}


def save(client: Client, user: User, **given: str):
    return client.post(f"/people/{user.pk}/save/", given)


# -- predicates


def test_an_adjudicator_is_an_expert_who_was_made_one() -> None:
    expert = make_expert()
    assert is_adjudicator(expert.user)
    expert.adjudicates = False
    assert not is_adjudicator(expert.user)
    assert not is_adjudicator(make_expert(simulated=True).user)
    assert not is_adjudicator(make_admin())


def test_a_thing_is_its_owners_alone() -> None:
    make_comparison(3)
    expert, admin = make_expert(), make_admin()
    for thing in (next_assignment(expert=expert), make_token(user=expert.user, name="x", days=1)[0]):
        assert is_owner(expert.user, thing)
        assert not is_owner(make_expert().user, thing)
        assert not is_owner(admin, thing)
        expert.user.is_active = False
        assert not is_owner(expert.user, thing)
        expert.user.is_active = True


@pytest.mark.parametrize(("rule", "needed"), [("admins", [True, False]), ("all", [True, True]), ("none", [False] * 2)])
def test_who_needs_a_second_factor(rule: str, needed: list[bool]) -> None:
    assert [needs_second_factor(user, rule) for user in (make_admin(), make_expert().user)] == needed


# -- what admins change


@pytest.mark.parametrize(("search", "found"), [("ann", ["anna"]), ("B@EX", ["ben"]), ("\x00", ["boss", "anna", "ben"])])
def test_people_are_found_by_name_or_address(search: str, found: list[str]) -> None:
    make_person()
    make_person("ben", email="b@example.org")
    page = logged_in(make_admin()).get("/people/", {"search": search})
    assert [person.username for person in page.context["page"]] == found


def test_an_admin_makes_an_expert_an_adjudicator_and_an_admin() -> None:
    user = make_person()
    response = save(logged_in(make_admin()), user, active="on", audience="writer", adjudicates="on", admin="on")
    assert response.status_code == 302
    user = User.objects.get(pk=user.pk)
    assert (user.is_staff, user.expert.audience, user.expert.adjudicates) == (True, "writer", True)


@pytest.mark.parametrize("what", ["blocked", "no admin any more"])
def test_who_loses_a_part_is_logged_out_at_once(what: str) -> None:
    boss, user = make_admin(), make_expert().user
    user.is_staff = True
    user.save()
    client = logged_in(user)
    save(logged_in(boss), user, **({"audience": "parent"} if what == "blocked" else STAYS))
    assert "/log-in/" in client.get("/rounds/").headers["Location"]
    assert Session.objects.count() == 1  # the admin's


def test_the_last_admin_stays_one() -> None:
    boss = make_admin()
    response = save(logged_in(boss), boss, active="on")
    assert response.status_code == 422
    assert "only admin" in response.content.decode()
    assert User.objects.get(pk=boss.pk).is_staff


def test_nobody_takes_their_own_part_away() -> None:
    boss = make_admin()
    make_admin("other")
    assert "ask another admin" in save(logged_in(boss), boss, active="on").content.decode()


def test_who_has_judged_stays_an_expert() -> None:
    expert = make_expert()
    page = save(logged_in(make_admin()), expert.user, active="on").content.decode()
    assert "block the account instead" in page
    assert Expert.objects.get().audience == "educator"


@pytest.mark.parametrize("who", ["simulated", "left"])
def test_whose_account_is_nobodys_is_not_among_people(who: str) -> None:
    user = make_expert(simulated=True).user if who == "simulated" else make_person("former-9", is_active=False)
    client = logged_in(make_admin())
    assert user.username not in client.get("/people/").content.decode()
    assert client.get(f"/people/{user.pk}/").status_code == 404


def test_a_reset_link_sets_a_password_once_and_does_not_log_in() -> None:
    user = make_person()
    for _ in range(5):
        log_in(password="wrong again and again")
    page = logged_in(make_admin()).post(f"/people/{user.pk}/reset-link/")
    assert "no-store" in page.headers["Cache-Control"]
    link = re.search(r'value="http://testserver(/account/password/reset/[^"]+)"', page.content.decode())[1]
    client, new = Client(), "eight small foxes"
    target = client.get(link).headers["Location"]
    assert link.split("-", 1)[1].strip("/") not in target  # the key is not in the page's address
    assert "too short" in client.post(target, {"password1": "short", "password2": "short"}).content.decode()
    assert client.post(target, {"password1": new, "password2": new}).status_code == 302
    assert client.get("/account/").status_code == 302
    assert log_in(password=new)[1].status_code == 302  # and at once, in spite of the tries before
    assert "does not work" in Client().get(link, follow=True).content.decode()


def test_without_a_mail_server_a_forgotten_password_is_an_admins_matter(settings) -> None:
    assert "Ask an admin" in Client().get("/account/password/forgotten/").content.decode()
    assert logged_in(make_person()).get("/account/email/").status_code == 404


@pytest.fixture
def mail(settings, mailoutbox) -> list:
    settings.MAIL_SERVER = True
    return mailoutbox


@pytest.mark.parametrize("known", [True, False])
def test_a_forgotten_password_is_mailed_and_the_page_does_not_say_to_whom(known: bool, mail: list) -> None:
    make_person(email="anna@example.org" if known else "else@example.org")
    page = Client().post("/account/password/forgotten/", {"email": "anna@example.org"}, follow=True).content.decode()
    assert "If there is an account with this address" in page
    assert [message.to for message in mail] == [["anna@example.org"]]
    assert ("/account/password/reset/" in mail[0].body) is known


def test_an_address_counts_when_it_is_confirmed(mail: list) -> None:
    user = make_person(email="old@example.org")
    EmailAddress.objects.create(user=user, email=user.email, primary=True, verified=True)
    client = log_in()[0]
    client.post("/account/email/", {"email": "new@example.org", "action_add": ""})
    assert User.objects.get().email == "old@example.org"
    link = re.search(r"http://testserver(/\S+)", mail[0].body)[1]
    assert "new@example.org" in client.get(link).content.decode()
    client.post(link)
    assert User.objects.get(pk=user.pk).email == "new@example.org"


def test_a_name_is_changed_by_its_person() -> None:
    make_person("ben")
    user = make_person()
    client = logged_in(user)
    assert client.post("/account/name/", {"username": "BEN"}).status_code == 422
    assert client.post("/account/name/", {"username": "anne"}).status_code == 302
    assert log_in("anne")[1].status_code == 302


# -- leaving


@pytest.fixture
def leaver() -> User:
    """Who came by an invitation, judged, and left a trace everywhere."""
    come(invited(email="anna@example.org", note="Anna Bee"), email="anna@example.org")
    user = User.objects.get()
    for _ in range(2):
        make_comparison(3)
    record_judgement(assignment=next_assignment(expert=user.expert), verdict="tie", reason="Both are fine.")
    Draft.objects.create(assignment=next_assignment(expert=user.expert), fields={"reason": "half a thought"})
    make_token(user=user, name="Anna's program", days=1)
    EmailAddress.objects.create(user=user, email="anna@example.org", primary=True, verified=True)
    Authenticator.objects.create(user=user, type="totp", data={"secret": "s"})
    Destination.objects.create(channel="email", user=user)
    return user


def test_everybody_downloads_what_is_stored_of_them(leaver: User) -> None:
    response = logged_in(leaver).get("/account/data/")
    found = json.loads(response.content)
    assert "attachment" in response.headers["Content-Disposition"]
    assert found["account"]["name"] == "anna"
    assert found["account"]["invitation"]["note"] == "Anna Bee"
    (judgement,) = found["expert"]["judgements"]
    assert (judgement["answer"], judgement["in_my_words"], len(judgement["ranks"])) == ("tie", "Both are fine.", 3)
    assert found["expert"]["drafts"][0]["fields"] == {"reason": "half a thought"}
    assert not re.search(r"policy|weights_hash|\"kind\"|\"secret\"|digest", response.content.decode())


def test_an_admin_who_does_not_judge_has_data_too() -> None:
    assert json.loads(logged_in(make_admin()).get("/account/data/").content)["expert"] is None


def test_who_leaves_is_forgotten_and_their_judgements_stay(leaver: User, django_assert_max_num_queries) -> None:
    client, other = logged_in(leaver), logged_in(leaver)
    before, name_in_exports = list(Judgement.objects.values()), pseudonym(leaver.expert.pk)
    page = client.post("/account/leave/", {"password": PASSWORD, "sure": "on"})
    assert "Your account is deleted" in page.content.decode()
    assert other.get("/account/").status_code == 302
    user = User.objects.get()
    assert (user.username, user.email, user.is_active, user.has_usable_password()) == (
        f"former-{user.pk}", "", False, False,
    )  # fmt: skip
    for model in (ApiToken, EmailAddress, Authenticator, Destination, Session, Draft):
        assert not model.objects.exists(), model
    assert Invitation.objects.get().email == Invitation.objects.get().note == ""
    assert list(Judgement.objects.values()) == before
    assert pseudonym(Expert.objects.get().pk) == name_in_exports
    assert "do not match" in log_in()[1].content.decode()


@pytest.mark.parametrize("given", [{"password": PASSWORD}, {"password": "another one", "sure": "on"}, {"sure": "on"}])
def test_leaving_wants_the_password_and_a_yes(given: dict) -> None:
    user = make_person()
    assert logged_in(user).post("/account/leave/", given).status_code == 422
    assert User.objects.get().username == "anna"


def test_the_last_admin_does_not_leave() -> None:
    admin = make_person(is_staff=True)
    page = logged_in(admin).post("/account/leave/", {"password": PASSWORD, "sure": "on"})
    assert "only admin" in page.content.decode()
    assert User.objects.get().is_active


@pytest.mark.django_db(transaction=True)
def test_of_the_last_two_admins_who_leave_at_once_one_stays() -> None:
    admins = [make_admin("ben"), make_admin("cleo")]

    def go(number: int) -> str:
        try:
            leave(user_id=admins[number].pk)
        except CannotLeave:
            return "stayed"
        return "left"

    assert sorted(at_once(2, go)) == ["left", "stayed"]
    assert User.objects.filter(is_staff=True, is_active=True).count() == 1


def test_no_trace_of_who_left_is_in_any_table(leaver: User) -> None:
    """Whatever table a later version adds: the name and the address are looked for in all of them."""
    from django.apps import apps
    from django.db import connection

    logged_in(leaver).post("/account/leave/", {"password": PASSWORD, "sure": "on"})
    with connection.cursor() as cursor:
        for model in apps.get_models():
            cursor.execute(f'SELECT count(*) FROM "{model._meta.db_table}" t WHERE t::text ~* %s', ["anna"])
            assert cursor.fetchone() == (0,), model
