"""Two workers share a run: in threads with an engine of the test's, and as processes with the real one."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from threading import Barrier

import pytest
from django.db import connection

from generation.engines.values import Request
from generation.models import EmptyPlace, Policy, Prompt, RunState, Story, WritingRun
from generation.policies import register_policy
from generation.runs import NAMESPACE, begin_or_join, release, try_claim
from generation.stories import Written, write_stories
from tests.environment import ROOT
from tests.factories import make_policy, make_prompt
from tests.generation.pens import PenEngine, Said, whole
from tests.threads import at_once

pytestmark = pytest.mark.django_db(transaction=True)

PROMPTS, COUNT = 60, 3
CLAIMS = """
SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE locktype = 'advisory' AND classid = %s AND application_name = %s
"""


class Worker:
    """manage.py write_stories, known to PostgreSQL by a name."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.process = subprocess.Popen(
            [sys.executable, "manage.py", "write_stories", "--count", str(COUNT), "--json"],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PGAPPNAME": name, "STORYLOOP_MAX_STORY_TOKENS": "32"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def claims(self) -> int:
        with connection.cursor() as cursor:
            cursor.execute(CLAIMS, [NAMESPACE, self.name])
            return cursor.fetchone()[0]

    def wait_until_it_looks_for_work(self) -> None:
        """Its engine is ready, and it has reported."""
        assert self.process.stdout
        line = self.process.stdout.readline()
        assert line, self.process.stderr.read() if self.process.stderr else ""

    def last_words(self) -> str:
        out, err = self.process.communicate(timeout=120)
        assert self.process.returncode == 0, err
        return json.loads(out.splitlines()[-1])["note"]


@pytest.fixture
def policy(tiny_model) -> Policy:
    return register_policy(name="base", path=tiny_model)


@pytest.fixture
def prompts() -> list[Prompt]:
    return [make_prompt() for _ in range(PROMPTS)]


@pytest.fixture
def run_of_all(prompts: list[Prompt]) -> WritingRun:
    return begin_or_join(policy=make_policy(), count=COUNT, engine="pen")


@pytest.fixture
def run(policy: Policy, prompts: list[Prompt]) -> Iterator[WritingRun]:
    """A run all of whose prompts this test's session holds."""
    run = begin_or_join(policy=policy, count=COUNT, engine="transformers")
    assert all(try_claim(run, prompt) for prompt in prompts)
    yield run
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_unlock_all()")


@pytest.fixture
def workers(run: WritingRun) -> Iterator[list[Worker]]:
    """Two that have found nothing to do yet."""
    both = [Worker("storyloop-a"), Worker("storyloop-b")]
    for worker in both:
        worker.wait_until_it_looks_for_work()
    yield both
    for worker in both:
        worker.process.kill()
        worker.process.communicate()


def give(run: WritingRun, prompts: list[Prompt], workers: list[Worker]) -> Worker:
    """Let go of `prompts`; the worker that has taken more of them."""
    for prompt in prompts:
        release(run, prompt)
    wait_for(lambda: any(worker.claims() for worker in workers))
    time.sleep(0.2)  # it takes what it can
    return max(workers, key=lambda worker: worker.claims())


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def settled() -> set[tuple[int, int]]:
    """Places that are written or given up; none is both."""
    written = list(Story.objects.values_list("prompt", "sample_index"))
    empty = list(EmptyPlace.objects.values_list("prompt", "sample_index"))
    assert len({*written, *empty}) == len(written) + len(empty)
    return {*written, *empty}


def everything(prompts: list[Prompt]) -> set[tuple[int, int]]:
    return {(prompt.pk, index) for prompt in prompts for index in range(COUNT)}


def test_workers_that_share_a_run_write_each_story_once_and_all_have_their_part(run_of_all, prompts):
    together = Barrier(3)

    def work(index: int) -> Written:
        begun: list[bool] = []

        def say(request: Request) -> Said:
            if not begun:
                begun.append(True)
                together.wait(10)  # each has prompts of its own now
            return f"{whole(request)[0]} {index}", "stop"

        return write_stories(run=run_of_all, engine=PenEngine(say, size=6), accepted=frozenset({"0" * 64}))

    parts = [written.stored for written in at_once(3, work)]
    assert settled() == everything(prompts)
    assert Story.objects.count() == sum(parts) == PROMPTS * COUNT
    assert min(parts) >= 6
    run_of_all.refresh_from_db()
    assert (run_of_all.state, run_of_all.stored) == (RunState.DONE, PROMPTS * COUNT)


@pytest.mark.slow
def test_two_workers_share_a_run_and_when_one_is_killed_the_other_writes_the_rest(run, prompts, workers):
    victim = give(run, prompts[: PROMPTS // 2], workers)
    wait_for(lambda: Story.objects.count() >= 3)
    os.kill(victim.process.pid, signal.SIGKILL)
    victim.process.wait()
    kept = set(Story.objects.values_list("pk", flat=True))
    assert 3 <= len(kept) < PROMPTS // 2 * COUNT
    for prompt in prompts[PROMPTS // 2 :]:
        release(run, prompt)
    (survivor,) = (worker for worker in workers if worker is not victim)
    written = int(re.search(r"Stories written: (\d+)", survivor.last_words())[1])
    assert settled() == everything(prompts)
    assert kept < set(Story.objects.values_list("pk", flat=True))
    assert written == Story.objects.count() > len(kept)
    assert WritingRun.objects.get().state == RunState.DONE
