"""Every URL against every kind of visitor. A URL without a row here fails."""

from uuid import uuid4

import pytest
from django.test import Client
from django.urls import get_resolver, reverse

from tests.factories import make_expert, make_policy

pytestmark = pytest.mark.django_db
ANYONE, EXPERT, ADMIN, LOGGED_IN, ADULT = "anyone", "expert", "admin", "logged in", "expert or admin"
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


def address(name: str) -> str:
    pattern = next(p for p in patterns() if p.name == name)
    converters = pattern.pattern.converters
    return reverse(name, kwargs={k: uuid4() if "UUID" in type(c).__name__ else 1 for k, c in converters.items()})


@pytest.fixture
def visitor(request, django_user_model) -> Client:
    client = Client()
    if request.param == EXPERT:
        client.force_login(make_expert().user)
    elif request.param == "simulated":
        client.force_login(make_expert(simulated=True).user)
    elif request.param == ADMIN:
        client.force_login(django_user_model.objects.create_user("boss", is_staff=True))
    return client


def test_every_url_has_a_rule() -> None:
    assert {p.name for p in patterns()} == set(RULES)


def allowed(rule: str, who: str) -> bool:
    if rule == ADULT:
        return who in (EXPERT, ADMIN)
    return rule in (ANYONE, who) or (rule == LOGGED_IN and who != "anonymous")


@pytest.mark.parametrize("method", ["get", "post"])
@pytest.mark.parametrize("visitor", ["anonymous", EXPERT, "simulated", ADMIN], indirect=True)
@pytest.mark.parametrize("name", RULES)
def test_only_who_may_gets_in(name: str, visitor: Client, method: str, request) -> None:
    who = request.node.callspec.params["visitor"]
    make_policy(current=True)
    response = getattr(visitor, method)(address(name))
    refused = response.status_code == 403 or "/log-in/" in response.headers.get("Location", "")
    if name in ("home", "log_out") and who in (EXPERT, ADMIN, "simulated"):
        return  # where they lead depends on the person: tests of their own
    assert refused is not allowed(RULES[name], who)


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
