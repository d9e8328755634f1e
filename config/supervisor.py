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


class EndedAtStart(RuntimeError):
    """A process ended just after its start; the message names it."""


def worker_command(queue: str, concurrency: int) -> list[str]:
    # threads: docs/adr/0015
    options = ["-Q", queue, "-n", f"{queue}@%h", "--pool", "threads", "--concurrency", str(concurrency)]
    quiet = ["--without-gossip", "--without-mingle", "--loglevel", "INFO"]
    return [sys.executable, "-m", "celery", "-A", "config", "worker", *options, *quiet]


def supervise(commands: Mapping[str, list[str]], say: Callable[[str], None]) -> None:
    """Run a process for each name until SIGTERM or SIGINT, which they are told: they finish their tasks.

    Raises EndedAtStart. If this process is killed, the kernel kills them.
    """
    stopping = False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal stopping
        stopping = True

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    started = {name: _start(command) for name, command in commands.items()}
    born = dict.fromkeys(started, time.monotonic())
    try:
        while not stopping:
            for name, process in started.items():
                if (status := process.poll()) is None:
                    continue
                # what a signal has ended may live longer the next time
                if status >= 0 and time.monotonic() - born[name] < YOUNG:
                    raise EndedAtStart(f"The {name} ended at its start ({status}): see the lines above.")
                say(f"The {name} has ended ({status}); it is started anew.")
                started[name], born[name] = _start(commands[name]), time.monotonic()
            time.sleep(LOOK)
    finally:
        for process in started.values():
            process.terminate()  # a second SIGTERM, if the terminal or systemd told the whole group, is ignored
        for process in started.values():
            process.wait()
        for number, handler in before.items():
            signal.signal(number, handler)


def _start(command: list[str]) -> subprocess.Popen[bytes]:
    # in the same group: who signals the group reaches the tasks' processes, too
    return subprocess.Popen(command, cwd=settings.BASE_DIR, stdin=subprocess.DEVNULL, preexec_fn=die_with_parent)  # noqa: PLW1509
