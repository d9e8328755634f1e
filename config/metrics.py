"""What Prometheus is told. Every figure is computed from the database or the broker, so all web processes agree."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

from celery import current_app
from django.conf import settings
from django.db import connection
from django.db.models import Count, Q
from django.db.models.functions import Now
from kombu.exceptions import ChannelError
from prometheus_client.core import CollectorRegistry, GaugeMetricFamily, Metric
from prometheus_client.exposition import generate_latest

from annotate.models import Comparison, Expert
from annotate.models.queue import Purpose
from config.models import Process
from config.readiness import BROKER_SECONDS
from generation.models import RunState, Story, WritingRun
from generation.version import VERSION
from training.models import Round, State
from training.rounds import LEASE

HOUR = timedelta(hours=1)


def exposition() -> bytes:
    """In Prometheus's text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector())
    return generate_latest(registry)


class _Collector:
    def collect(self) -> Iterator[Metric]:
        for part in PARTS:
            yield from part()


def _about() -> Iterator[Metric]:
    told = _gauge("info", "The version of the web process that answers.", ["version"])
    told.add_metric([VERSION], 1)
    yield told


def _queues() -> Iterator[Metric]:
    """Without the messages, if the broker does not answer."""
    up = _gauge("broker_up", "1 if the queue's server answers.")
    depth = _gauge("queue_messages", "Messages that wait in a queue.", ["queue"])
    try:
        with current_app.connection_for_read(connect_timeout=BROKER_SECONDS) as asked:
            asked.ensure_connection(max_retries=1, interval_start=0, interval_step=0, timeout=BROKER_SECONDS)
            for name in queue_names():
                depth.add_metric([name], _depth(asked, name))
    except Exception:  # each transport has errors of its own
        up.add_metric([], 0)
    else:
        up.add_metric([], 1)
        yield depth
    yield up


def queue_names() -> list[str]:
    """Those that the settings name, and those that a worker listens to."""
    routes: dict[str, dict[str, str]] = getattr(settings, "CELERY_TASK_ROUTES", {})
    routed = {route["queue"] for route in routes.values() if "queue" in route}
    heard = {name for queues in Process.objects.alive().values_list("queues", flat=True) for name in queues}
    return sorted(routed | heard | set(current_app.amqp.queues))


def _depth(asked: Any, name: str) -> int:
    try:
        # a channel for each: asking for a queue that nobody has made closes it, in RabbitMQ
        with asked.channel() as channel:
            return int(channel.queue_declare(queue=name, passive=True).message_count)
    except ChannelError:
        return 0
    except asked.channel_errors:
        return 0


def _processes() -> Iterator[Metric]:
    running = _gauge("processes", "Workers and beats that said in the last 90 s that they run.", ["role", "version"])
    for row in Process.objects.alive().order_by().values("role", "version").annotate(n=Count("pk")):
        running.add_metric([row["role"], row["version"]], row["n"])
    hearing = _gauge("queue_workers", "Workers that listen to a queue.", ["queue"])
    heard = [name for queues in Process.objects.alive().values_list("queues", flat=True) for name in queues]
    for name in queue_names():
        hearing.add_metric([name], heard.count(name))
    yield from (running, hearing)


def _rounds() -> Iterator[Metric]:
    counted = dict(Round.objects.order_by().values_list("state").annotate(n=Count("pk")))
    rounds = _gauge("rounds", "Rounds by state.", ["state"])
    for state in State.values:
        rounds.add_metric([state], counted.get(state, 0))
    lease = _gauge(
        "round_lease_age_seconds",
        f"Since the process that works on a round last said so; above {LEASE.total_seconds():.0f} it is given up.",
        ["round"],
    )
    since = _gauge("round_state_seconds", "How long the round that is not over is in its state.", ["round", "state"])
    done = _gauge("round_done", "Steps or stories done, by state.", ["round", "state"])
    total = _gauge("round_total", "Steps or stories wanted, by state.", ["round", "state"])
    for one in Round.objects.undecided().annotate(now=Now()):
        labels = [str(one.number), str(one.state)]
        since.add_metric(labels, (one.now - one.state_since).total_seconds())
        done.add_metric(labels, one.done)
        total.add_metric(labels, one.total)
        if one.lease_until and one.at_work:
            lease.add_metric(labels[:1], (one.now - one.lease_until + LEASE).total_seconds())
    yield from (rounds, lease, since, done, total)


def _judging() -> Iterator[Metric]:
    """By the index of each expert's answers: a scan of all judgements would take a second one day."""
    answered = Q(assignments__answered_at__gt=Now() - HOUR)
    rows = Expert.objects.filter(answered).order_by().values("simulated")
    rows = rows.annotate(answers=Count("assignments"), experts=Count("pk", distinct=True))
    found = {row["simulated"]: (row["answers"], row["experts"]) for row in rows}
    judgements = _gauge("judgements_last_hour", "Comparisons answered in the last hour.", ["experts"])
    active = _gauge("experts_active_last_hour", "Experts who answered in the last hour.", ["experts"])
    for simulated, label in ((False, "people"), (True, "simulated")):
        answers, people = found.get(simulated, (0, 0))
        judgements.add_metric([label], answers)
        active.add_metric([label], people)
    counted = dict(Comparison.objects.open().order_by().values_list("purpose").annotate(n=Count("pk")))
    comparisons = _gauge("comparisons_open", "Comparisons in the queue of experts.", ["purpose"])
    for purpose in Purpose.values:
        comparisons.add_metric([purpose], counted.get(purpose, 0))
    yield from (judgements, active, comparisons)


def _writing() -> Iterator[Metric]:
    lately = WritingRun.objects.filter(Q(ended_at=None) | Q(ended_at__gt=Now() - HOUR))
    stories = _gauge("stories_last_hour", "Stories written in the last hour.")
    stories.add_metric([], Story.objects.filter(run__in=lately, created_at__gt=Now() - HOUR).count())
    runs = _gauge("writing_runs", "Writing runs that are under way.")
    runs.add_metric([], WritingRun.objects.filter(state=RunState.RUNNING).count())
    yield from (stories, runs)


def _database() -> Iterator[Metric]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_database_size(current_database()), count(*), current_setting('max_connections')::int "
            "FROM pg_stat_activity WHERE usename IS NOT NULL"
        )
        size, sessions, allowed = cursor.fetchone()
    for name, words, value in (
        ("database_bytes", "Size of the database.", size),
        ("database_sessions", "Sessions of the database server.", sessions),
        ("database_sessions_allowed", "max_connections of the database server.", allowed),
    ):
        told = _gauge(name, words)
        told.add_metric([], value)
        yield told


def _gauge(name: str, words: str, labels: list[str] | None = None) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"storyloop_{name}", words, labels=labels or [])


PARTS: list[Callable[[], Iterator[Metric]]] = [_about, _queues, _processes, _rounds, _judging, _writing, _database]
