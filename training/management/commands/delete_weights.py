from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.template.defaultfilters import filesizeformat

from training.management.policies import named
from training.weights import CannotDelete, check_delete, delete_weights, files_of, freed_by_deleting


class Command(BaseCommand):
    help = "Delete a policy's weights and keep its record, stories and figures. Interrupted, it can be done again."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("policy", help="name of the policy")
        parser.add_argument("--dry-run", action="store_true", help="say what would be deleted, and stop")

    def handle(self, *args: Any, **options: Any) -> None:
        policy = named(options["policy"])
        try:
            if options["dry_run"]:
                check_delete(policy)
                for path in files_of(policy):
                    if path.exists():
                        self.stdout.write(str(path))
                self.stdout.write(f"This would free {filesizeformat(freed_by_deleting(policy))}.")
                return
            freed = delete_weights(policy_id=policy.pk)
        except CannotDelete as error:
            raise CommandError(str(error)) from error
        except OSError as error:
            raise CommandError(f"Not all could be deleted ({error}). Mend it, and give the command again.") from error
        self.stdout.write(f"Deleted: {filesizeformat(freed)} are free.")
