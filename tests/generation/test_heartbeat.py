"""What is done again and again beside something long."""

import threading

import pytest
from django.db import OperationalError, connection

from generation.heartbeat import beating

pytestmark = pytest.mark.django_db(transaction=True)


class Over(Exception):
    pass


def test_it_beats_until_the_block_is_over() -> None:
    third = threading.Event()
    beats: list[int] = []

    def act() -> None:
        beats.append(1)
        if len(beats) == 3:
            third.set()

    with beating(act, 0.01):
        assert third.wait(10)
    count = len(beats)
    assert not threading.Event().wait(0.05)
    assert len(beats) == count


def test_a_connection_that_is_lost_is_made_anew() -> None:
    again = threading.Event()
    sessions: list[int] = []

    def act() -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            sessions.append(cursor.fetchone()[0])
            if len(sessions) == 1:
                cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        again.set()

    with beating(act, 0.01, until=(Over,)):
        assert again.wait(10)
    assert len(set(sessions)) == 2


def test_an_expected_end_is_no_fault() -> None:
    ended = threading.Event()

    def act() -> None:
        ended.set()
        raise Over

    with beating(act, 0.01, until=(Over,)):
        assert ended.wait(10)
    assert not issubclass(Over, OperationalError)
