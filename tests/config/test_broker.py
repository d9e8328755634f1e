"""The queue in PostgreSQL, when its connections are cut."""

from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from celery import current_app
from django.conf import settings
from kombu import Connection, Consumer, Message, Queue

from config.broker import Transport

pytestmark = pytest.mark.django_db(transaction=True)
CUT = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s AND pid <> pg_backend_pid()"


@pytest.fixture
def name() -> str:
    return f"test_{uuid4().hex[:12]}"


@pytest.fixture
def link(name: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Connection]:
    """Its PostgreSQL sessions go by `name`."""
    monkeypatch.setenv("PGAPPNAME", name)
    options = {**settings.CELERY_BROKER_TRANSPORT_OPTIONS, "pool_size": 1}
    with Connection("pgmq://", transport_options=options) as opened:
        yield opened


@pytest.fixture
def got(link: Connection, name: str) -> Iterator[list[Message]]:
    """What a consumer has taken that takes one message at a time; two are waiting."""
    queue = Queue(name, routing_key=name)
    found: list[Message] = []
    with link.channel() as channel:
        producer = link.Producer(channel)
        for body in ("first", "second"):
            producer.publish(body, routing_key=name, declare=[queue], serializer="json")
        consumer = Consumer(channel, [queue], callbacks=[lambda body, message: found.append(message)], prefetch_count=1)
        with consumer:
            yield found
        queue(channel).delete()


def bodies(messages: list[Message]) -> list[Any]:
    return [message.payload for message in messages]


def cut(name: str) -> None:
    with psycopg.connect(settings.CELERY_BROKER_TRANSPORT_OPTIONS["conn_string"]) as other:
        assert other.execute(CUT, [name]).fetchall()


def test_it_is_what_celery_uses() -> None:
    assert isinstance(current_app.connection_for_write().transport, Transport)


@pytest.mark.parametrize("answer", [Message.ack, Message.reject, Message.requeue])
def test_a_lost_answer_does_not_make_a_consumer_deaf(
    link: Connection, got: list[Message], name: str, answer: Callable[[Message], None]
) -> None:
    link.drain_events(timeout=10)
    cut(name)
    answer(got[0])
    link.drain_events(timeout=10)
    assert bodies(got) == ["first", "second"]


def test_an_answer_is_the_end_of_its_message(link: Connection, got: list[Message], name: str) -> None:
    for _ in range(2):
        link.drain_events(timeout=10)
        got[-1].ack()
    assert link.default_channel.queue_declare(queue=name, passive=True).message_count == 0
