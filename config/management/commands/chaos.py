import json
import os
import random
import secrets
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from tqdm import tqdm

from config import services, setup
from config.bench_judging import figures, fill
from config.chaos import verdict
from config.chaos.killer import Killer
from config.chaos.people import ExpertThread
from config.chaos.plan import Phase, Plan
from config.chaos.scene import Scene, Witness
from config.trials import findings
from config.trials.house import House
from config.trials.people import Admin, Diary, Disturbed
from config.trials.prepare import admin_token, some_prompts
from config.trials.turns import Stuck, Turns
from generation.engines.values import EngineError
from generation.models import Policy, Split
from training.models import Round

PROMPTS = {Split.TRAIN: 40, Split.EVALUATION: 8}
ENOUGH = 40  # judgements before a round is launched
QUIET = 3.0  # seconds between the last promotion and the count
ENVIRONMENT = {
    "STORYLOOP_LEASE_SECONDS": "6",  # a killed worker's round is taken over sooner than in 30 s
    "OMP_NUM_THREADS": "1",  # threads of two processes on two cores wait for each other
}


class Command(BaseCommand):
    help = (
        "Kill web, worker, trainer, writer, beat, the worker's connections and the database (signal 9) while people "
        "judge and rounds run; then count what was lost, done twice, left over or written by half."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--kills", type=int, default=100, help="how many, until it ends")
        parser.add_argument("--experts", type=int, default=4, help="who judge meanwhile")
        parser.add_argument("--seed", type=int, default=None, help="of what is killed when; absent: drawn, and printed")
        parser.add_argument("--json", type=Path, metavar="PATH", help="write the figures here, too")

    def handle(self, *args: Any, kills: int, experts: int, seed: int | None, **options: Any) -> None:
        if not settings.EMBEDDED_POSTGRES:
            raise CommandError("This kills its database: unset DATABASE_URL, so that it gets one of its own.")
        if kills < len(Phase) or experts < settings.PLACES_PER_COMPARISON:
            raise CommandError(
                f"At least 5 kills, one for each phase, and {settings.PLACES_PER_COMPARISON} experts, one for each "
                "place of a comparison."
            )
        seed = random.SystemRandom().randrange(10**6) if seed is None else seed
        self.say(f"make chaos: {kills} kills, SEED={seed}")
        os.environ.update(ENVIRONMENT)
        try:
            self._prepare()
            found = self._run(Plan.of(kills, seed), experts)
        except (setup.SetupFailed, services.ServiceDied, EngineError, fill.NotOurs) as error:
            raise CommandError(str(error)) from error
        if options["json"]:
            options["json"].write_text(json.dumps({**found, **figures.about(seed=seed)}, indent=1) + "\n")
        self._judge(found)

    def say(self, text: str) -> None:
        self.stdout.write(text)
        self.stdout.flush()

    def _prepare(self) -> None:
        call_command("migrate", verbosity=0)
        if Policy.objects.exists():
            raise CommandError("This database is in use. Run `make chaos`, which begins with an empty one.")
        call_command("collectstatic", interactive=False, verbosity=0)
        setup.prepare(self.say, prompts=[some_prompts(PROMPTS)])

    def _run(self, plan: Plan, experts: int) -> dict[str, Any]:
        house, scene, diary, witness = House(services.free_port()), Scene(), Diary(), Witness()
        killer = Killer(plan, house, scene)
        token = admin_token("chaos")
        password = secrets.token_urlsafe(12)

        def collected(given: int) -> bool:
            return given >= ENOUGH and not plan.wanted(Phase.COLLECTING)

        people = [
            ExpertThread(house.port, judge.user.username, password, plan.seed + judge.pk, diary)
            for judge in fill.make_judges(experts, password)
        ]
        admin = Admin(house.port, token, diary)
        turns = Turns(admin, diary, self.say, f"chaos-{plan.seed}", collected, scene.promoting)
        stopped: list[str] = []
        with house.kept(), ExitStack() as stack:
            for thread in (scene, witness, *people, killer):
                thread.start()
                stack.callback(thread.join, 30)
            for ender in (scene, witness, diary, killer):
                stack.callback(ender.closing.set)  # run before the joins: the last come first
            try:
                number = 1
                while not plan.over and killer.is_alive():
                    turns.take(number)
                    number += 1
            except (Stuck, Disturbed) as error:
                stopped.append(str(error))
            time.sleep(QUIET)
        return self._figures(killer, diary, witness, turns, stopped)

    def _figures(
        self, killer: Killer, diary: Diary, witness: Witness, turns: Turns, stopped: list[str]
    ) -> dict[str, Any]:
        self.say(verdict.table(killer.counts()))
        rounds = verdict.interrupted(killer.kills)
        with tqdm(total=len(rounds), desc="the same without a break", unit=" rounds") as bar:
            different = verdict.not_identical(rounds, bar.update)
        doubled, stuck, broken = findings.doubled(witness.doubled), findings.stuck(), findings.half_written()
        return {
            "seed": killer.plan.seed,
            "kills": len(killer.kills),
            "by_phase": {f"{phase}/{target}": n for (phase, target), n in sorted(killer.counts().items())},
            "rounds": Round.objects.count(),
            "resumed_by_hand": turns.resumed,
            "restarts": killer.house.restarts,
            "tries_without_answer": diary.refusals,
            **findings.judgements(diary.given),
            "doubled_rounds": len(doubled),
            "stuck_rounds": len(stuck),
            "half_written_policies": len(broken),
            "compared_with_unbroken": len(rounds),
            "resume_identical": not different,
            "errors": len(diary.errors + killer.faults + stopped),
            "said": [*stopped, *killer.faults, *diary.errors, *doubled, *stuck, *broken, *different][:20],
        }

    def _judge(self, found: dict[str, Any]) -> None:
        self.say("\n".join(f"{name:24} {value}" for name, value in found.items() if name not in ("by_phase", "said")))
        if found["said"] or found["acknowledged"] != found["stored"]:
            raise CommandError("\n".join(["It did not hold:", *found["said"]]))
        self.say("All of it held.")
