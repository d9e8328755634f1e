"""Turns of the loop with simulated experts and a real worker: what `make loop` and `make case-study` share."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from subprocess import Popen
from types import ModuleType
from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from tqdm import tqdm

from annotate.simulated import simulate
from config import services, setup
from generation.engines.values import EngineError
from generation.models import Policy
from training.models import Round, State
from training.rounds import CannotLaunch, launch_round, promote_round
from training.tasks import run_round

Started = dict[str, Popen[str]]
SEEDS_A_ROUND = 10  # of the noise: the next round's are others
SEED_OF_BLIND = 5


class RoundEnded(RuntimeError):
    """A round ended without a policy to judge; the message says why."""


def take_turn(
    number: int, *, settings: dict[str, Any], seed: int, started: Started, say: Callable[[str], None]
) -> Round:
    """Judge, train, write, judge blind, promote. `seed` is of the simulated experts' noise.

    Raises CannotLaunch, RoundEnded, services.ServiceDied.
    """
    noise = seed + SEEDS_A_ROUND * number
    say(f"Round {number}: {simulate(seed=noise)} judgements")
    launched = launch_round(include_simulated=True, **settings)
    run_round.delay(launched.pk)
    _watch(launched.pk, started)
    say(f"Round {number}: {simulate(seed=noise + SEED_OF_BLIND)} blind judgements of new against old")
    return promote_round(round_id=launched.pk)


def _watch(pk: int, started: Started) -> None:
    """Show how the round goes on until it waits to be judged. Raises RoundEnded."""
    bar, state = None, ""
    while True:
        services.check_alive(started)
        current = Round.objects.get(pk=pk)
        if bar is None or current.state != state:
            if bar is not None:
                bar.close()
            state = current.state
            bar = tqdm(desc=f"round {current.number}: {current.get_state_display()}", unit="")
        bar.total = current.total or None
        bar.update(current.done - bar.n)
        if not current.at_work:
            bar.close()
            break
        time.sleep(0.3)
    if current.state != State.JUDGING:
        raise RoundEnded(f"Round {current.number} is {current.get_state_display()}: {current.message}")


class SimulatedRounds(BaseCommand):
    """Rounds from an empty database on, and a report of them; ends with status 1 if the report finds faults."""

    opening: str  # the first line
    target: str  # of make
    rounds: int
    report: ModuleType  # figures(base, rounds, seed=), table(figures) and faults(figures)

    def prepare(self, seed: int) -> Policy:
        """The base policy, with its stories open to be judged."""
        raise NotImplementedError

    def settings_of(self, number: int, seed: int) -> dict[str, Any]:
        """What round `number`, from 1, is launched with."""
        raise NotImplementedError

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--rounds", type=int, default=self.rounds, help="one after another")
        parser.add_argument("--seed", type=int, default=0, help="another gives another run")
        parser.add_argument("--json", type=Path, metavar="PATH", help="write the figures here, too")

    def handle(self, *args: Any, rounds: int, seed: int, json: Path | None, **options: Any) -> None:
        self.say(self.opening)
        try:
            base, done = self._run(rounds, seed)
        except (setup.SetupFailed, services.ServiceDied, EngineError, CannotLaunch, RoundEnded) as error:
            raise CommandError(str(error)) from error
        found = self.report.figures(base, done, seed=seed)
        faults = found["faults"] = self.report.faults(found)
        self.say(self.report.table(found))
        if json:
            _write(found, json)
        if faults:
            raise CommandError("Not reached:\n" + "\n".join(faults))

    def say(self, text: str) -> None:
        self.stdout.write(text)
        self.stdout.flush()

    def _run(self, rounds: int, seed: int) -> tuple[Policy, list[Round]]:
        call_command("migrate", verbosity=0)
        if Round.objects.exists():
            raise CommandError(
                f"This database has rounds already. Run `make {self.target}`, which begins with an empty one."
            )
        base = self.prepare(seed)
        with services.running({"worker": services.worker_command()}) as started:
            return base, [
                take_turn(number, settings=self.settings_of(number, seed), seed=seed, started=started, say=self.say)
                for number in range(1, rounds + 1)
            ]


def _write(found: dict[str, Any], path: Path) -> None:
    path.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
