"""Bringing an installation to where experts can judge: shared by `make demo`, `make loop` and tests."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from django.conf import settings
from django.core.management import call_command

from annotate.comparisons import open_preference_comparisons
from annotate.practice import ensure_shipped_examples
from generation.demo_writer.recipe import CASE_STUDY, DEMO, Recipe
from generation.engines.values import EngineError
from generation.engines.whole import require_whole
from generation.models import Policy, Prompt, RunState
from generation.policies import register_policy
from generation.prompts import import_prompts
from generation.runs import missing_count
from generation.stores.places import apart, is_kept

SHIPPED_PROMPTS = settings.BASE_DIR / "generation" / "data" / "shipped_prompts.jsonl"
BASE_NAME = "base"


class SetupFailed(RuntimeError):
    """A step went wrong; the message says what to do."""


def prepare(
    say: Callable[[str], None], *, recipe: Recipe = DEMO, prompts: Sequence[Path] = (SHIPPED_PROMPTS,)
) -> Policy:
    """Migrate, make or find the base policy, import prompts, write stories, open comparisons.

    recipe: of the writer, if STORYLOOP_BASE_MODEL names no model. Each step finds what is there already and
    leaves it alone. Raises SetupFailed, EngineError.
    """
    say("Preparing the database")
    call_command("migrate", verbosity=0)
    policy = Policy.objects.current() or register_policy(name=BASE_NAME, path=base_model(say, recipe))
    _check_base(policy, say)
    _check_weights(policy, say)
    if not Prompt.objects.exists():
        say(f"Importing prompts: {sum(import_prompts(file).new for file in prompts)}")
    ensure_shipped_examples()
    write_missing_stories(policy, say)
    opened = open_preference_comparisons(policy=policy)
    if opened:
        say(f"Putting stories before experts: {opened} comparisons")
    return policy


def _check_base(policy: Policy, say: Callable[[str], None]) -> None:
    began_with = policy.lineage()[-1].path
    if apart() and is_kept(began_with):
        return  # it lies in the model store: from which folder it came is not known any more
    if settings.BASE_MODEL and began_with != str(base_model(say)):
        raise SetupFailed(
            f"This installation began with another base model, {began_with}. For {settings.BASE_MODEL} give it a "
            "folder of its own: STORYLOOP_VAR=var/another make demo"
        )


def _check_weights(policy: Policy, say: Callable[[str], None]) -> None:
    """Judging goes on without them."""
    try:
        require_whole(policy.directory)
    except EngineError as error:
        say(
            f"The weights of {policy} cannot be used: {error} Put them back: until then it writes no stories, and no "
            "round can be trained."
        )


def base_model(say: Callable[[str], None], recipe: Recipe = DEMO) -> Path:
    """STORYLOOP_BASE_MODEL, or the writer of `recipe`, trained now unless it is in the cache."""
    if settings.BASE_MODEL:
        return Path(settings.BASE_MODEL).expanduser().resolve()
    directory = settings.WRITER_CACHE / f"demo-writer-{recipe.key()}"
    if not directory.exists():
        wide = recipe == CASE_STUDY
        say(f"Making the demo writer (about {'three minutes' if wide else 'a minute'}, once)")
        command = [sys.executable, "-m", "generation.demo_writer", str(directory)]
        _run([*command, *(["--case-study"] if wide else [])], "The demo writer could not be made")
    return directory


def write_missing_stories(policy: Policy, say: Callable[[str], None]) -> None:
    missing = missing_count(policy, settings.STORIES_PER_PROMPT)
    last = policy.runs.filter(state=RunState.DONE).first()
    # a place that was given up stays empty: do not start torch at each start for those
    if missing > (last.empty_places.count() if last else 0):
        say(f"{policy} writes {missing} stories")
        _run(
            [sys.executable, "manage.py", "write_stories", "--policy", policy.name], "The stories could not be written"
        )


def _run(command: list[str], fault: str) -> None:
    done = subprocess.run(command, cwd=settings.BASE_DIR, check=False)
    if done.returncode != 0:
        raise SetupFailed(f"{fault}: see the lines above. What was done so far is kept; run the same command again.")
