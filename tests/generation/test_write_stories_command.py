"""manage.py write_stories"""

import json
import shutil
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from generation.models import EmptyPlace, Policy, Prompt, RunState, Story, WritingRun
from generation.policies import register_policy
from generation.runs import begin_or_join
from tests.factories import make_policy, make_prompt, make_story

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _short_stories(settings):
    settings.MAX_STORY_TOKENS = 12


@pytest.fixture
def policy(tiny_model) -> Policy:
    return register_policy(name="base", path=tiny_model)


def said(*arguments: str) -> str:
    out = StringIO()
    call_command("write_stories", *arguments, stdout=out)
    return out.getvalue().strip()


def settled() -> set[tuple[int, int]]:
    """Places that are written or given up: what a model of random weights writes may be like a sister."""
    written = Story.objects.values_list("prompt", "sample_index")
    return {*written, *EmptyPlace.objects.values_list("prompt", "sample_index")}


def places(*prompts: Prompt, count: int = 3) -> set[tuple[int, int]]:
    return {(prompt.pk, index) for prompt in prompts for index in range(count)}


def several() -> list[Prompt]:
    """Random weights write what is hardly ever fit to be read: of so many prompts some story is."""
    return [make_prompt() for _ in range(8)]


def test_the_current_policy_writes_for_every_prompt(policy):
    prompts = [make_prompt(), make_prompt(split="evaluation")]
    words = said("--count", "3")
    assert words.startswith(f"Stories written: {policy.stories.count()}; ")
    assert settled() == places(*prompts)


def test_a_policy_can_be_named(policy, tiny_model):
    several()
    other = register_policy(name="round-1", path=tiny_model, parent=policy)
    said("--policy", "round-1", "--count", "3")
    assert set(Story.objects.values_list("policy__name", flat=True)) == {other.name}


def test_without_a_count_it_writes_as_many_as_the_settings_say(policy, settings):
    prompt = make_prompt()
    said()
    assert settled() == places(prompt, count=settings.STORIES_PER_PROMPT)


@pytest.mark.parametrize("count", ["2", "6"])
def test_a_prompt_has_three_to_five_stories(policy, count):
    make_prompt()
    with pytest.raises(CommandError, match="--count: invalid choice"):
        said("--count", count)


def test_progress_as_json_ends_with_all_that_was_stored(policy):
    several()
    lines = [json.loads(line) for line in said("--count", "3", "--json").splitlines()]
    assert {line["wanted"] for line in lines} == {24}
    done = [line["done"] for line in lines]
    assert done == sorted(done)
    assert done[-1] == Story.objects.count() > 0
    assert lines[-1]["note"].startswith(f"Stories written: {done[-1]};")
    assert all(line["note"] == "" for line in lines[:-1])


def test_a_run_with_the_engine_and_its_end_is_kept(policy):
    several()
    said("--count", "3")
    run = WritingRun.objects.get()
    assert (run.policy, run.engine, run.state) == (policy, "transformers", RunState.DONE)
    assert run.stored == Story.objects.count() > 0
    assert set(Story.objects.values_list("run", flat=True)) == {run.pk}


def test_the_same_command_again_joins_the_run_that_was_killed(policy):
    prompts = several()
    killed = begin_or_join(policy=policy, count=3, engine="transformers")
    make_story(policy, prompts[0], 1, "Once upon a time a little fox went home.", run=killed)
    said("--count", "3")
    assert WritingRun.objects.get().state == RunState.DONE
    assert settled() == places(*prompts)
    assert Story.objects.filter(run=killed).count() == Story.objects.count() > 1


def test_a_run_that_was_killed_at_its_very_end_is_ended(policy):
    prompt = make_prompt()
    begin_or_join(policy=policy, count=3, engine="transformers")
    for index in range(3):
        make_story(policy, prompt, index)
    said("--count", "3")
    assert WritingRun.objects.get().state == RunState.DONE


def test_a_run_with_another_count_is_a_fault_in_words(policy):
    make_prompt()
    begin_or_join(policy=policy, count=4, engine="transformers")
    with pytest.raises(CommandError, match="base is writing 4 stories a prompt: wait for that run to end"):
        said("--count", "3")


def test_an_engine_that_is_none_is_refused(policy):
    with pytest.raises(CommandError, match="--engine: invalid choice: 'gpt'"):
        said("--engine", "gpt")


def test_an_engine_that_is_not_installed_is_a_fault_in_words(policy, settings, tmp_path):
    make_prompt()
    settings.VLLM_PYTHON, settings.VAR_DIR = tmp_path / "no-python", tmp_path
    with pytest.raises(CommandError, match="install vLLM with “make install-vllm”"):
        said("--engine", "vllm")
    run = WritingRun.objects.get()
    assert (run.engine, run.state) == ("vllm", RunState.FAILED)
    assert "make install-vllm" in run.message


def test_an_interrupted_run_says_that_it_can_go_on(policy, monkeypatch):
    make_prompt()

    def interrupted(**_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("generation.management.commands.write_stories.write_stories", interrupted)
    with pytest.raises(CommandError, match="the same command goes on with the rest") as raised:
        said()
    assert raised.value.returncode == 130
    assert WritingRun.objects.get().state == RunState.RUNNING


def test_a_policy_that_has_written_everything_is_not_even_loaded():
    prompt, policy = make_prompt(), make_policy("base", current=True)
    for index in range(3):
        make_story(policy, prompt, index)
    assert said("--count", "3") == "base has written all its stories."


def test_without_prompts_it_says_how_to_import_some(policy):
    with pytest.raises(CommandError, match="Import some first: manage.py import_prompts FILE"):
        said()


def test_an_unknown_policy_is_told_with_the_known_ones(policy):
    with pytest.raises(CommandError, match=r"There is no policy round-9\. Known: base\."):
        said("--policy", "round-9")


def test_without_any_policy_it_says_so():
    with pytest.raises(CommandError, match=r"There is no policy in use\. Known: none\."):
        said()


def test_a_model_that_is_gone_is_a_fault_in_words():
    make_prompt()
    make_policy(current=True)
    with pytest.raises(CommandError, match="/models/none"):
        said()


def test_weights_that_have_changed_are_a_fault_in_words(policy):
    make_prompt()
    Policy.objects.update(weights_hash="f" * 64)
    with pytest.raises(CommandError, match="The weights of base have changed since it was registered"):
        said()
    assert not Story.objects.exists()
    assert WritingRun.objects.get().state == RunState.FAILED


def test_a_tokenizer_that_is_gone_is_a_fault_in_words(tiny_model, tmp_path):
    make_prompt()
    model = shutil.copytree(tiny_model, tmp_path / "model")
    register_policy(name="base", path=model)
    (model / "tokenizer.json").unlink()
    with pytest.raises(CommandError, match="has no tokenizer"):
        said()


def test_a_prompt_that_is_too_long_stays_empty_and_the_others_are_written(policy):
    long, short = make_prompt("fox " * 400), make_prompt()
    assert "Places that stay empty: 3, whose prompt and 12 tokens for the story do not fit" in said("--count", "3")
    assert set(EmptyPlace.objects.filter(fault="too_long").values_list("prompt", "sample_index")) == places(long)
    assert short.stories.exists()
