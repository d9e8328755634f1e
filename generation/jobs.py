"""What the page's buttons have done: a worker of the queue starts a process, and looks after it.

The process loads the model and gives all of its memory back; neither the web nor the worker ever
imports torch. A job that is delivered twice finds its lock taken and leaves.
"""

import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from django.conf import settings

from generation import locks, readings, runs
from generation.engines import processes
from generation.engines.faults import has_room
from generation.models import EngineCheck, Policy, RunState, WritingRun
from generation.signals import stories_written
from generation.summaries import summarise

BEAT = 2.0  # seconds between looks at a run
CHECK_SECONDS = 900  # for large weights from a slow disk
KILLED = -9


def check() -> None:
    """Have the engine of this installation checked, once at a time; whatever happens, a row says how it went."""
    with locks.held(locks.CHECK) as mine:
        if mine:
            _check()


def read(policy_id: int) -> None:
    """Have the judge model that is chosen read a policy's stories, one policy at a time; the page says how it went.

    Choosing another judge, or none, ends it: what is read is kept.
    """
    with locks.held(locks.READ) as mine:
        chosen = readings.judge_model()
        if mine and chosen:
            _read(Policy.objects.get(pk=policy_id), chosen.policy)


def lonely_runs() -> list[int]:
    """Ids of runs begun on the page whose worker is gone, and whose message the queue has lost."""
    begun = WritingRun.objects.at_work().exclude(launched_by=None)
    return [run.pk for run in begun if not runs.worked_on(run) and not locks.is_held(locks.of_run(run.pk))]


def write(run_id: int) -> None:
    """Take part in the run until it ends, and announce its stories. A run that has ended is left alone."""
    with locks.held(locks.of_run(run_id)) as mine:
        if not mine:
            return
        run = WritingRun.objects.select_related("policy").get(pk=run_id)
        if run.state == RunState.RUNNING:
            _write(run)
            run.refresh_from_db()
        if run.state == RunState.DONE:
            stories_written.send(sender=WritingRun, run=run)
            summarise(run.policy)  # here, so that no page waits for it


def _check() -> None:
    newest = EngineCheck.objects.first()
    log = _log("check-engine")
    process = _start(["check_engine", "--engine", settings.ENGINE], log)
    try:
        status = process.wait(timeout=CHECK_SECONDS)
    except subprocess.TimeoutExpired:
        message = f"The engine has written nothing for {CHECK_SECONDS // 60} minutes: the check was ended. See {log}."
    else:
        message = _explain(status, log)
    finally:
        processes.stop(process)
    if not EngineCheck.objects.filter(pk__gt=newest.pk if newest else 0).exists():
        policy = Policy.objects.current()
        EngineCheck.objects.create(engine=settings.ENGINE, policy=policy, well=False, message=message)


def _read(policy: Policy, judge: Policy) -> None:
    log = _log("read-stories")
    arguments = ["read_stories", "--policy", policy.name, "--judge", judge.name, "--engine", settings.ENGINE, "--json"]
    process = _start(arguments, log)
    try:
        while process.poll() is None:
            chosen = readings.judge_model()
            if chosen is None or chosen.policy != judge:
                return
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=BEAT)
    finally:
        processes.stop(process)
    if process.returncode != 0:
        readings.note(judge=judge, message=_explain(process.returncode, log))


def _write(run: WritingRun) -> None:
    log = _log(f"writing-run-{run.pk}")
    process = _start(["write_stories", "--run", str(run.pk), "--engine", settings.ENGINE, "--json"], log)
    try:
        while process.poll() is None:
            runs.report(run)  # here, too: while the model is loading the process says nothing
            try:
                process.wait(timeout=BEAT)
            except subprocess.TimeoutExpired:
                continue
    except runs.RunEnded:
        return
    finally:
        processes.stop(process)
    if process.returncode != 0:
        runs.fail_if_alone(run, _explain(process.returncode, log))  # nothing, if the process has said so itself


def _start(arguments: list[str], log: Path) -> subprocess.Popen[str]:
    return processes.start([sys.executable, "manage.py", *arguments], log=log, directory=settings.BASE_DIR)


def _log(name: str) -> Path:
    return Path(settings.VAR_DIR) / "log" / f"{name}.log"


def _explain(status: int, log: Path) -> str:
    if status == KILLED:
        return (
            "The process was killed (signal 9), most often for want of memory: let nothing else use the GPU or the "
            f"memory, or choose a smaller model. What is written is kept. (All of it: {log})"
        )
    if status > 0 and not has_room(log.parent):
        return f"The disk of {log.parent} is full: free some space, and begin again. What is written is kept."
    return f"{processes.last_words(log)} (exit status {status}; all of it: {log})"
