"""What must always hold about prompts, policies and stories is held by the database."""

import pytest
from django.db import IntegrityError, transaction
from django.db.models import F, ProtectedError

from generation.models import Policy, Prompt, Story
from tests.factories import make_policy, make_prompt, make_story

pytestmark = pytest.mark.django_db


def change(model, **values):
    """Update the one row of `model` behind the back of every rule written in Python."""
    return lambda: model.objects.update(**values)


def second_story(**values):
    return lambda: make_story(Policy.objects.first(), Prompt.objects.first(), **values)


BREAKS = {
    "prompt_has_text": change(Prompt, text=""),
    "prompt_language_known": change(Prompt, language="fr"),
    "prompt_split_known": change(Prompt, split="test"),
    "prompt_once": lambda: make_prompt("Tell of a fox."),
    "policy_one_current": lambda: make_policy(current=True),
    "policy_has_path": change(Policy, path=""),
    "policy_not_its_own_parent": change(Policy, parent=F("pk")),
    "generation_policy_name": lambda: make_policy("base"),
    "story_once_per_sample": second_story(index=0),
    "story_no_duplicates": second_story(index=1, text="A fox."),
    "story_at_most_five_samples": change(Story, sample_index=5),
    "generation_story_sample_index_check": change(Story, sample_index=-1),
    "story_has_text": change(Story, text=""),
    "story_temperature_not_negative": change(Story, temperature=-0.1),
    "story_top_p_in_range": change(Story, top_p=0.0),
    "story_min_p_in_range": change(Story, min_p=-0.01),
    "story_finish_reason_known": change(Story, finish_reason="tired"),
}
OTHER_ENDS = [
    ("story_top_p_in_range", change(Story, top_p=1.01)),
    ("story_min_p_in_range", change(Story, min_p=1.01)),
]


@pytest.fixture
def _one_of_each():
    make_story(make_policy("base", current=True), make_prompt("Tell of a fox."), text="A fox.")


@pytest.mark.usefixtures("_one_of_each")
@pytest.mark.parametrize(("name", "violate"), [*BREAKS.items(), *OTHER_ENDS])
def test_the_database_refuses_what_breaks(name, violate):
    with pytest.raises(IntegrityError, match=name), transaction.atomic():
        violate()


@pytest.mark.parametrize("model", [Prompt, Policy, Story])
def test_every_constraint_is_broken_once_here(model):
    assert {constraint.name for constraint in model._meta.constraints} <= set(BREAKS)


def test_the_same_text_may_be_written_for_another_prompt():
    policy = make_policy()
    make_story(policy, make_prompt(), text="A fox.")
    assert make_story(policy, make_prompt(), text="A fox.").pk


@pytest.mark.parametrize("model", [Prompt, Policy])
def test_what_a_story_came_from_cannot_be_deleted(model):
    make_story(make_policy(), make_prompt())
    with pytest.raises(ProtectedError):
        model.objects.all().delete()


def test_no_policy_is_current_before_one_is_promoted():
    make_policy()
    assert Policy.objects.current() is None


def test_the_current_policy_is_the_promoted_one():
    make_policy()
    promoted = make_policy(current=True)
    assert Policy.objects.current() == promoted


def test_a_lineage_goes_back_to_the_base_model():
    base = make_policy()
    first = make_policy(parent=base)
    second = make_policy(parent=first)
    make_policy(parent=base)
    assert second.lineage() == [second, first, base]


def test_a_story_that_was_cut_off_is_not_finished():
    policy, prompt = make_policy(), make_prompt()
    ended = make_story(policy, prompt, 0)
    make_story(policy, prompt, 1, finish_reason="length")
    assert list(Story.objects.finished()) == [ended]
