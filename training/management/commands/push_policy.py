from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from generation.engines.values import EngineError
from generation.signals import weights_left
from training.bundle import adapter_entries, full_entries
from training.hub import CannotPush, push
from training.management.policies import named


class Command(BaseCommand):
    help = (
        "Put a policy with its model card on the Hugging Face Hub: private, unless --public. Needs STORYLOOP_HUB_TOKEN "
        "(docs/policies.md)."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("policy", help="name of the policy")
        parser.add_argument("repo", help="owner/name; made if it is not there")
        parser.add_argument("--adapter", action="store_true", help="the LoRA adapter alone")
        parser.add_argument("--public", action="store_true", help="everybody may see a repository that is made now")

    def handle(self, *args: Any, **options: Any) -> None:
        policy = named(options["policy"])
        try:
            found = adapter_entries(policy, here=True) if options["adapter"] else full_entries(policy, here=True)
            address = push(found, options["repo"], public=options["public"], message=f"{policy.name}, from Storyloop")
        except (EngineError, CannotPush) as error:
            raise CommandError(str(error)) from error
        weights_left.send(None, policy=policy)
        self.stdout.write(f"{policy.name} is at {address}")
