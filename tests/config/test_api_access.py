"""Every endpoint of the API against every kind of visitor. An endpoint without a rule fails."""

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import get_resolver
from django.utils import timezone

from config.api.site import api
from config.models import ApiToken
from tests.config.api import Program, assert_problem, make_admin, token_of
from tests.factories import make_expert

pytestmark = pytest.mark.django_db
TOKEN, ADMIN = "any token", "an admin's token"
RULES = {
    "get_me": TOKEN,
    "add_prompts": ADMIN,
    "list_prompts": ADMIN,
    "list_stories": ADMIN,
    "list_pairs": ADMIN,
    "list_policies": ADMIN,
    "launch": ADMIN,
    "list_rounds": ADMIN,
    "get_round": ADMIN,
    "cancel_round": ADMIN,
    "resume": ADMIN,
    "promote": ADMIN,
    "reject": ADMIN,
    "get_win_rate": ADMIN,
    "list_win_rates": ADMIN,
}


def operations() -> list[tuple[str, str, str]]:
    """(operation's id, method, path under /api/v1)"""
    paths: dict[str, Any] = api.get_openapi_schema(path_prefix="")["paths"]
    return [(one["operationId"], method, path) for path, found in paths.items() for method, one in found.items()]


def ask(program: Program, method: str, path: str) -> Any:
    return program.request(method, path.replace("{number}", "1"), body={} if method == "post" else None)


def test_every_endpoint_has_a_rule() -> None:
    assert {name for name, _method, _path in operations()} == set(RULES)


def test_no_address_of_the_api_is_outside_its_schema() -> None:
    found = next(one for one in get_resolver().url_patterns if getattr(one, "namespace", "") == "api")
    described = {path.lstrip("/").replace("{", "<").replace("}", ">") for _name, _method, path in operations()}
    others = {str(one.pattern) for one in found.url_patterns} - described
    assert others == {"openapi.json", ""}  # the root, and what answers 404


@pytest.mark.parametrize(("name", "method", "path"), operations())
def test_only_who_may_gets_in(name: str, method: str, path: str) -> None:
    problem = assert_problem(ask(Program(), method, path), 401)
    assert "Bearer" in problem["detail"]
    expert = ask(Program(token_of(make_expert().user)), method, path)
    if RULES[name] == ADMIN:
        assert_problem(expert, 403)
    else:
        assert expert.status_code == 200
    assert ask(Program(token_of(make_admin())), method, path).status_code not in (401, 403, 500)


@pytest.mark.parametrize("how", ["revoked", "expired", "inactive", "unknown", "no bearer", "nul", "demoted"])
def test_a_token_that_is_not_in_force_opens_nothing(how: str) -> None:
    user = make_admin()
    token = token_of(user)
    made = ApiToken.objects.filter(user=user)
    if how == "revoked":
        made.update(revoked_at=timezone.now())
    elif how == "expired":
        long_ago = timezone.now() - timedelta(days=9)
        made.update(created_at=long_ago, expires_at=long_ago + timedelta(days=1))
    elif how in ("inactive", "demoted"):
        type(user).objects.update(is_active=how == "demoted", is_staff=False)
    program = Program(token + "x" if how == "unknown" else token)
    if how == "no bearer":
        program.headers = {"Authorization": f"Basic {token}"}
    elif how == "nul":
        program.headers = {"Authorization": "Bearer \x00\ud800"}
    response = program.get("/rounds")
    assert_problem(response, 403 if how == "demoted" else 401)
    if how != "demoted":
        assert response.headers["WWW-Authenticate"].startswith("Bearer")


def test_a_session_is_no_token() -> None:
    client = Client()
    client.force_login(make_admin())
    assert_problem(client.get("/api/v1/rounds"), 401)


def test_whoever_asks_may_read_the_schema() -> None:
    response = Program().get("/openapi.json")
    assert response.json()["openapi"] == "3.1.0"
    assert b"http" not in response.content.replace(b'"http"', b"")  # it names no other host


def test_nothing_is_kept_on_the_way() -> None:
    response = Program(token_of(make_admin())).get("/me")
    assert response.headers["Cache-Control"] == "no-store"
    assert not response.cookies
