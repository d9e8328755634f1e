"""A program that asks the API: a real client, a real token."""

import json
from typing import Any

from django.contrib.auth.models import User
from django.test import Client

from config.tokens import make_token
from generation.models import Policy, Story
from tests.factories import judge_by_story, make_comparison, make_expert, make_policy
from training.models import Round


def make_admin(name: str = "boss") -> User:
    return User.objects.create_user(name, is_staff=True)


def token_of(user: User, days: int | None = 1) -> str:
    return make_token(user=user, name="test", days=days)[1]


class Program:
    """Sends requests with a token, and no cookie."""

    def __init__(self, token: str = "") -> None:
        self.client = Client(enforce_csrf_checks=True)
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}

    def get(self, address: str, **options: Any) -> Any:
        return self.request("get", address, **options)

    def post(self, address: str, body: Any = None, **options: Any) -> Any:
        return self.request("post", address, body=body, **options)

    def request(self, method: str, address: str, body: Any = None, headers: dict | None = None) -> Any:
        """body: what is sent as JSON, or a text that may be none."""
        data = body if isinstance(body, str) else "" if body is None else json.dumps(body)
        said = {**self.headers, **(headers or {})}
        return self.client.generic(method.upper(), f"/api/v1{address}", data, "application/json", headers=said)


def assert_problem(response: Any, status: int) -> dict[str, Any]:
    """The problem, whose shape is that of RFC 9457."""
    assert response.status_code == status, response.content
    assert response.headers["Content-Type"] == "application/problem+json"
    found = response.json()
    assert set(found) - {"faults"} == {"type", "title", "status", "detail"}
    assert found["status"] == status
    assert found["detail"]
    return found


def make_round(number: int = 1, **fields: Any) -> Round:
    values = {"number": number, "method": "full", "loss": "sigmoid", "learning_rate": 1e-4, **fields}
    return Round.objects.create(**{"policy": fields.get("policy") or make_policy(), **values})


def make_judged() -> tuple[Policy, list[Story]]:
    """The policy in use, with a comparison that one person has ranked: its stories, best first."""
    policy = make_policy("base", current=True)
    comparison = make_comparison(policy=policy)
    order = list(comparison.policy.stories.order_by("-pk"))
    judge_by_story(make_expert(), order)
    return policy, order
