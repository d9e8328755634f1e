"""What the processes of a house hold while it runs, and whether that grows."""

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby

import psutil
import psycopg
from django.conf import settings

from config import postgres
from config.trials.house import House, family

EACH = 5.0  # seconds between samples
WARM_SECONDS = 90.0  # of a process's life: what it loads at the first requests is no growth
LEAST = 12  # samples of a service beyond them: with fewer nothing is said
MEGABYTE = 2**20
SESSIONS = "SELECT application_name, count(*) FROM pg_stat_activity WHERE datname = current_database() GROUP BY 1"


@dataclass(frozen=True)
class Sample:
    """One process at one moment. seconds: from the beginning; rss, pss: bytes."""

    seconds: float
    service: str
    pid: int
    rss: int
    pss: int


class Sampler(threading.Thread):
    """Looks at all services again and again, and at their database sessions."""

    def __init__(self, house: House) -> None:
        super().__init__(daemon=True)
        self.house = house
        self.samples: list[Sample] = []
        self.sessions: Counter[str] = Counter()  # the most that each service had at a time
        self.faults: list[str] = []
        self.closing = threading.Event()

    def run(self) -> None:
        began = time.monotonic()
        try:
            with psycopg.connect(postgres.url(settings.POSTGRES_DIR), autocommit=True) as link:
                while True:
                    self.samples += self._look(time.monotonic() - began)
                    for name, count in link.execute(SESSIONS):
                        self.sessions[name] = max(self.sessions[name], count)
                    if self.closing.wait(EACH):
                        return
        except psycopg.Error as error:
            self.faults.append(f"Memory was not looked at to the end: {error}")

    def _look(self, now: float) -> Iterable[Sample]:
        for service, process in list(self.house.started.items()):
            for pid in family(process.pid):
                with suppress(psutil.Error):  # it has just been killed
                    held = psutil.Process(pid).memory_full_info()
                    yield Sample(now, service, pid, held.rss, held.pss)


def growth(samples: list[Sample], *, begin: Mapping[str, float] | None = None) -> dict[str, float | None]:
    """Service -> MB a minute by which the RSS of its processes grows, each after WARM_SECONDS of its life.

    begin: service -> the second from which on it counts: a worker loads code with its first round.
    Least squares with a level of its own for each process: one that is killed and started again has another level and
    is no growth or shrinking. RSS, since a PSS changes when a process that shares pages ends. None: too few samples.
    """
    points: dict[str, list[list[tuple[float, float]]]] = defaultdict(list)
    for (service, _pid), found in groupby(_sorted(samples), key=lambda sample: (sample.service, sample.pid)):
        lived = list(found)
        since = max(lived[0].seconds + WARM_SECONDS, (begin or {}).get(service, 0))
        points[service].append([(s.seconds / 60, s.rss / MEGABYTE) for s in lived if s.seconds >= since])
    return {service: _slope(lives) for service, lives in points.items()}


def most(samples: list[Sample]) -> dict[str, float]:
    """Service -> the most MB that its processes held together (PSS)."""
    sums: Counter[tuple[str, float]] = Counter()
    for sample in samples:
        sums[sample.service, sample.seconds] += sample.pss
    return {
        service: max(bytes_ for (of, _), bytes_ in sums.items() if of == service) / MEGABYTE
        for service in sorted({sample.service for sample in samples})
    }


def _sorted(samples: list[Sample]) -> list[Sample]:
    return sorted(samples, key=lambda sample: (sample.service, sample.pid, sample.seconds))


def _slope(lives: list[list[tuple[float, float]]]) -> float | None:
    """Of y over x, pooled over groups that have each a mean of its own; None of fewer than LEAST points."""
    above, below, count = 0.0, 0.0, 0
    for life in lives:
        if not life:
            continue
        middle_x, middle_y = (sum(values) / len(life) for values in zip(*life, strict=True))
        above += sum((x - middle_x) * (y - middle_y) for x, y in life)
        below += sum((x - middle_x) ** 2 for x, _ in life)
        count += len(life)
    return above / below if count >= LEAST and below else None
