"""Celery processes that run side by side, one for each queue: a round of hours holds up no sweep."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from types import FrameType

from django.conf import settings

from generation.engines.processes import die_with_parent

YOUNG = 30.0  # seconds: what ends by itself so soon will end again, what lived longer is started anew
LOOK = 0.5
PAUSE = 1.0  # before what has lived so shortly is started anew


class EndedAtStart(RuntimeError):
    """A process ended just after its start; the message names it."""


def worker_command(queue: str, concurrency: int) -> list[str]:
    # threads: docs/adr/0015
    options = ["-Q", queue, "-n", f"{queue}@%h", "--pool", "threads", "--concurrency", str(concurrency)]
    quiet = ["--without-gossip", "--without-mingle", "--loglevel", "INFO"]
    return [sys.executable, "-m", "celery", "-A", "config", "worker", *options, *quiet]


def supervise(commands: Mapping[str, list[str]], say: Callable[[str], None]) -> None:
    """Run a process for each name until SIGTERM or SIGINT, which they are told: they finish their tasks. A second
    SIGINT ends them: what they were at goes on elsewhere.

    Raises EndedAtStart. If this process is killed, the kernel kills them.
    """
    asked: list[int] = []
    running: dict[str, _Child] = {}

    def stop(number: int, frame: FrameType | None) -> None:
        asked.append(number)  # a second SIGTERM, if the terminal or systemd told the whole group, is ignored
        if asked.count(signal.SIGINT) > 1:
            _kill(running)

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    running.update({name: _Child(name, command) for name, command in commands.items()})
    try:
        while not asked:
            for child in running.values():
                child.look_after(say)
            time.sleep(LOOK)
        for child in running.values():
            child.process.terminate()
    except EndedAtStart:
        _kill(running)  # nothing of theirs is worth hours of waiting
        raise
    finally:
        for child in running.values():
            child.process.wait()
        for number, handler in before.items():
            signal.signal(number, handler)


class _Child:
    """A process, and another one in its place when it has ended."""

    def __init__(self, name: str, command: list[str]) -> None:
        self.name, self.command = name, command
        self.starts, self.due = 0, 0.0
        self._start()

    def _start(self) -> None:
        self.process, self.born, self.due = _start(self.command), time.monotonic(), 0.0
        self.starts += 1

    def look_after(self, say: Callable[[str], None]) -> None:
        """Raises EndedAtStart. One that was started anew and ends at once is given time: code may be being replaced."""
        status, now = self.process.poll(), time.monotonic()
        if status is None or now < self.due:
            return
        young = now - self.born < YOUNG
        # what a signal has ended may live longer the next time
        if young and self.starts == 1 and status >= 0:
            raise EndedAtStart(f"The {self.name} ended at its start ({status}): see the lines above.")
        if not self.due:
            say(f"The {self.name} has ended ({status}); it is started anew.")
        if young and not self.due:
            self.due = now + PAUSE
        else:
            self._start()


def _kill(running: Mapping[str, _Child]) -> None:
    for child in running.values():
        child.process.kill()


def _start(command: list[str]) -> subprocess.Popen[bytes]:
    # in the same group: who signals the group reaches the tasks' processes, too
    return subprocess.Popen(command, cwd=settings.BASE_DIR, stdin=subprocess.DEVNULL, preexec_fn=die_with_parent)  # noqa: PLW1509
