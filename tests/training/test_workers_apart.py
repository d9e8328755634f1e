"""Workers as `manage.py worker` starts them, one queue each, in processes of their own, on one round."""

import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import psutil
import pytest
from django.db.models.functions import Now
from kombu import pools

from generation.models import Policy, Split
from generation.policies import register_policy
from generation.queues import DEFAULT, GENERATION, TRAINING
from tests.environment import ROOT
from tests.factories import judge_by_story, make_comparison, make_expert, make_prompt, make_story
from tests.models import make_tiny_model
from training import schedule
from training.models import Round, State
from training.rounds import launch_round
from training.tasks import run_round, sweep_rounds

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]
Workers = dict[str, "subprocess.Popen[str]"]


@pytest.fixture
def policy(tmp_path: Path, settings) -> Policy:
    settings.MODEL_DIR, settings.EXPORT_DIR = tmp_path / "models", tmp_path / "exports"
    found = register_policy(name="base", path=make_tiny_model(tmp_path / "tiny", trained=True))
    for _ in range(6):
        judge_by_story(make_expert(), list(make_comparison(3, policy=found).stories.all()))
    prompt = make_prompt(split=Split.EVALUATION)
    for index in range(4):
        make_story(found, prompt, index)
    return found


@pytest.fixture
def workers(policy: Policy, settings, tmp_path: Path) -> Iterator[Workers]:
    """One for `default`, one that writes, two that train."""
    folders = {"STORYLOOP_MODEL_DIR": str(settings.MODEL_DIR), "STORYLOOP_EXPORT_DIR": str(settings.EXPORT_DIR)}
    folders["STORYLOOP_STORIES_PER_PROMPT"] = "3"  # the base has them: it need not be loaded
    queues = {"default": DEFAULT, "writer": GENERATION, "trainer 1": TRAINING, "trainer 2": TRAINING}
    with (tmp_path / "workers.log").open("w") as log:
        started = {
            name: subprocess.Popen(
                [sys.executable, "manage.py", "worker", "--queues", queue, "--concurrency", "1"],
                cwd=ROOT,
                env={**os.environ, **folders},
                stdout=log,
                stderr=log,
                text=True,
                start_new_session=True,
            )  # fmt: skip
            for name, queue in queues.items()
        }
        yield started
        for process in started.values():
            kill(process)
        pools.reset()  # this process's own connection to the queue


def kill(worker: "subprocess.Popen[str]") -> None:
    with suppress(ProcessLookupError):
        os.killpg(worker.pid, signal.SIGKILL)
    worker.wait()


def holder(workers: Workers) -> str:
    """The name of the worker in whose processes the round is."""
    owner = Round.objects.get().owner
    if not owner:
        return ""
    try:
        above = {process.pid for process in psutil.Process(int(owner.split(":")[1])).parents()}
    except psutil.NoSuchProcess:
        return ""
    return next((name for name, process in workers.items() if process.pid in above), "")


def wait_for(reached: Callable[[Round], bool], log: Path) -> None:
    deadline = time.monotonic() + 180
    while not reached(found := Round.objects.get()):
        assert time.monotonic() < deadline, (found.__dict__, log.read_text()[-3000:])
        assert found.state not in (State.FAILED, State.CANCELLED), found.message
        time.sleep(0.03)


def test_each_part_is_done_by_the_worker_of_its_queue_and_another_goes_on_after_a_kill(
    workers: Workers, tmp_path: Path
) -> None:
    launched = launch_round(**{**schedule.DEFAULTS, "epochs": 3, "batch_pairs": 2})
    run_round.delay(launched.pk)
    seen: dict[str, set[str]] = defaultdict(set)

    def look(found: Round) -> None:
        if name := holder(workers):
            seen[found.state].add(name)

    def training(found: Round) -> bool:
        look(found)
        return found.state == State.TRAINING and found.done >= 1

    wait_for(training, tmp_path / "workers.log")
    victim = holder(workers)
    other = {"trainer 1": "trainer 2", "trainer 2": "trainer 1"}[victim]
    kill(workers[victim])
    Round.objects.update(lease_until=Now() - timedelta(seconds=1))  # as if it had run out
    sweep_rounds.delay()  # in the beat's place

    def judging(found: Round) -> bool:
        look(found)
        return found.state == State.JUDGING

    wait_for(judging, tmp_path / "workers.log")
    found = Round.objects.get()
    assert seen[State.TRAINING] == {victim, other}
    assert seen[State.WRITING] == {"writer"}
    assert (holder(workers), found.attempt, found.losses) == ("writer", 3, 0)
    assert found.result
    assert found.result.stories.exists()
    steps = list(found.metrics.trained().values_list("step", flat=True))
    assert steps == list(range(1, len(steps) + 1))
    assert found.metrics.last().held_out
    assert all(process.poll() is None for name, process in workers.items() if name != victim)
