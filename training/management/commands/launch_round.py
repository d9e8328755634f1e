from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from training import schedule
from training.rounds import CannotLaunch, launch_round
from training.tasks import run_round


class Command(BaseCommand):
    help = "Launch a round of DPO from the current policy, as the page does."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--include-simulated", action="store_true", help="simulated experts' judgements count")
        for name, value in schedule.DEFAULTS.items():
            parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value, help=f"default {value}")

    def handle(self, *args: Any, **options: Any) -> None:
        settings = {name: options[name] for name in schedule.DEFAULTS}
        try:
            launched = launch_round(include_simulated=options["include_simulated"], **settings)
        except CannotLaunch as error:
            raise CommandError(str(error)) from error
        run_round.delay(launched.pk)
        self.stdout.write(f"Round {launched.number} is queued.")
