import json
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from generation.checks import check_engine
from generation.engines.opening import ENGINES
from generation.models import Policy


class Command(BaseCommand):
    help = "Have the engine write one short story with the policy in use, and say whether it is well."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--policy", help="name of the policy; the current one if left out")
        parser.add_argument("--engine", default=settings.ENGINE, choices=ENGINES, help="STORYLOOP_ENGINE if left out")
        parser.add_argument(
            "--compare", action="store_true", help="also write it with transformers: the greedy tokens must be the same"
        )
        parser.add_argument("--json", action="store_true", help="print what was found as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        name = options["policy"]
        policy = Policy.objects.filter(name=name).first() if name else Policy.objects.current()
        if policy is None:
            raise CommandError(
                f"There is no policy {name or 'in use'}. Run “make demo”, or register a base model first."
            )
        found = check_engine(policy=policy, engine=options["engine"], compare=options["compare"])
        if options["json"]:
            names = ("engine", "version", "well", "message", "start_seconds", "write_seconds")
            self.stdout.write(json.dumps({field: getattr(found, field) for field in names}, ensure_ascii=False))
        else:
            self.stdout.write(
                f"{found.engine} {found.version}: {'well' if found.well else 'NOT WELL'}\n{found.message}"
            )
            if found.start_seconds is not None and found.write_seconds is not None:
                self.stdout.write(f"ready after {found.start_seconds:.1f} s, a story in {found.write_seconds:.1f} s")
        if not found.well:
            raise CommandError("The engine is not well; see above.")
