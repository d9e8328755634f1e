import json
from dataclasses import asdict, replace
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from tqdm import tqdm

from generation import readings
from generation.engines.opening import ENGINES, opened
from generation.engines.values import EngineError
from generation.models import Policy
from generation.readings import Judged
from generation.writers import engine_settings, writing_of


class Command(BaseCommand):
    help = (
        "Have a judge model read a policy's newest stories for structure and message. Can be interrupted and run "
        "again: no story is read twice by the same weights (docs/measures.md)."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--policy", help="whose stories; the current policy's if left out")
        parser.add_argument("--judge", help="name of the policy that reads; the one chosen on the page if left out")
        parser.add_argument("--engine", default=settings.ENGINE, choices=ENGINES, help="STORYLOOP_ENGINE if left out")
        parser.add_argument("--json", action="store_true", help="print the figures as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        policy = self._named(options["policy"]) if options["policy"] else Policy.objects.current()
        chosen = readings.judge_model()
        judge = self._named(options["judge"]) if options["judge"] else chosen.policy if chosen else None
        if policy is None:
            raise CommandError("There is no policy in use: name one with --policy.")
        if judge is None:
            raise CommandError("No judge model is chosen: choose one on the page “Structure and message”, or --judge.")
        try:
            found = self._read(policy, judge, options)
        except (EngineError, OSError) as error:
            raise CommandError(str(error)) from error
        except KeyboardInterrupt:
            raise CommandError(
                "Interrupted. What is read is kept; the same command goes on with the rest.", returncode=130
            ) from None
        if options["json"]:
            self.stdout.write(json.dumps({**asdict(found), "policy": policy.name, "judge": judge.name}))
            return
        self.stdout.write(
            f"{judge.name} has read {found.read} of the {found.stories} newest stories of {policy.name}. With an "
            f"answer that could not be read: {found.unreadable}. Of the others {found.structure.hits} of "
            f"{found.structure.n} have a clear structure, {found.message.hits} of {found.message.n} a message."
        )

    def _read(self, policy: Policy, judge: Policy, options: dict[str, Any]) -> Judged:
        writing = writing_of(judge, options["engine"])
        # reading must not take the weights from under somebody who writes
        chosen = replace(engine_settings(options["engine"]), reload=False)
        begun = readings.judged(policy, judge)
        with (
            opened(writing.weights, chosen) as engine,
            tqdm(desc="stories", unit="", total=begun.stories, initial=begun.read, disable=options["json"]) as bar,
        ):
            return readings.read_stories(
                policy=policy,
                judge=judge,
                engine=engine,
                accepted=writing.accepted,
                on_progress=bar.update,
            )

    def _named(self, name: str) -> Policy:
        policy = Policy.objects.filter(name=name).first()
        if policy is None:
            known = ", ".join(Policy.objects.values_list("name", flat=True)) or "none"
            raise CommandError(f"There is no policy {name}. Known: {known}.")
        return policy
