"""The experts' processes, started together, and what the servers spent on them."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

from django.conf import settings

from config.bench_judging import experts, figures
from config.bench_judging.experts import Times

SCRIPT = Path(experts.__file__)


class LoadFailed(RuntimeError):
    """An expert's process ended early; the message says which, and its words."""


@dataclass(frozen=True)
class Who:
    """One expert of the load."""

    port: int
    name: str
    password: str
    seed: int


@contextmanager
def logged_in(people: list[Who]) -> Iterator[list[Popen[str]]]:
    """A process for each, past the log-in page. Raises LoadFailed."""
    started: list[Popen[str]] = []
    try:
        for who in people:
            started.append(Popen([sys.executable, str(SCRIPT)], stdin=PIPE, stdout=PIPE, text=True))
            _tell(started[-1], vars(who))
        for process in started:
            _hear(process)
        yield started
    finally:
        for process in started:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe:
                    pipe.close()


def measure(started: list[Popen[str]], *, web: int, mode: str, seconds: float) -> dict[str, Any]:
    """All experts in one mode, at once. Raises LoadFailed."""
    before = figures.stored()
    web_cpu, postgres_cpu = figures.cpu_seconds(web), figures.cpu_seconds(_postmaster())
    times = run(started, mode=mode, seconds=seconds)
    web_cpu, postgres_cpu = figures.cpu_seconds(web) - web_cpu, figures.cpu_seconds(_postmaster()) - postgres_cpu
    return figures.summary(times, stored=figures.stored() - before, web_cpu=web_cpu, postgres_cpu=postgres_cpu)


def run(started: list[Popen[str]], *, mode: str, seconds: float) -> list[Times]:
    for process in started:
        _tell(process, {"mode": mode, "seconds": seconds})
    return [Times(**_hear(process)) for process in started]


def _postmaster() -> int:
    return int((settings.POSTGRES_DIR / "data" / "postmaster.pid").read_text().split()[0])


def _tell(process: Popen[str], what: dict[str, Any]) -> None:
    assert process.stdin is not None
    process.stdin.write(json.dumps(what) + "\n")
    process.stdin.flush()


def _hear(process: Popen[str]) -> Any:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise LoadFailed("An expert's process has ended: see the lines above.")
    return json.loads(line)
