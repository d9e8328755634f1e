"""The processes of an installation on one machine: web, worker, beat."""

import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import Popen

from django.conf import settings

from generation.engines import processes
from generation.queues import QUEUES

START_SECONDS = 60
STOP_SECONDS = 15.0  # Celery takes about 6


class ServiceDied(RuntimeError):
    """A process ended by itself; the message names it and its log."""


def free_port() -> int:
    """One of this machine's that nobody listens to just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def web_command(port: int) -> list[str]:
    address = ["--host", "127.0.0.1", "--port", str(port)]
    options = ["--workers", "2", "--blocking-threads", "2", "--no-ws", "--respawn-failed-workers"]
    quiet = ["--log-level", "warning"]
    return [
        sys.executable,
        "-m",
        "granian",
        "--interface",
        "wsgi",
        "config.wsgi:application",
        *address,
        *options,
        *quiet,
    ]


def worker_command() -> list[str]:
    """All queues, whatever the hardware: nobody else is there."""
    return [sys.executable, "manage.py", "worker", "--queues", ",".join(QUEUES)]


def beat_command() -> list[str]:
    return [sys.executable, "-m", "celery", "-A", "config", "beat", "--pidfile=", "--loglevel", "WARNING"]


@contextmanager
def running(commands: dict[str, list[str]]) -> Iterator[dict[str, Popen[str]]]:
    """The named processes, started; all of them stopped at the end, whatever happens."""
    started: dict[str, Popen[str]] = {}
    try:
        for name, command in commands.items():
            started[name] = processes.start(command, log=log_of(name), directory=settings.BASE_DIR)
        yield started
    finally:
        for process in reversed(started.values()):
            processes.stop(process, grace=STOP_SECONDS)


def log_of(name: str) -> Path:
    return Path(settings.VAR_DIR) / "log" / f"{name}.log"


def check_alive(started: dict[str, Popen[str]]) -> None:
    """Raise ServiceDied if one of them has ended."""
    for name, process in started.items():
        if process.poll() is not None:
            raise ServiceDied(
                f"The {name} process ended: {processes.last_words(log_of(name))} (all of it: {log_of(name)})"
            )


def wait_for_web(url: str, started: dict[str, Popen[str]]) -> None:
    """Return when `url` answers. Raises ServiceDied."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        check_alive(started)
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310  our own address
                if answer.status == 200:
                    return
        except urllib.error.HTTPError as error:
            raise ServiceDied(f"The web server answers {error.code}: see {log_of('web')}") from error
        except OSError:
            time.sleep(0.2)
    raise ServiceDied(f"The web server does not answer after {START_SECONDS} s: see {log_of('web')}")
