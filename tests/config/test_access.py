"""Every URL against every kind of visitor. A URL without a row here fails."""

from collections.abc import Callable
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.db import transaction
from django.test import Client
from django.urls import get_resolver, reverse

from annotate.models import Assignment, Expert
from annotate.queue import next_assignment
from config.models import ApiToken
from config.tokens import make_token
from tests.annotate.hearing import begin
from tests.factories import make_comparison, make_expert, make_policy

pytestmark = pytest.mark.django_db
ANYONE, EXPERT, ADMIN, LOGGED_IN, ADULT = "anyone", "expert", "admin", "logged in", "expert or admin"
LOGGING_IN = LOGGED_IN  # steps of logging in: who has not begun is sent to the log-in page
RULES = {
    "home": LOGGED_IN,
    "healthz": ANYONE,
    "readyz": ANYONE,
    "metrics": ANYONE,  # with a token: test_health.py
    "log_in": ANYONE,
    "log_out": LOGGED_IN,
    "set_language": ANYONE,
    "judge": EXPERT,
    "judge_comparison": EXPERT,
    "submit_judgement": EXPERT,
    "skip_comparison": EXPERT,
    "keep_draft": EXPERT,
    "undo": EXPERT,
    "edit_judgement": EXPERT,
    "show_readability": EXPERT,
    "practice": EXPERT,
    "answer_practice": EXPERT,
    "guidelines": EXPERT,
    "my_judgements": EXPERT,
    "sitting_summary": EXPERT,
    "save_preferences": EXPERT,
    "judging": ADMIN,
    "save_campaign": ADMIN,
    "experts": ADMIN,
    "reports": ADMIN,
    "settle_report": ADMIN,
    "disagreements": ADMIN,
    "send_to_adjudicator": ADMIN,
    "gold": ADMIN,
    "add_gold": ADMIN,
    "remove_gold": ADMIN,
    "account_login": ANYONE,
    "account_signup": ANYONE,
    "mfa_authenticate": LOGGING_IN,
    "mfa_login_webauthn": LOGGING_IN,
    "account_reset_password": ANYONE,
    "account_reset_password_done": ANYONE,
    "account_reset_password_from_key": ANYONE,
    "account_reset_password_from_key_done": ANYONE,
    "account_confirm_email": ANYONE,
    "open_invitation": ANYONE,
    "accept": ANYONE,
    "account": LOGGED_IN,
    "save_name": LOGGED_IN,
    "my_data": LOGGED_IN,
    "leave_for_good": LOGGED_IN,
    "account_email": LOGGED_IN,
    "account_change_password": LOGGED_IN,
    "account_set_password": LOGGED_IN,
    "account_reauthenticate": LOGGED_IN,
    "mfa_index": LOGGED_IN,
    "mfa_reauthenticate": LOGGED_IN,
    "mfa_activate_totp": LOGGED_IN,
    "mfa_deactivate_totp": LOGGED_IN,
    "mfa_view_recovery_codes": LOGGED_IN,
    "mfa_generate_recovery_codes": LOGGED_IN,
    "mfa_download_recovery_codes": LOGGED_IN,
    "mfa_list_webauthn": LOGGED_IN,
    "mfa_add_webauthn": LOGGED_IN,
    "mfa_reauthenticate_webauthn": LOGGED_IN,
    "mfa_remove_webauthn": LOGGED_IN,
    "mfa_edit_webauthn": LOGGED_IN,
    "people": ADMIN,
    "invite": ADMIN,
    "revoke_invitation": ADMIN,
    "show_person": ADMIN,
    "save_person": ADMIN,
    "make_reset_link": ADMIN,
    "remove_second_factor": ADMIN,
    "audit_log": ADMIN,
    "export_audit_log": ADMIN,
    "tokens": LOGGED_IN,
    "make_api_token": LOGGED_IN,
    "revoke_api_token": LOGGED_IN,
    "listen": ADULT,
    "start_listening": ADULT,
    "listening_session": ADULT,
    "next_pair": ADULT,
    "end_listening": ADULT,
    "hear_first": ADULT,
    "hear_second": ADULT,
    "this_or_that": ADULT,
    "save_choice": ADULT,
    "listening_notes": ADULT,
    "save_listening_notes": ADULT,
    "listenings_csv": ADMIN,
    "data": ADMIN,
    "make_export": ADMIN,
    "show_export": ADMIN,
    "repeat_export": ADMIN,
    "download_export": ADMIN,
    "imported": ADMIN,
    "check_import": ADMIN,
    "store_import": ADMIN,
    "withdraw": ADMIN,
    "writing": ADMIN,
    "show_engine": ADMIN,
    "start_check": ADMIN,
    "write_missing": ADMIN,
    "show_run": ADMIN,
    "cancel_run": ADMIN,
    "continue_run": ADMIN,
    "plan": ADMIN,
    "save_sampling_plan": ADMIN,
    "reset_sampling_plan": ADMIN,
    "show_detectors": ADMIN,
    "save_judge": ADMIN,
    "start_reading": ADMIN,
    "policies": ADMIN,
    "show_policy": ADMIN,
    "save_policy_facts": ADMIN,
    "roll_back_to": ADMIN,
    "delete_checkpoint": ADMIN,
    "delete_policy_weights": ADMIN,
    "download_card": ADMIN,
    "download_weights": ADMIN,
    "download_adapter": ADMIN,
    "resume": ADMIN,
    "rounds": ADMIN,
    "launch": ADMIN,
    "schedules": ADMIN,
    "add_schedule": ADMIN,
    "edit_schedule": ADMIN,
    "set_up_round": ADMIN,
    "save_schedule": ADMIN,
    "remove_schedule": ADMIN,
    "save_promotion_rule": ADMIN,
    "dismiss_proposal": ADMIN,
    "round_progress": ADMIN,
    "curves_csv": ADMIN,
    "compare_rounds": ADMIN,
    "notices": ADMIN,
    "save_address": ADMIN,
    "add_webhook": ADMIN,
    "remove_webhook": ADMIN,
    "send_test": ADMIN,
    "simulate_judgements": ADMIN,
    "show_round": ADMIN,
    "dashboard": ADMIN,
    "dashboard_csv": ADMIN,
    "round_csv": ADMIN,
    "round_judgements": ADMIN,
    "alarm_limits": ADMIN,
    "save_alarm_limits": ADMIN,
    "download_pairs": ADMIN,
    "cancel": ADMIN,
    "promote": ADMIN,
    "reject": ADMIN,
}


def patterns(resolver=None):
    """All but the API's, which has no sessions: test_api_access.py has its rules."""
    for pattern in (resolver or get_resolver()).url_patterns:
        if getattr(pattern, "namespace", None) != "api":
            yield from patterns(pattern) if hasattr(pattern, "url_patterns") else (pattern,)


def converters_of(name: str) -> dict[str, object]:
    """{key: converter} of an address, with those of the parts that it is mounted under."""
    return get_resolver().reverse_dict[name][3]


def address(name: str) -> str:
    made = {k: uuid4() if "UUID" in type(c).__name__ else 1 for k, c in converters_of(name).items()}
    return reverse(name, kwargs=made)


def person(**fields: object) -> User:
    return User.objects.create_user("somebody", password="a long password", **fields)


def admin_who_judges() -> User:
    return Expert.objects.create(user=person(is_staff=True), audience="writer").user


def expert(*, adjudicates: bool) -> User:
    found = make_expert()
    found.adjudicates = adjudicates
    found.save()
    return found.user


# {who comes: (their account, the rules that let them in)}
VISITORS: dict[str, tuple[Callable[[], User | None], set[str]]] = {
    "anonymous": (lambda: None, {ANYONE}),
    "somebody without a part": (person, {ANYONE, LOGGED_IN}),
    "simulated expert": (lambda: make_expert(simulated=True).user, {ANYONE, LOGGED_IN}),
    "expert": (lambda: expert(adjudicates=False), {ANYONE, LOGGED_IN, EXPERT, ADULT}),
    "adjudicator": (lambda: expert(adjudicates=True), {ANYONE, LOGGED_IN, EXPERT, ADULT}),
    "admin": (lambda: person(is_staff=True), {ANYONE, LOGGED_IN, ADMIN, ADULT}),
    "admin who judges": (admin_who_judges, {ANYONE, LOGGED_IN, ADMIN, EXPERT, ADULT}),
    "admin who is blocked": (lambda: person(is_staff=True, is_active=False), {ANYONE}),
}


def test_every_url_has_a_rule() -> None:
    assert {p.name for p in patterns()} == set(RULES)


@pytest.mark.parametrize("visitor", VISITORS)
def test_only_who_may_gets_in(visitor: str) -> None:
    make_account, rules = VISITORS[visitor]
    client, account = Client(), make_account()
    if account:
        client.force_login(account)
    make_policy(current=True)
    wrong = []
    for name, rule in RULES.items():
        if name in ("home", "log_out", "account_login"):
            continue  # where they lead depends on the person: tests of their own
        for method in (client.get, client.post):
            with transaction.atomic():  # what a page does is undone before the next one
                response = method(address(name))
                transaction.set_rollback(True)
            refused = response.status_code == 403 or "/log-in/" in response.headers.get("Location", "")
            strange = [one.name for one in response.templates if "site-packages/allauth" in str(one.origin)]
            if refused is (rule in rules) or strange:  # every page is ours: its words, its policy of content
                wrong.append((name, method.__name__, response.status_code))
    assert wrong == []


# -- what is somebody's own

SHARED = {"answer_practice", "account_reset_password_from_key", "account_confirm_email", "open_invitation"}


def token_of(owner: User) -> int:
    return make_token(user=owner, name="mine", days=1)[0].pk


def assignment_of(owner: User) -> object:
    make_comparison(3)
    return next_assignment(expert=owner.expert).key


def passkey_of(owner: User) -> int:
    from allauth.mfa.models import Authenticator

    return Authenticator.objects.create(user=owner, type="webauthn", data={"name": "phone", "credential": {}}).pk


ASSIGNMENT = ("judge_comparison", "keep_draft", "submit_judgement", "skip_comparison", "undo", "edit_judgement",
              "show_readability")  # fmt: skip
SESSION = ("listening_session", "next_pair", "end_listening")
LISTENING = ("hear_first", "hear_second", "this_or_that", "save_choice", "listening_notes", "save_listening_notes")
OWN = {
    **dict.fromkeys(ASSIGNMENT, assignment_of),
    **dict.fromkeys(SESSION, lambda owner: begin(adult=owner).session.key),
    **dict.fromkeys(LISTENING, lambda owner: begin(adult=owner).key),
    **dict.fromkeys(("mfa_edit_webauthn", "mfa_remove_webauthn"), passkey_of),
    "revoke_api_token": token_of,
}


def test_every_url_of_a_persons_own_things_is_tried_by_another() -> None:
    assert {name for name, rule in RULES.items() if converters_of(name) and rule != ADMIN} - SHARED == set(OWN)


@pytest.mark.parametrize("name", OWN)
def test_what_is_anothers_is_not_there_for_an_expert_or_an_admin(name: str) -> None:
    key = OWN[name](make_expert().user)
    client = Client()
    client.force_login(admin_who_judges())
    if name.startswith("mfa_"):
        client.post("/account/confirm-it-is-you/", {"password": "a long password"})
    target = reverse(name, kwargs=dict.fromkeys(converters_of(name), key))
    before = list(Assignment.objects.values()) + list(ApiToken.objects.values())
    statuses = {getattr(client, method)(target, {"name": "x"}).status_code for method in ("get", "post")}
    assert statuses <= {404, 405}
    assert 404 in statuses
    assert list(Assignment.objects.values()) + list(ApiToken.objects.values()) == before


def test_an_admin_comes_to_the_rounds(django_user_model) -> None:
    client = Client()
    client.force_login(django_user_model.objects.create_user("boss", is_staff=True))
    assert client.get("/").headers["Location"] == "/rounds/"


def test_an_expert_comes_to_their_work() -> None:
    client = Client()
    client.force_login(make_expert().user)
    assert client.get("/").headers["Location"] == "/judge/"


def test_somebody_without_a_part_is_told_so(django_user_model) -> None:
    client = Client()
    client.force_login(django_user_model.objects.create_user("guest"))
    response = client.get("/")
    assert response.status_code == 403
    assert "Your account has no part yet" in response.content.decode()


def test_logging_out_ends_the_session() -> None:
    client = Client()
    client.force_login(make_expert().user)
    client.post("/log-out/")
    assert "/log-in/" in client.get("/judge/").headers["Location"]


@pytest.mark.parametrize("name", ["launch", "promote", "reject", "cancel", "submit_judgement", "skip_comparison"])
def test_nothing_changes_by_get(name: str, django_user_model) -> None:
    client = Client()
    expert = make_expert()
    expert.user.is_staff = True
    expert.user.save()
    client.force_login(expert.user)
    assert client.get(address(name)).status_code == 405
