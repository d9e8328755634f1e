"""Headers and cookies of every answer, and the settings of a server on the internet (docs/security.md)."""

import json
import pickle
import subprocess
import sys
from http.cookies import SimpleCookie
from pathlib import Path
from typing import get_type_hints

import pytest
from celery import current_app
from django.http import HttpRequest, HttpResponse
from django.test import Client
from django.urls import include, path
from kombu.exceptions import ContentDisallowed
from kombu.serialization import loads

from annotate.models import Judgement
from annotate.queue import next_assignment
from tests.annotate.browsing import open_tab, submit
from tests.config.test_access import RULES, address
from tests.environment import ROOT
from tests.factories import make_comparison, make_expert, make_policy

KEY = "a-secret-key-of-many-different-characters-0123456789-ABCDEFG"
PRODUCTION = {"STORYLOOP_HOSTS": "stories.example.org", "STORYLOOP_SECRET_KEY": KEY}
PRODUCTION |= {"STORYLOOP_URL": "https://stories.example.org", "DATABASE_URL": "postgres://x:y@127.0.0.1:1/x"}
CSP = {
    "default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self' data:", "connect-src 'self'",
    "form-action 'self'", "base-uri 'none'", "frame-ancestors 'none'",
}  # fmt: skip
EVERYWHERE = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def breaking(request: HttpRequest) -> HttpResponse:
    raise RuntimeError("canary in a trace")


urlpatterns = [path("breaking/", breaking, name="breaking"), path("", include("config.urls"))]
handler400, handler500 = "config.views_errors.bad_request", "config.views_errors.server_error"


def check(answer: HttpResponse) -> None:
    """The headers that no answer goes without."""
    assert {part.strip() for part in answer.headers["Content-Security-Policy"].split(";")} == CSP
    assert {name: answer.headers.get(name) for name in EVERYWHERE} == EVERYWHERE
    assert "camera=()" in answer.headers["Permissions-Policy"]
    kind = answer.headers.get("Content-Type", "application/json")
    assert "charset=utf-8" in kind.lower() or not kind.startswith("text/")


@pytest.mark.django_db
@pytest.mark.parametrize("who", ["anonymous", "expert", "admin"])
def test_every_page_has_its_headers_and_is_kept_by_nobody(who: str, django_user_model) -> None:
    client = Client()
    if who != "anonymous":
        user = make_expert().user if who == "expert" else django_user_model.objects.create_user("boss", is_staff=True)
        client.force_login(user)
    make_policy(current=True)
    for name in RULES:
        for answer in (client.get(address(name)), client.options(address(name))):
            check(answer)
            assert "no-store" in answer.headers["Cache-Control"], name


@pytest.mark.django_db
@pytest.mark.urls("tests.config.test_hardening")
@pytest.mark.parametrize(
    ("where", "headers", "status"),
    [
        ("/nowhere/", {}, 404),
        ("/breaking/", {}, 500),
        ("/healthz", {"host": "evil.example"}, 400),
        ("/api/v1/rounds", {}, 401),
        ("/judge/", {"hx-request": "true"}, 401),
    ],
)
def test_refusals_and_faults_have_the_headers_too(where: str, headers: dict[str, str], status: int) -> None:
    client = Client(raise_request_exception=False)
    if status in (404, 500):
        client.force_login(make_expert().user)
    answer = client.get(where, headers=headers)
    assert answer.status_code == status
    check(answer)
    assert b"canary" not in answer.content
    assert b"Traceback" not in answer.content
    if status in (400, 500):
        assert "site.css" in answer.content.decode()
        assert 'lang="zh-Hans"' in answer.content.decode()


@pytest.mark.django_db
def test_a_form_without_its_token_is_refused_on_a_page_of_ours() -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(make_expert().user)
    for headers in ({}, {"hx-request": "true"}, {"origin": "https://evil.example"}):
        answer = client.post("/language/", {"language": "en"}, headers=headers)
        assert answer.status_code == 403
        assert b"This page has expired" in answer.content
        check(answer)


@pytest.mark.django_db
def test_a_body_that_is_too_large_is_refused_and_no_fault() -> None:
    client = Client(raise_request_exception=False)
    client.force_login(make_expert().user)
    answer = client.post("/language/", {"language": "x" * 3_000_000})
    assert answer.status_code == 400
    check(answer)


def run(code: str, tmp_path: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    values = {"PATH": "/usr/bin:/bin", "STORYLOOP_VAR": str(tmp_path), **PRODUCTION, **environment}
    command = [sys.executable, *(["manage.py", *code.split()] if code.startswith("check") else ["-c", code])]
    return subprocess.run(command, cwd=ROOT, env=values, capture_output=True, text=True, check=False)


def test_djangos_checks_find_nothing_on_a_server_that_is_set_up(tmp_path: Path) -> None:
    done = run("check --deploy --fail-level WARNING", tmp_path)
    assert done.returncode == 0, done.stderr
    assert run("check --deploy --fail-level WARNING", tmp_path, STORYLOOP_HTTPS="false").returncode == 1


ASK = """
import json, os
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
import django; django.setup()
from django.core.management import call_command; call_command("collectstatic", interactive=False, verbosity=0)
from django.test import Client
told = {}
for name, where, secure, headers in (
    ("page", "/log-in/", True, {}), ("plain", "/log-in/", False, {}), ("health", "/healthz", False, {}),
    ("spoofed", "/log-in/", False, {"x-forwarded-proto": "https"}),
    ("host", "/log-in/", True, {"host": "evil.example"}),
):
    client = Client(SERVER_NAME="stories.example.org", raise_request_exception=False)
    answer = client.get(where, secure=secure, headers=headers)
    told[name] = {"status": answer.status_code, "cookies": answer.cookies.output(header=""), **answer.headers}
print(json.dumps(told))
"""


def asked(tmp_path: Path, **environment: str) -> dict[str, dict]:
    done = run(ASK, tmp_path, **environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_server_on_the_internet_speaks_https_alone(tmp_path: Path) -> None:
    told = asked(tmp_path)
    assert told["page"]["status"] == 200
    assert told["page"]["Strict-Transport-Security"] == "max-age=31536000; includeSubDomains; preload"
    cookie = SimpleCookie(told["page"]["cookies"])["__Host-csrftoken"]
    assert (cookie["secure"], cookie["path"], cookie["samesite"], cookie["domain"]) == (True, "/", "Lax", "")
    assert told["plain"]["Location"] == "https://stories.example.org/log-in/"
    assert told["spoofed"]["status"] == 301  # nobody has said that there is a proxy
    assert told["health"]["status"] == 200
    assert told["host"]["status"] == 400


def test_behind_a_proxy_its_header_counts(tmp_path: Path) -> None:
    told = asked(tmp_path, STORYLOOP_BEHIND_PROXY="true")
    assert (told["spoofed"]["status"], told["plain"]["status"]) == (200, 301)


SETTINGS = """
import json; from config import settings as s
print(json.dumps([s.SESSION_COOKIE_NAME, s.SESSION_COOKIE_SECURE, s.SESSION_COOKIE_HTTPONLY, s.SESSION_COOKIE_SAMESITE,
                  s.CSRF_TRUSTED_ORIGINS, s.DEBUG, s.CELERY_ACCEPT_CONTENT]))
"""


def test_the_session_is_a_cookie_of_this_host_that_no_script_reads(tmp_path: Path) -> None:
    told = json.loads(run(SETTINGS, tmp_path).stdout)
    origin = ["https://stories.example.org"]
    assert told == ["__Host-sessionid", True, True, "Lax", origin, False, ["json"]]


def test_a_pickled_message_is_refused() -> None:
    accept = current_app.conf.accept_content
    with pytest.raises(ContentDisallowed):
        loads(pickle.dumps({}), "application/x-python-serialize", "binary", accept=set(accept))
    assert loads("[7]", "application/json", "utf-8", accept={"application/json"}) == [7]
    assert accept == ["json"]


def test_tasks_are_given_numbers_alone() -> None:
    ours = {name: task for name, task in current_app.tasks.items() if not name.startswith("celery.")}
    assert ours
    for name, task in ours.items():
        hints = get_type_hints(task.run)
        hints.pop("return")
        assert set(hints.values()) <= {int}, name


@pytest.mark.django_db
def test_fields_that_no_form_has_change_nothing() -> None:
    """Who answers, when, and as what is not the form's to say (mass assignment)."""
    expert, other = make_expert(), make_expert()
    make_comparison(2)
    client = Client()
    client.force_login(expert.user)
    assignment = next_assignment(expert=expert)
    extra = {
        "expert": other.pk,
        "user": other.user_id,
        "extra": "on",
        "created_at": "2001-01-01",
        "kind": "gold",
        "id": 77,
    }
    submit(client, assignment, best=1, worst=2, **open_tab(client, assignment), **extra)
    client.post("/judge/mine/settings/", {"simulated": "on", "trusted": "on", "is_staff": "on", "user": other.user_id})
    judgement = Judgement.objects.select_related("assignment").get()
    assert (judgement.assignment, judgement.assignment.expert, judgement.assignment.kind) == (
        assignment,
        expert,
        "ordinary",
    )
    assert not judgement.extra
    assert judgement.created_at.year > 2001
    assert judgement.pk != 77
    expert.refresh_from_db()
    assert (expert.simulated, expert.user.is_staff) == (False, False)
