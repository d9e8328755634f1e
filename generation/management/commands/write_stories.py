import json
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import InterfaceError, OperationalError
from tqdm import tqdm

from generation import run_words, runs
from generation.engines.faults import DISK_FULL, is_disk_full
from generation.engines.opening import ENGINES, opened
from generation.engines.values import EngineError, WrongWeights
from generation.models import Policy, WritingRun
from generation.stories import Written, write_stories
from generation.writers import engine_settings, writing_of

LOST_DATABASE = 75  # exit status: EX_TEMPFAIL of sysexits(3), try again
SAID_EVERY = 1.0  # seconds between lines of JSON


class Command(BaseCommand):
    help = (
        "Have a policy write the stories that are missing: 3-5 for each prompt. Can be interrupted and run again; the "
        "same command in other processes, or on other machines, shares the work."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--policy", help="name of the policy; the current one if left out")
        parser.add_argument("--count", type=int, default=settings.STORIES_PER_PROMPT, choices=(3, 4, 5))
        parser.add_argument("--engine", default=settings.ENGINE, choices=ENGINES, help="STORYLOOP_ENGINE if left out")
        parser.add_argument("--run", type=int, help="number of a run to take part in; none is begun")
        parser.add_argument("--json", action="store_true", help="print progress as lines of JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            run = self._run(options)
            if run:
                self._write(run, options)
        except (EngineError, OSError, runs.CannotWrite, runs.RunEnded, OperationalError, InterfaceError) as error:
            raise _fault(error) from error
        except KeyboardInterrupt:
            raise CommandError(
                "Interrupted. What is written is kept; the same command goes on with the rest.", returncode=130
            ) from None

    def _run(self, options: dict[str, Any]) -> WritingRun | None:
        """The run to take part in; None if there is nothing to write."""
        if options["run"]:
            run = WritingRun.objects.select_related("policy").filter(pk=options["run"]).first()
            if run is None:
                raise CommandError(f"There is no run {options['run']}.")
            return runs.join(run, engine=options["engine"])
        policy = self._policy(options["policy"])
        runs.require_prompts()
        at_work = WritingRun.objects.at_work().filter(policy=policy).exists()
        if not at_work and not runs.missing_count(policy, options["count"]):
            self._say(options["json"], f"{policy.name} has written all its stories.", 1, 1)
            return None
        return runs.begin_or_join(policy=policy, count=options["count"], engine=options["engine"])

    def _write(self, run: WritingRun, options: dict[str, Any]) -> None:
        said = time.monotonic()
        with tqdm(desc="stories", unit="", total=run.wanted, disable=options["json"]) as bar:

            def on_progress(written: Written) -> None:
                nonlocal said
                run.refresh_from_db(fields=["stored", "wanted"])
                bar.total = max(run.wanted, run.stored)
                bar.update(run.stored - bar.n)
                if options["json"] and time.monotonic() - said >= SAID_EVERY:
                    self._say(True, "", run.stored, bar.total)
                    said = time.monotonic()

            self._write_with_engine(run, options["engine"], on_progress)
        facts = runs.counted(run)
        self._say(options["json"], run_words.in_words(facts), run.stored, run.wanted, facts)

    def _write_with_engine(self, run: WritingRun, name: str, on_progress: Callable[[Written], None]) -> None:
        try:
            with runs.at_it(run), ExitStack() as stack:
                with runs.kept_alive(run):
                    writing = writing_of(run.policy, name)
                    engine = stack.enter_context(opened(writing.weights, engine_settings(name)))
                write_stories(run=run, engine=engine, accepted=writing.accepted, on_progress=on_progress)
        except WrongWeights as error:
            runs.fail(run, str(error))
            raise
        except (EngineError, OSError) as error:
            runs.fail_if_alone(run, str(error))
            raise

    def _policy(self, name: str | None) -> Policy:
        policy = Policy.objects.filter(name=name).first() if name else Policy.objects.current()
        if policy is None:
            known = ", ".join(Policy.objects.values_list("name", flat=True)) or "none"
            raise CommandError(f"There is no policy {name or 'in use'}. Known: {known}.")
        return policy

    def _say(self, as_json: bool, note: str, done: int, wanted: int, facts: dict[str, int] | None = None) -> None:
        line = {"done": done, "wanted": wanted, "note": note, "facts": facts}
        self.stdout.write(json.dumps(line) if as_json else note)
        self.stdout.flush()


def _fault(error: Exception) -> CommandError:
    """What a person reads of it, and the exit status that says what came of it."""
    if is_disk_full(error):
        said = f"A disk is full ({error}). Free some space; the same command goes on with what is missing."
        return CommandError(said, returncode=DISK_FULL)
    if isinstance(error, OperationalError | InterfaceError):
        said = f"The database went away ({str(error).strip()}). The same command goes on with what is missing."
        return CommandError(said, returncode=LOST_DATABASE)
    return CommandError(str(error))
