from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from annotate.models import Audience, Place
from annotate.simulated import simulate


class Command(BaseCommand):
    help = (
        "Have a simulated educator, parent and writer judge what is open, by stated rules and with noise "
        "(annotate/simulated.py). For demonstration and tests: their judgements are marked as simulated."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--audience", action="append", choices=Audience.values, help="may be repeated; all if none")
        parser.add_argument("--limit", type=int, help="at most this many judgements")
        parser.add_argument("--seed", type=int, default=0, help="another has them judge otherwise")

    def handle(self, *args: Any, **options: Any) -> None:
        if not Place.objects.exists():
            raise CommandError("There is nothing to judge: no stories are before experts yet.")
        done = simulate(audiences=options["audience"], limit=options["limit"], seed=options["seed"])
        self.stdout.write(f"{done} simulated judgements.")
