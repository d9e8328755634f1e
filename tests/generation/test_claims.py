"""A prompt belongs to one database session at a time, and is free the moment that session is gone.

Each test has policies of its own: a session that hangs up is gone a moment later.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection

from generation.models import Prompt, WritingRun
from generation.runs import release, try_claim
from tests.threads import at_once

pytestmark = pytest.mark.django_db


def hang_up() -> None:
    connection.close()  # the calling thread's


class Session:
    """A database session of its own, in a thread."""

    def __init__(self) -> None:
        self.thread = ThreadPoolExecutor(1)

    def do(self, act: Callable, *given: object) -> object:
        return self.thread.submit(act, *given).result(10)

    def end(self) -> None:
        self.do(hang_up)
        self.thread.shutdown()


@pytest.fixture
def other() -> Iterator[Session]:
    session = Session()
    yield session
    session.end()


@pytest.fixture(autouse=True)
def _nothing_claimed(db: None) -> Iterator[None]:
    """Of the tests' own session, which lives on."""
    yield
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_unlock_all()")


def backend() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return cursor.fetchone()[0]


def test_a_claimed_prompt_is_given_to_nobody_else(other):
    run, prompt = WritingRun(policy_id=1), Prompt(pk=1)
    assert try_claim(run, prompt)
    assert not other.do(try_claim, run, prompt)
    release(run, prompt)
    assert other.do(try_claim, run, prompt)


def test_other_prompts_and_other_policies_are_free(other):
    assert try_claim(WritingRun(policy_id=6), Prompt(pk=1))
    assert other.do(try_claim, WritingRun(policy_id=6), Prompt(pk=2))
    assert other.do(try_claim, WritingRun(policy_id=7), Prompt(pk=1))


def test_ids_of_any_size_can_be_claimed(other):
    run, prompt = WritingRun(policy_id=2**40), Prompt(pk=2**62)
    assert try_claim(run, prompt)
    assert not other.do(try_claim, run, prompt)


def test_a_claim_ends_with_its_session(other):
    run, prompt = WritingRun(policy_id=3), Prompt(pk=1)
    other.do(try_claim, run, prompt)
    other.do(hang_up)
    assert soon(lambda: try_claim(run, prompt))


def test_a_claim_ends_when_its_session_is_killed(other):
    run, prompt = WritingRun(policy_id=4), Prompt(pk=1)
    other.do(try_claim, run, prompt)
    assert not try_claim(run, prompt)
    victim = other.do(backend)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s)", [victim])
    assert soon(lambda: try_claim(run, prompt))


def soon(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 5
    while not (met := condition()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return met


@pytest.mark.django_db(transaction=True)
def test_of_many_sessions_one_gets_a_prompt():
    run, prompt = WritingRun(policy_id=5), Prompt(pk=1)
    assert sum(at_once(6, lambda _: try_claim(run, prompt) and not time.sleep(0.3))) == 1
