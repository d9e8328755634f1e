"""Log lines: whose they are, one each, and without what must not be in them."""

import json
import logging
import sys
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path

import pytest
from django.http import HttpRequest, HttpResponse
from django.test import Client
from django.urls import path

from annotate.models import Judgement
from annotate.queue import next_assignment
from config import logs
from config.tokens import make_token
from tests.annotate.browsing import open_tab, submit
from tests.factories import judge_by_story, make_comparison, make_expert
from tests.training.test_models import make_round
from training.rounds import take_round
from training.run import _run
from training.tasks import run_round

CANARY = "canary-7f3a"
FORGED = "a value\n2026-01-01T00:00:00.000Z INFO root: forged\u2028\x1b[31m"


def breaking(request: HttpRequest, key: str) -> HttpResponse:
    """A row that PostgreSQL refuses, telling it whole."""
    Judgement.objects.update(seconds=-1, reason=CANARY)
    return HttpResponse()


urlpatterns = [path("breaking/<str:key>/", breaking)]


@pytest.fixture
def written(request) -> Iterator[Callable[[], str]]:
    """All that is logged, at DEBUG, through what the settings name; as the parameter says, json or line."""
    stream = StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logs.Line() if getattr(request, "param", "") == "line" else logs.Json())
    handler.addFilter(logs.Facts())
    root, level = logging.getLogger(), logging.getLogger().level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield stream.getvalue
    root.removeHandler(handler)
    root.setLevel(level)


def lines(written: Callable[[], str], logger: str = "storyloop.access") -> list[dict]:
    return [line for line in map(json.loads, written().splitlines()) if line["logger"] == logger]


@pytest.mark.parametrize("written", ["line", "json"], indirect=True)
def test_a_value_cannot_begin_a_line_of_its_own(written) -> None:
    logging.getLogger("x").warning("said %s", FORGED)
    try:
        raise ValueError(FORGED)
    except ValueError:
        logging.getLogger("x").exception("failed")
    text = written()
    assert not any(line.startswith("2026-01-01") for line in text.splitlines())
    assert "forged" in text
    assert "\x1b" not in text


def test_a_line_of_json_says_when_in_utc(written) -> None:
    logging.getLogger("x").warning("a fox, 狐狸")
    (line,) = lines(written, "x")
    assert line["message"] == "a fox, 狐狸"
    assert "狐狸" in written()
    assert line["time"].endswith("+00:00")


@pytest.mark.django_db
def test_a_request_has_an_id_and_its_person(written) -> None:
    client, expert = Client(), make_expert()
    client.force_login(expert.user)
    answer = client.get("/judge/mine/", headers={"X-Request-ID": "proxy-1234.5"})
    assert answer.headers["X-Request-ID"] == "proxy-1234.5"
    (line,) = lines(written)
    assert (line["request_id"], line["user_id"], line["status"]) == ("proxy-1234.5", expert.user_id, 200)
    assert (line["method"], line["route"]) == ("GET", "/judge/mine/")
    assert line["ms"] > 0
    assert expert.user.username not in written()


@pytest.mark.parametrize("given", ["", "short", "x" * 65, 'a"quote-and-more', "with blanks in it", "änderung-1"])
def test_an_id_that_is_not_well_formed_is_replaced(written, given: str) -> None:
    answer = Client().get("/nowhere/", headers={"X-Request-ID": given})
    assert answer.headers["X-Request-ID"] != given
    assert len(answer.headers["X-Request-ID"]) == 32
    assert lines(written)[0]["request_id"] == answer.headers["X-Request-ID"]


def test_health_checks_are_not_logged(written) -> None:
    Client().get("/healthz")
    assert lines(written) == []


@pytest.mark.django_db
@pytest.mark.parametrize("written", ["json", "line"], indirect=True)
def test_no_password_token_cookie_or_reason_is_logged(written) -> None:
    client, expert = Client(), make_expert()
    client.post("/log-in/", {"username": expert.user.username, "password": f"{CANARY} wrong"})
    client.force_login(expert.user)
    make_comparison(2)
    assignment = next_assignment(expert=expert)
    submit(client, assignment, best=1, worst=2, reason=CANARY, **open_tab(client, assignment))
    assert Judgement.objects.get().reason == CANARY
    _made, token = make_token(user=expert.user, name="one", days=None)
    Client().get("/api/v1/me", headers={"authorization": f"Bearer {token}"})
    Client().get(f"/log-in/?next={CANARY}")
    Client().get(f"/nowhere/{CANARY}/")
    for secret in (CANARY, token, token[10:], client.session.session_key, client.cookies["csrftoken"].value):
        assert secret not in written()


@pytest.mark.django_db(transaction=True)
@pytest.mark.urls("tests.config.test_logs")
@pytest.mark.parametrize("written", ["json", "line"], indirect=True)
def test_an_error_has_its_traceback_and_not_the_row(written) -> None:
    judge_by_story(make_expert(), list(make_comparison(2).stories.order_by("pk")))
    client = Client(raise_request_exception=False)
    client.force_login(make_expert().user)
    assert client.get(f"/breaking/{CANARY}/").status_code == 500
    text = written()
    assert "judgement_seconds_positive" in text
    assert "Judgement.objects.update" in text
    assert "/breaking/<str:key>/" in text
    assert CANARY not in text
    assert "Failing row" not in text


def test_a_message_that_quotes_an_exception_has_no_row_either(written) -> None:
    error = ValueError(f"refused\nDETAIL:  Failing row contains (1, {CANARY}\nand {CANARY}).")
    logging.getLogger("celery.app.trace").error("raised %r", error)
    logging.getLogger("x").error("raised %s", error)
    assert "refused" in written()
    assert CANARY not in written()


@pytest.mark.django_db
def test_a_rounds_task_says_its_round_and_who_asked_for_it(written) -> None:
    run_round.apply(args=(4711,), headers={"request_id": "asked-for-it"})
    line = lines(written, "celery.app.trace")[-1]
    assert (line["round_id"], line["task"]) == (4711, "training.tasks.run_round")
    logging.getLogger("x").warning("afterwards")
    assert "round_id" not in lines(written, "x")[0]


@pytest.mark.django_db
def test_the_trainer_and_the_writer_are_told_their_round(tmp_path: Path) -> None:
    lease, said = take_round(make_round().pk), []
    code = f"import os; print(os.environ['{logs.ROUND_ID}'])"
    _run(lease, [sys.executable, "-c", code], tmp_path / "log", lambda line: said.append(line.strip()))
    assert said == [str(lease.round_id)]


def test_a_rounds_processes_say_their_round(written, monkeypatch) -> None:
    monkeypatch.setenv(logs.ROUND_ID, "4711")
    logging.getLogger("x").warning("writing")
    assert lines(written, "x")[0]["round_id"] == "4711"
