"""manage.py write_stories"""

import json
import shutil
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from generation.models import Policy, Story
from generation.policies import register_policy
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


def test_the_current_policy_writes_for_every_prompt(policy):
    prompts = [make_prompt(), make_prompt(language="zh")]
    assert said("--count", "3").startswith("6 stories written, ")
    places = set(Story.objects.values_list("policy", "prompt", "sample_index"))
    assert places == {(policy.pk, prompt.pk, index) for prompt in prompts for index in range(3)}


def test_a_policy_can_be_named(policy, tiny_model):
    make_prompt()
    other = register_policy(name="round-1", path=tiny_model, parent=policy)
    said("--policy", "round-1", "--count", "3")
    assert set(Story.objects.values_list("policy__name", flat=True)) == {other.name}


def test_without_a_count_it_writes_as_many_as_the_settings_say(policy, settings):
    make_prompt()
    said()
    assert Story.objects.count() == settings.STORIES_PER_PROMPT


@pytest.mark.parametrize("count", ["2", "6"])
def test_a_prompt_has_three_to_five_stories(policy, count):
    make_prompt()
    with pytest.raises(CommandError, match="--count: invalid choice"):
        said("--count", count)


def test_progress_as_json_ends_with_all_that_was_stored(policy):
    for _ in range(4):
        make_prompt()
    lines = [json.loads(line) for line in said("--count", "3", "--json").splitlines()]
    assert [(line["done"], line["wanted"]) for line in lines] == [(10, 12), (12, 12)]
    assert lines[-1]["note"].startswith("12 stories written")


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
    with pytest.raises(CommandError, match="The weights of base have changed on disk"):
        said()
    assert not Story.objects.exists()


def test_a_tokenizer_that_is_gone_is_a_fault_in_words(tiny_model, tmp_path):
    make_prompt()
    model = shutil.copytree(tiny_model, tmp_path / "model")
    register_policy(name="base", path=model)
    (model / "tokenizer.json").unlink()
    with pytest.raises(CommandError, match="has no tokenizer"):
        said()


def test_a_prompt_that_is_too_long_is_a_fault_in_words(policy):
    make_prompt("fox " * 400)
    with pytest.raises(CommandError, match="lower STORYLOOP_MAX_STORY_TOKENS"):
        said()
