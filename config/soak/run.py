"""The course of a soak: everybody comes, judges for some minutes, and at last as fast as they can."""

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import Any

from django.db import connection

from annotate.models import Judgement
from config import services
from config.bench_judging import figures, fill
from config.soak import front, verdict
from config.soak.crowd import WITHOUT_SCRIPT, Expert, Log
from config.soak.killer import WebKiller
from config.soak.memory import Sampler, growth, most
from config.trials import findings
from config.trials.house import House, postmaster
from config.trials.people import Admin, Disturbed
from config.trials.prepare import admin_token
from config.trials.turns import Stuck, Turns
from training.models import Round, State

ARRIVE_SECONDS = 600.0
LAST_ROUND = 0.75  # of the time: no round begins later
WARM_SHARE = 0.1  # of the peak: the first requests still come from people who think


class NotBegun(RuntimeError):
    """The experts did not come; the message says why."""


@dataclass(frozen=True)
class Size:
    """experts; minutes; think: seconds over a comparison, lowest and highest; kill_each: seconds between two kills;
    peak_seconds: at the end, without thinking; enough: judgements before a round is launched, 0: there is none.
    """

    experts: int
    minutes: float
    think: tuple[float, float]
    kill_each: float
    peak_seconds: float
    enough: int
    seed: int

    @property
    def kills_wanted(self) -> int:
        return int(60 * self.minutes / self.kill_each)


class Soak:
    """One run on an installation that has stories to judge."""

    def __init__(self, size: Size, say: Callable[[str], None]) -> None:
        self.size, self.say = size, say
        port = services.free_port()
        self.house = House(port, front.commands(port), front.ENVIRONMENT)
        self.log = Log(size.think)
        self.sampler, self.killer = (
            Sampler(self.house),
            WebKiller(self.house, size.kill_each, size.kills_wanted, size.seed),
        )
        admin = Admin(port, admin_token("soak"), self.log.diary, front.headers(0))
        name = f"soak-{secrets.token_hex(4)}"
        self.turns = Turns(admin, self.log.diary, say, name, lambda given: given >= size.enough)
        password = secrets.token_urlsafe(12)
        self.people = [
            Expert(port, number, (judge.user.username, password), self.log, size.seed)
            for number, judge in enumerate(fill.make_judges(size.experts, password))
        ]
        self.settled: dict[str, float] = {}  # service -> when it had loaded what a round needs
        self.costs: dict[str, Any] = {}
        self.peak: dict[str, Any] = {}

    def run(self) -> tuple[verdict.Seen, dict[str, Any]]:
        """What was counted, and the figures. Raises ServiceDied, NotBegun."""
        with self.house.kept(), ExitStack() as stack:
            for person in self.people:
                person.start()
                stack.callback(person.join, 30)
            stack.callback(self.log.diary.closing.set)
            stack.callback(self.log.begin.set)
            self._arrive()
            with self._measured():
                self._work()
            if self.size.peak_seconds:
                self._hurry()
            self.log.stage = "over"
        return self._seen(), self._figures()

    def _arrive(self) -> None:
        self.say(f"{self.size.experts} experts log in")
        began = time.monotonic()
        for _ in self.people:
            if not self.log.arrived.acquire(timeout=ARRIVE_SECONDS):
                raise NotBegun(f"After {ARRIVE_SECONDS:.0f} s not all experts have logged in.")
        self.say(f"All are there after {time.monotonic() - began:.0f} s; they judge for {self.size.minutes:g} minutes")
        self.log.stage = "soak"
        self.log.begin.set()

    def _work(self) -> None:
        """Rounds as long as there is time for one, and then the rest of the time."""
        began, seconds = time.monotonic(), 60 * self.size.minutes
        threads = (self.sampler, self.killer)
        for thread in threads:
            thread.start()
        try:
            number = 1
            while self.size.enough and (number == 1 or time.monotonic() - began < LAST_ROUND * seconds):
                self.turns.take(number)
                self.settled.setdefault("worker", time.monotonic() - began)
                number += 1
        except (Stuck, Disturbed) as error:
            self.log.diary.errors.append(str(error))
        time.sleep(max(seconds - (time.monotonic() - began), 0))
        for thread in threads:
            thread.closing.set()
        for thread in threads:
            thread.join()

    @contextmanager
    def _measured(self) -> Iterator[None]:
        """CPU and bytes that judging and the rounds beside it take, in `costs`."""
        began, cpu, size = time.monotonic(), self._cpu(), _database_bytes()
        rows = Judgement.objects.count()
        yield
        spent = {name: after - cpu[name] for name, after in self._cpu().items()}
        made = max(Judgement.objects.count() - rows, 1)
        self.costs = {
            "seconds": time.monotonic() - began,
            "cpu_seconds": spent,
            "cpu_ms_per_judgement": {name: 1000 * spent[name] / made for name in ("web", "postgres")},
            "database_bytes_grown": _database_bytes() - size,
        }

    def _cpu(self) -> dict[str, float]:
        roots = {name: process.pid for name, process in self.house.started.items()}
        return {name: figures.cpu_seconds(pid) for name, pid in {**roots, "postgres": postmaster()}.items()}

    def _hurry(self) -> None:
        """Nobody thinks: the most that can be borne."""
        self.say(f"Nobody thinks any more, for {self.size.peak_seconds:g} s")
        self.log.think = (0, 0)
        time.sleep(max(WARM_SHARE * self.size.peak_seconds, self.size.think[1] / 2))
        self.log.stage, cpu = "peak", self._cpu()
        time.sleep(self.size.peak_seconds)
        given = self.log.given["peak"]
        spent = {name: after - cpu[name] for name, after in self._cpu().items()}
        self.log.stage = "over"
        self.peak = {
            "judgements_per_second": given / self.size.peak_seconds,
            "requests_per_second": self._requests("peak") / self.size.peak_seconds,
            "ms": verdict.waits(self.log.times["peak"]),
            "cpu_ms_per_judgement": {name: 1000 * spent[name] / max(given, 1) for name in ("web", "postgres")},
        }

    def _requests(self, stage: str) -> int:
        return sum(map(len, self.log.times[stage].values()))

    def _seen(self) -> verdict.Seen:
        diary = self.log.diary
        lost, doubled = findings.unkept(diary.given)
        rounds = [*findings.doubled(set()), *findings.stuck(), *findings.half_written()] if self.size.enough else []
        if self.turns.resumed:  # only web workers were killed
            rounds.append(f"{self.turns.resumed} rounds failed and were resumed by hand.")
        return verdict.Seen(
            acknowledged=len(diary.given),
            lost=lost,
            doubled=doubled,
            failed=self.log.failed,
            errors=[*diary.errors, *self.sampler.faults],
            rounds=rounds,
            promoted=Round.objects.filter(state=State.PROMOTED).count(),
            round_wanted=bool(self.size.enough),
            kills=self.killer.kills,
            kills_wanted=self.size.kills_wanted,
            over_booked=figures.over_booked(),
            growth=growth(self.sampler.samples, begin=self.settled),
        )

    def _figures(self) -> dict[str, Any]:
        diary, seconds = self.log.diary, self.costs["seconds"]
        return {
            **asdict(self.size),
            "without_script": 1 / WITHOUT_SCRIPT,
            **findings.judgements(diary.given),
            "judgements_in_database": Judgement.objects.count(),
            "kills": self.killer.kills,
            "rounds_promoted": Round.objects.filter(state=State.PROMOTED).count(),
            "resumed_by_hand": self.turns.resumed,
            "restarts": self.house.restarts,
            "ms": verdict.waits(self.log.times["soak"]),
            "log_in_ms": verdict.waits(self.log.times["arrive"]),
            "requests": self._requests("soak"),
            "requests_per_second": self._requests("soak") / seconds,
            "judgements_per_second": self.log.given["soak"] / seconds,
            "sent_again": dict(self.log.retried),
            "failed_twice": len(self.log.failed),
            "errors": len(diary.errors),
            "idle": self.log.idle,
            "growth_mb_per_minute": growth(self.sampler.samples, begin=self.settled),
            "most_pss_mb": most(self.sampler.samples),
            "most_database_sessions": dict(self.sampler.sessions),
            "memory": [asdict(sample) for sample in self.sampler.samples],
            **self.costs,
            "peak": self.peak,
        }


def _database_bytes() -> int:
    with connection.cursor() as cursor, suppress(TypeError):
        cursor.execute("SELECT pg_database_size(current_database())")
        return int(cursor.fetchone()[0])
    return 0
