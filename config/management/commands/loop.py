import json
import time
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from tqdm import tqdm

from annotate.simulated import simulate
from config import loop_report, services, setup
from generation.engines.values import EngineError
from training import schedule
from training.models import Round, State
from training.rounds import CannotLaunch, launch_round, promote_round
from training.tasks import run_round


class Command(BaseCommand):
    help = (
        "The whole loop without a browser: the writer writes, SIMULATED experts judge, rounds of DPO run in a "
        "real worker, and a table says what came of it."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--rounds", type=int, default=2)
        parser.add_argument("--seed", type=int, default=0, help="of the simulated experts' noise")
        parser.add_argument("--json", type=Path, metavar="PATH", help="write the figures here, too")

    def handle(self, *args: Any, **options: Any) -> None:
        self._say("Experts in this run are simulated (annotate/simulated.py).")
        try:
            base = setup.prepare(self._say)
            if Round.objects.exists():
                raise CommandError("This database has rounds already. Run `make loop`, which begins with an empty one.")
            with services.running({"worker": services.worker_command()}) as started:
                rows = [self._round(number, options["seed"], started) for number in range(1, options["rounds"] + 1)]
        except (setup.SetupFailed, services.ServiceDied, EngineError, CannotLaunch) as error:
            raise CommandError(str(error)) from error
        found = loop_report.figures(base, rows, seed=options["seed"])
        self._say(loop_report.table(found))
        if options["json"]:
            options["json"].write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
        faults = loop_report.faults(found)
        if faults:
            raise CommandError("\n".join(faults))

    def _round(self, number: int, seed: int, started: Any) -> Round:
        """One turn: judge, train, write, judge blind, promote."""
        self._say(f"Round {number}: {simulate(seed=seed + 10 * number)} judgements")
        launched = launch_round(include_simulated=True, **schedule.DEFAULTS)
        run_round.delay(launched.pk)
        self._watch(launched.pk, started)
        self._say(f"Round {number}: {simulate(seed=seed + 10 * number + 5)} blind judgements of new against old")
        return promote_round(round_id=launched.pk)

    def _watch(self, pk: int, started: Any) -> None:
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
            raise CommandError(f"Round {current.number} is {current.get_state_display()}: {current.message}")

    def _say(self, text: str) -> None:
        self.stdout.write(text)
        self.stdout.flush()
