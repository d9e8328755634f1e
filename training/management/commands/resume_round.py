from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from training.models import Round
from training.resume import CannotResume, resume_round
from training.tasks import send_round


class Command(BaseCommand):
    help = (
        "Go on with a round that was cancelled or has failed: the same pairs, on from its last checkpoint, or its "
        "first step (docs/policies.md)."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("number", type=int, help="of the round")

    def handle(self, *args: Any, **options: Any) -> None:
        found = Round.objects.filter(number=options["number"]).first()
        if found is None:
            raise CommandError(f"There is no round {options['number']}.")
        try:
            resume_round(round_id=found.pk)
        except CannotResume as error:
            raise CommandError(str(error)) from error
        send_round(found.pk)
        self.stdout.write(f"Round {found.number} is queued, and goes on from where it was.")
