from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from training.management.policies import named
from training.roll_back import CannotRollBack, roll_back


class Command(BaseCommand):
    help = "Use an earlier policy again: its stories come back before the experts, the queue follows."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("policy", help="name of the policy")

    def handle(self, *args: Any, **options: Any) -> None:
        policy = named(options["policy"])
        try:
            change = roll_back(policy_id=policy.pk)
        except CannotRollBack as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{policy.name} is in use again, in the stead of {change.before}.")
