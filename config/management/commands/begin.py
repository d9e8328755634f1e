from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from annotate.practice import ensure_shipped_examples
from config.setup import BASE_NAME
from generation.engines.values import EngineError
from generation.models import Policy
from generation.policies import register_policy

NEXT = """Next: manage.py import_prompts FILE, then have the stories written (Writing, or manage.py write_stories).
Experts get them when they are there."""


class Command(BaseCommand):
    help = (
        "Register STORYLOOP_BASE_MODEL as the policy that everything begins with, and store the calibration set. "
        "Once, on a new installation that is no demo (docs/running.md); given again it changes nothing."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        policy = Policy.objects.current()
        if policy is None:
            policy = self._register()
            self.stdout.write(f"{policy.name} is in use: {policy.path}")
        else:
            self.stdout.write(f"{policy.name} is in use already: {policy.path}")
        if stored := ensure_shipped_examples():
            self.stdout.write(f"{stored} examples are there to practise on.")
        self.stdout.write(NEXT)

    def _register(self) -> Policy:
        if not settings.BASE_MODEL:
            raise CommandError(
                "STORYLOOP_BASE_MODEL is not set: name the folder of a Hugging Face causal language model, with "
                "safetensors. For a try without a model there is: make demo"
            )
        try:
            return register_policy(name=BASE_NAME, path=Path(settings.BASE_MODEL).expanduser().resolve())
        except EngineError as error:
            raise CommandError(str(error)) from error
