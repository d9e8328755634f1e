from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from annotate.pairs import NoPairs, preference_judgements, preference_pairs, write_export
from generation.models import Policy


class Command(BaseCommand):
    help = (
        "Write preference pairs as JSONL that Hugging Face datasets and TRL's DPOTrainer read. "
        "An existing file is replaced only when the new one is whole."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path)
        parser.add_argument("--policy", help="only pairs of this policy's stories")
        parser.add_argument(
            "--grouped", action="store_true", help="a line a prompt, each story once: training.dpo's own"
        )
        parser.add_argument("--by-criterion", action="store_true", help="also pairs of the winners by each criterion")
        parser.add_argument("--people-only", action="store_true", help="leave simulated experts out")

    def handle(self, *args: Any, file: Path, **options: Any) -> None:
        policy = None
        if options["policy"]:
            policy = Policy.objects.filter(name=options["policy"]).first()
            if policy is None:
                raise CommandError(f"There is no policy {options['policy']}.")
        judgements = preference_judgements(policy=policy, include_simulated=not options["people_only"])
        pairs = preference_pairs(judgements, by_criterion=options["by_criterion"])
        try:
            export = write_export(pairs, file, grouped=options["grouped"])
        except (NoPairs, OSError) as error:
            raise CommandError(str(error)) from error
        simulated = sum(pair.simulated_judgements > 0 for pair in pairs)
        self.stdout.write(
            f"{export.count} pairs ({simulated} with simulated votes) in {export.path}, SHA-256 {export.sha256}"
        )
