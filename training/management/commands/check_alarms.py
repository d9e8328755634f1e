from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from training.alarms import check_alarms
from training.models import Round


class Command(BaseCommand):
    help = (
        "Look anew at what the alarms watch (docs/training.md) in rounds that have a policy: limits or stories may "
        "have changed."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--round", type=int, metavar="N", help="this round only")

    def handle(self, *args: Any, **options: Any) -> None:
        rounds = Round.objects.filter(result__isnull=False).select_related("policy", "result").order_by("number")
        number = options["round"]
        if number is not None:
            rounds = rounds.filter(number=number)
            if not rounds:
                raise CommandError(f"There is no round {number} with a policy: it may be at work, or have failed.")
        for checked in rounds:
            for finding in check_alarms(checked=checked):
                self.stdout.write(
                    f"round {checked.number}: {finding.label}: {finding.value_text} "
                    f"(limit {finding.limit_text}): {finding.verdict}"
                )
