"""What a load balancer and Prometheus are told."""

import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest
from celery import current_app
from django.db import IntegrityError, connection, transaction
from django.test import Client
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families

from annotate.models import Assignment, Comparison
from config import readiness
from config.alive import say_alive
from config.models import Process
from generation.version import VERSION
from tests.environment import ROOT
from tests.factories import judge_by_story, make_comparison, make_expert, make_run, make_story
from tests.training.test_models import make_round
from training.rounds import take_round

TOKEN = "a-token-of-twenty-characters"
WELL = {"database": "ok", "migrations": "ok", "broker": "ok", "static": "ok"}


@pytest.fixture(autouse=True)
def _asked_anew() -> None:
    readiness._last = None


@pytest.fixture
def figures(settings, db):
    """() -> {(name, labels): value} of /metrics."""
    settings.METRICS_TOKEN = TOKEN

    def read() -> dict[tuple[str, ...], float]:
        answer = Client().get("/metrics", headers={"authorization": f"Bearer {TOKEN}"})
        assert answer.status_code == 200
        families = text_string_to_metric_families(answer.content.decode())
        return {(s.name, *s.labels.values()): s.value for family in families for s in family.samples}

    return read


def test_a_process_answers_without_its_database() -> None:
    answer = Client().get("/healthz")  # no mark of pytest-django: a query would fail
    assert (answer.status_code, answer.content) == (200, b"ok\n")
    assert "no-store" in answer.headers["Cache-Control"]
    assert not answer.cookies


@pytest.mark.django_db
def test_what_is_well_is_ready() -> None:
    answer = Client().get("/readyz")
    assert (answer.status_code, answer.json()) == (200, {"ready": True, "checks": WELL})


@pytest.mark.django_db
def test_asking_leaves_no_session_of_the_database_behind() -> None:
    readiness.examine()
    before = sessions()
    for _ in range(5):
        readiness.examine()
    assert sessions() == before


def sessions() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")
        return cursor.fetchone()[0]


@pytest.mark.django_db
def test_a_migration_to_be_applied_is_not_ready(monkeypatch) -> None:
    monkeypatch.setattr(readiness, "_known", lambda: frozenset({("config", "0001_initial"), ("config", "9999_next")}))
    answer = Client().get("/readyz")
    assert (answer.status_code, answer.json()["checks"]["migrations"]) == (503, "1 to be applied")


@pytest.mark.django_db
def test_a_broker_that_is_gone_is_not_ready_and_its_password_is_not_told(monkeypatch) -> None:
    monkeypatch.setattr(current_app.conf, "broker_read_url", "amqp://me:canary@127.0.0.1:1//")
    answer = Client().get("/readyz")
    assert (answer.status_code, answer.json()["checks"]) == (503, {**WELL, "broker": "not reachable"})
    assert b"canary" not in answer.content


@pytest.mark.django_db
def test_static_files_that_nobody_has_collected_are_not_ready(settings, tmp_path: Path) -> None:
    storage = {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"}
    settings.STATIC_ROOT, settings.STORAGES = tmp_path, {**settings.STORAGES, "staticfiles": storage}
    assert readiness.static() == "not collected"
    (tmp_path / "staticfiles.json").write_text("{}")
    assert readiness.static() == "ok"


@pytest.mark.parametrize("said", ["", "Bearer", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer ä"])
def test_figures_want_the_token(settings, said: str) -> None:
    settings.METRICS_TOKEN = TOKEN
    assert Client().get("/metrics", headers={"authorization": said}).status_code == 401


@pytest.mark.django_db
def test_without_a_token_there_are_no_figures() -> None:
    assert Client().get("/metrics", headers={"authorization": "Bearer "}).status_code == 404


def test_the_figures_are_those_of_the_database(figures) -> None:
    expert = make_expert()
    story = make_comparison(2).stories.order_by("pk")
    judge_by_story(expert, list(story))
    comparison = make_comparison(2)
    make_story(comparison.policy, comparison.prompt, 3, run=make_run())
    take_round(make_round().pk)
    found = figures()
    assert found["storyloop_info", VERSION] == 1
    assert found["storyloop_broker_up",] == 1
    assert (
        found["storyloop_judgements_last_hour", "people"] == found["storyloop_experts_active_last_hour", "people"] == 1
    )
    assert found["storyloop_judgements_last_hour", "simulated"] == 0
    assert found["storyloop_comparisons_open", "preference"] == Comparison.objects.open().count() == 2
    assert found["storyloop_stories_last_hour",] == found["storyloop_writing_runs",] == 1
    assert found["storyloop_rounds", "queued"] == 1
    assert found["storyloop_rounds", "failed"] == 0
    assert 0 <= found["storyloop_round_lease_age_seconds", "1"] < 30
    assert found["storyloop_database_bytes",] > 1e6
    assert 1 <= found["storyloop_database_sessions",] <= found["storyloop_database_sessions_allowed",]


def test_an_hour_later_nobody_is_active(figures) -> None:
    judgement = judge_by_story(make_expert(), list(make_comparison(2).stories.order_by("pk")))
    Assignment.objects.filter(judgement=judgement).update(answered_at=timezone.now() - timedelta(hours=1, seconds=1))
    assert figures()["storyloop_judgements_last_hour", "people"] == 0


def test_messages_that_wait_are_counted(figures, transactional_db) -> None:
    before = figures()["storyloop_queue_messages", current_app.conf.task_default_queue]
    current_app.send_task("nobody.knows")
    assert figures()["storyloop_queue_messages", current_app.conf.task_default_queue] == before + 1
    with current_app.connection_for_write() as asked:
        asked.default_channel.queue_purge(current_app.conf.task_default_queue)


@pytest.mark.django_db(transaction=True)
def test_a_worker_says_that_it_runs_and_what_it_hears(figures) -> None:
    command = ["-A", "config", "worker", "--pool", "solo", "-Q", "training", "--without-mingle", "--without-gossip"]
    worker = subprocess.Popen([sys.executable, "-m", "celery", *command], cwd=ROOT, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while not Process.objects.alive().exists() and worker.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
        found = Process.objects.get()
        assert (found.pid, found.role, found.queues, found.version) == (worker.pid, "worker", ["training"], VERSION)
        assert figures()["storyloop_queue_workers", "training"] == 1
        assert figures()["storyloop_processes", "worker", VERSION] == 1
    finally:
        worker.kill()
        worker.wait()


@pytest.mark.django_db
def test_who_has_long_said_nothing_is_not_alive_and_then_forgotten() -> None:
    now = timezone.now()
    for pid, ago in ((1, 60), (2, 120), (3, 100_000)):
        values = {"role": "worker", "host": "there", "version": "1", "seen_at": now - timedelta(seconds=ago)}
        Process.objects.create(pid=pid, **values)
    assert [found.pid for found in Process.objects.alive()] == [1]
    say_alive("beat", [])
    assert list(Process.objects.filter(host="there").values_list("pid", flat=True)) == [1, 2]


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("constraint", "fields"), [("process_once", {}), ("process_role_known", {"pid": 2, "role": "cook"})]
)
def test_the_database_refuses_a_process_that_breaks(constraint: str, fields: dict) -> None:
    values = {"role": "beat", "host": "here", "pid": 1, "version": "1"}
    Process.objects.create(**values)
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        Process.objects.create(**{**values, **fields})
