from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.template.defaultfilters import filesizeformat

from generation.engines.values import EngineError
from training import leftovers, weights
from training.management.policies import named
from training.models import Round
from training.weights import CannotDelete


class Command(BaseCommand):
    help = (
        "Delete a policy's weights, or with --round the checkpoint of a round that failed or was cancelled, and keep "
        "the record, stories and figures. Interrupted, it can be done again."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("policy", nargs="?", help="name of the policy")
        parser.add_argument("--round", type=int, help="number of the round, in the stead of a policy")
        parser.add_argument("--dry-run", action="store_true", help="say what would be deleted, and stop")

    def handle(self, *args: Any, **options: Any) -> None:
        if (options["policy"] is None) == (options["round"] is None):
            raise CommandError("Name a policy, or a round with --round.")
        try:
            freed = self._of_policy(options) if options["policy"] else self._of_round(options)
        except CannotDelete as error:
            raise CommandError(str(error)) from error
        except (OSError, EngineError) as error:
            raise CommandError(f"Not all could be deleted ({error}). Mend it, and give the command again.") from error
        if freed is not None:
            self.stdout.write(f"Deleted: {filesizeformat(freed)} are free.")

    def _of_policy(self, options: dict[str, Any]) -> int | None:
        policy = named(options["policy"])
        if not options["dry_run"]:
            return weights.delete_weights(policy_id=policy.pk)
        weights.check_delete(policy)
        paths = [str(path) for path in weights.files_of(policy) if path.exists()]
        self._say(paths, weights.freed_by_deleting(policy))
        return None

    def _of_round(self, options: dict[str, Any]) -> int | None:
        found = Round.objects.filter(number=options["round"]).first()
        if found is None:
            raise CommandError(f"There is no round {options['round']}.")
        if not options["dry_run"]:
            return leftovers.delete_leftovers(round_id=found.pk)
        leftovers.check_delete(found)
        self._say([str(path) for path in leftovers.files_of(found)], leftovers.freed_by_deleting(found))
        return None

    def _say(self, paths: list[str], size: int) -> None:
        self.stdout.write("\n".join([*paths, f"This would free {filesizeformat(size)}."]))
