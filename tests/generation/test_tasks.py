"""What the page's buttons have done, in processes that are stood in for here by small ones."""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator

import psycopg
import pytest
from django.db import connection

from annotate.models import Comparison
from config.settings import _conninfo
from generation import jobs, locks, runs
from generation.engines import processes
from generation.models import EngineCheck, Policy, RunState, WritingRun
from generation.signals import stories_written
from generation.tasks import check_engine, write_run
from tests.factories import make_policy, make_prompt, make_story

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _folders(tmp_path, settings, monkeypatch) -> None:
    settings.VAR_DIR = tmp_path
    monkeypatch.setattr(jobs, "BEAT", 0.05)


@pytest.fixture
def started(monkeypatch) -> Callable[[str], list[list[str]]]:
    """started(code) has jobs run `code` instead of manage.py, and returns the list of what they asked for."""
    asked: list[list[str]] = []

    def stand_in(code: str) -> list[list[str]]:
        def start(arguments: list[str], log: object) -> object:
            asked.append(arguments)
            return processes.start([sys.executable, "-c", code], log=log, directory=jobs.settings.BASE_DIR)

        monkeypatch.setattr(jobs, "_start", start)
        return asked

    return stand_in


@pytest.fixture
def announced() -> Iterator[list[WritingRun]]:
    found: list[WritingRun] = []

    def hear(run: WritingRun, **_: object) -> None:
        found.append(run)

    stories_written.connect(hear)
    yield found
    stories_written.disconnect(hear)


@pytest.fixture
def policy() -> Policy:
    found, prompt = make_policy("base", current=True), make_prompt()
    make_story(found, prompt, 0)
    make_story(found, prompt, 1)
    return found


@pytest.fixture
def run(policy: Policy) -> WritingRun:
    return runs.begin_or_join(policy=policy, count=4, engine="transformers")


@pytest.fixture
def elsewhere() -> Iterator[Callable[[int], None]]:
    """elsewhere(key) holds a lock in another session."""
    with psycopg.connect(_conninfo()) as session:
        yield lambda key: session.execute("SELECT pg_advisory_lock(%s::int, %s::int)", [locks.NAMESPACE, key])


class TestLocks:
    def test_a_lock_is_held_in_the_block_only(self) -> None:
        with locks.held(locks.CHECK) as mine:
            assert mine
            assert locks.is_held(locks.CHECK)
        assert not locks.is_held(locks.CHECK)

    def test_what_another_session_holds_is_not_ours(self, elsewhere) -> None:
        elsewhere(5)
        with locks.held(5) as mine:
            assert not mine
        assert locks.is_held(5)

    def test_it_is_free_when_its_holder_is_gone(self) -> None:
        with psycopg.connect(_conninfo()) as session:
            session.execute("SELECT pg_advisory_lock(%s::int, 6)", [locks.NAMESPACE])
        deadline = time.monotonic() + 5
        while locks.is_held(6):  # PostgreSQL hears of it a moment later
            assert time.monotonic() < deadline
            time.sleep(0.01)


class TestCheck:
    def test_it_checks_the_engine_of_this_installation(self, started, settings) -> None:
        settings.ENGINE = "vllm"
        asked = started("")
        check_engine()
        assert asked == [["check_engine", "--engine", "vllm"]]

    def test_a_process_that_fell_over_is_said_with_its_last_words(self, started, policy: Policy) -> None:
        started("raise SystemExit('no such library')")
        check_engine()
        found = EngineCheck.objects.get()
        assert (found.well, found.policy) == (False, policy)
        assert "no such library" in found.message

    def test_what_the_process_has_said_itself_stands(self, started, monkeypatch) -> None:
        started("raise SystemExit(1)")
        stop = processes.stop

        def store_and_stop(process: object) -> None:
            EngineCheck.objects.create(engine="transformers", well=False, message="its own words")
            stop(process)

        monkeypatch.setattr(processes, "stop", store_and_stop)
        check_engine()
        assert EngineCheck.objects.get().message == "its own words"

    def test_one_that_never_ends_is_ended(self, started, monkeypatch) -> None:
        monkeypatch.setattr(jobs, "CHECK_SECONDS", 0.2)
        started("import time; time.sleep(60)")
        check_engine()
        assert "the check was ended" in EngineCheck.objects.get().message

    def test_two_at_once_are_one(self, started, elsewhere) -> None:
        elsewhere(locks.CHECK)
        asked = started("")
        check_engine()
        assert asked == []


class TestWriting:
    def test_the_policy_of_the_run_writes_as_many_as_the_run_wants(self, started, run: WritingRun) -> None:
        asked = started("")
        write_run(run.pk)
        assert asked == [["write_stories", "--run", str(run.pk), "--engine", "transformers", "--json"]]

    def test_the_run_has_a_worker_while_the_process_loads(self, started, run: WritingRun) -> None:
        WritingRun.objects.update(seen_at="2020-01-01T00:00Z")
        started("import time; time.sleep(0.2)")
        write_run(run.pk)
        run.refresh_from_db()
        assert runs.worked_on(run)

    def test_a_process_that_was_killed_ends_the_run_with_a_reason(self, started, run: WritingRun) -> None:
        started("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
        write_run(run.pk)
        run.refresh_from_db()
        assert run.state == RunState.FAILED
        assert "memory" in run.message

    def test_a_process_that_fell_over_ends_the_run_with_its_last_words(self, started, run: WritingRun) -> None:
        started("raise SystemExit('the folder is gone')")
        write_run(run.pk)
        run.refresh_from_db()
        assert "the folder is gone (exit status 1; all of it: " in run.message

    def test_delivered_twice_it_is_done_once(self, started, run: WritingRun, elsewhere) -> None:
        elsewhere(locks.of_run(run.pk))
        asked = started("")
        write_run(run.pk)
        assert asked == []

    @pytest.mark.parametrize("state", [RunState.CANCELLED, RunState.FAILED, RunState.DONE])
    def test_a_run_that_has_ended_is_left_alone(self, started, run: WritingRun, state: RunState) -> None:
        runs.end_run(run, state)
        asked = started("")
        write_run(run.pk)
        assert asked == []


class TestAfterwards:
    def test_a_run_that_is_done_is_announced(self, started, run: WritingRun, announced: list[WritingRun]) -> None:
        runs.end_run(run, RunState.DONE)
        started("")
        write_run(run.pk)
        assert announced == [run]

    def test_one_that_was_cancelled_is_not(self, started, run: WritingRun, announced: list[WritingRun]) -> None:
        runs.end_run(run, RunState.CANCELLED)
        started("")
        write_run(run.pk)
        assert announced == []

    def test_the_stories_of_the_policy_in_use_come_before_experts(self, run: WritingRun) -> None:
        stories_written.send(sender=WritingRun, run=run)
        assert Comparison.objects.get().policy == run.policy

    def test_those_of_another_policy_do_not(self, run: WritingRun) -> None:
        Policy.objects.update(is_current=False)
        stories_written.send(sender=WritingRun, run=run)
        assert not Comparison.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_cancel_while_it_writes_reaches_the_process(started, policy: Policy) -> None:
    run = runs.begin_or_join(policy=policy, count=4, engine="transformers")
    started("import time; time.sleep(60)")

    def cancel() -> None:
        while not locks.is_held(locks.of_run(run.pk)):
            time.sleep(0.02)
        runs.cancel(run)
        connection.close()

    thread = threading.Thread(target=cancel)
    thread.start()
    write_run(run.pk)
    thread.join()
    run.refresh_from_db()
    assert run.state == RunState.CANCELLED


@pytest.mark.django_db(transaction=True)
def test_the_process_is_manage_py(monkeypatch, settings) -> None:
    settings.VAR_DIR = os.environ["STORYLOOP_VAR"]
    check_engine()
    assert "There is no policy in use." in EngineCheck.objects.get().message
