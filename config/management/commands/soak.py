import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser

from config import services, setup
from config.bench_judging import figures, fill
from config.soak import front, verdict
from config.soak.run import NotBegun, Size, Soak
from config.trials.prepare import some_prompts
from generation.engines.values import EngineError
from generation.models import Policy, Split

LEAST_EVALUATION, EVALUATION_SHARE = 4, 0.16  # of the prompts: those that new is compared with old on
LONG = ("ms", "log_in_ms", "memory", "said", "peak")  # shown otherwise, or not


class Command(BaseCommand):
    help = (
        "Simulated experts judge on the production configuration while rounds are trained and promoted and a web "
        "worker is killed again and again; then how long they waited, what was lost, and whether memory grew."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--experts", type=int, default=200, help="how many judge at once")
        parser.add_argument("--minutes", type=float, default=10, help="how long they judge")
        parser.add_argument(
            "--think", type=float, nargs=2, default=(10, 30), metavar=("LOW", "HIGH"),
            help="seconds that an expert thinks over an answer",
        )  # fmt: skip
        parser.add_argument("--kill-each", type=float, default=60, help="seconds between two kills of a web worker")
        parser.add_argument("--peak-seconds", type=float, default=30, help="without any thinking, at the end; 0: none")
        parser.add_argument("--prompts", type=int, default=100, help="that stories are written for")
        parser.add_argument(
            "--enough",
            type=int,
            default=600,
            help="judgements before a round is launched; 0: none is, and the stories are bench_judging's",
        )
        parser.add_argument("--seed", type=int, default=0, help="of what the experts answer, and when")
        parser.add_argument("--json", type=Path, metavar="PATH", help="write the figures here, too")

    def handle(self, *args: Any, json: Path | None, prompts: int, think: list[float], **options: Any) -> None:
        if not settings.EMBEDDED_POSTGRES:
            raise CommandError("This needs a database of its own: unset DATABASE_URL.")
        wanted = {name: options[name] for name in Size.__dataclass_fields__ if name in options}
        size = Size(**wanted, think=(think[0], think[1]))
        if size.kill_each <= 0 or size.experts < 1:
            raise CommandError("At least one expert, and more than no time between two kills.")
        os.environ.update(front.ENVIRONMENT)
        try:
            self._prepare(prompts, size)
            seen, found = Soak(size, self.say).run()
        except (setup.SetupFailed, services.ServiceDied, EngineError, NotBegun) as error:
            raise CommandError(str(error)) from error
        found["said"] = verdict.faults(seen)
        if json:
            _write(json, {**found, **figures.about(seed=size.seed)})
        self._show(found)

    def say(self, text: str) -> None:
        self.stdout.write(text)
        self.stdout.flush()

    def _prepare(self, prompts: int, size: Size) -> None:
        call_command("migrate", verbosity=0)
        if Policy.objects.exists():
            raise CommandError("This database is in use. Run `make soak`, which begins with an empty one.")
        call_command("collectstatic", interactive=False, verbosity=0)
        command = [sys.executable, "manage.py", "check", "--deploy", "--fail-level", "WARNING"]
        done = subprocess.run(command, cwd=settings.BASE_DIR, capture_output=True, text=True, check=False)
        if done.returncode:
            raise CommandError(f"This is no configuration for production: {done.stderr}")
        if size.enough:
            evaluation = max(int(prompts * EVALUATION_SHARE), LEAST_EVALUATION)
            setup.prepare(self.say, prompts=[some_prompts({Split.TRAIN: prompts, Split.EVALUATION: evaluation})])
        else:  # no model is needed
            fill.fill(judgements=0, queue=prompts, judges=[], seed=size.seed, jobs=1, tick=lambda written: None)

    def _show(self, found: dict[str, Any]) -> None:
        """Raises CommandError with what is not true."""
        self.say(verdict.table(found["ms"]))
        if found["peak"]:
            self.say(f"At the most, {found['peak']['judgements_per_second']:.1f} judgements a second:")
            self.say(verdict.table(found["peak"]["ms"]))
        self.say("\n".join(f"{name:24} {value}" for name, value in found.items() if name not in LONG))
        if found["said"]:
            raise CommandError("Not true:\n" + "\n".join(found["said"]))
        self.say("All of it held.")


def _write(path: Path, found: dict[str, Any]) -> None:
    path.write_text(json.dumps(found, indent=1) + "\n")
