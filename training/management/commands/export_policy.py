from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from generation.engines.values import EngineError
from generation.signals import weights_left
from training.bundle import export
from training.management.policies import named


class Command(BaseCommand):
    help = "Write a policy, as transformers, peft and vLLM load it, with its model card, into a new folder."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("policy", help="name of the policy")
        parser.add_argument("directory", type=Path, help="is made; nothing is written over")
        what = parser.add_mutually_exclusive_group()
        what.add_argument("--adapter", action="store_true", help="the LoRA adapter alone")
        what.add_argument(
            "--merge", action="store_true", help="merge the adapter into the policy before anew, as full weights"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        policy, directory = named(options["policy"]), options["directory"].expanduser().absolute()
        try:
            export(policy, directory, adapter=options["adapter"], merge=options["merge"])
        except EngineError as error:
            raise CommandError(str(error)) from error
        except OSError as error:
            raise CommandError(f"{error}. Free the disk or name another folder, and give the command again.") from error
        weights_left.send(None, policy=policy)
        self.stdout.write(f"{policy.name} is in {directory}.")
