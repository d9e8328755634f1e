import json
import os
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db.models import QuerySet
from tqdm import tqdm

from generation.engines.values import EngineError
from generation.models import Policy, Prompt
from generation.stories import missing_places, write_stories


class Command(BaseCommand):
    help = "Have a policy write the stories that are missing: 3-5 for each prompt. Can be interrupted and run again."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--policy", help="name of the policy; the current one if left out")
        parser.add_argument("--count", type=int, default=settings.STORIES_PER_PROMPT, choices=(3, 4, 5))
        parser.add_argument("--json", action="store_true", help="print progress as lines of JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        policy = self._policy(options["policy"])
        prompts = Prompt.objects.all()
        if not prompts.exists():
            raise CommandError("There are no prompts. Import some first: manage.py import_prompts FILE.")
        if not missing_places(policy, prompts, options["count"]):
            self._say(options["json"], f"{policy.name} has written all its stories.", 1, 1)
            return
        try:
            self._write(policy, prompts, options)
        except EngineError as error:
            raise CommandError(str(error)) from error

    def _write(self, policy: Policy, prompts: "QuerySet[Prompt]", options: dict[str, Any]) -> None:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        # torch is imported here and nowhere near the web process
        from transformers.utils import logging

        from generation.engines.transformers_engine import TransformersEngine

        logging.disable_progress_bar()
        engine = TransformersEngine(Path(policy.path))
        with tqdm(desc="stories", unit="", disable=options["json"]) as bar:

            def on_story(done: int, wanted: int) -> None:
                bar.total = wanted
                bar.update()
                if options["json"] and done % 10 == 0:
                    self._say(True, "", done, wanted)

            written = write_stories(
                policy=policy, prompts=prompts, engine=engine, count=options["count"], on_story=on_story
            )
        self._say(options["json"], written.summary(), written.stored, written.wanted)

    def _policy(self, name: str | None) -> Policy:
        policy = Policy.objects.filter(name=name).first() if name else Policy.objects.current()
        if policy is None:
            known = ", ".join(Policy.objects.values_list("name", flat=True)) or "none"
            raise CommandError(f"There is no policy {name or 'in use'}. Known: {known}.")
        return policy

    def _say(self, as_json: bool, note: str, done: int, wanted: int) -> None:
        self.stdout.write(json.dumps({"done": done, "wanted": wanted, "note": note}) if as_json else note)
        self.stdout.flush()
