"""What must always hold about prompts, policies and stories is held by the database."""

import pytest
from django.apps import apps
from django.db import IntegrityError, transaction
from django.db.models import F, ProtectedError
from django.db.models.functions import Now

from generation.figures import figures_of
from generation.models import (
    EmptyPlace,
    JudgeModel,
    LabelledReading,
    Policy,
    PolicyFigures,
    Prompt,
    Redraw,
    SamplingRow,
    Story,
    StoryReading,
    WritingRun,
)
from tests.factories import make_policy, make_prompt, make_run, make_story

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
    "policy_current_has_weights": change(Policy, weights_deleted_at=Now()),
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
    "story_repetition_penalty_positive": change(Story, repetition_penalty=0.0),
    "generation_story_top_k_check": change(Story, top_k=-1),
    "sampling_row_at_most_five": change(SamplingRow, sample_index=5),
    "sampling_row_heat": change(SamplingRow, temperature=2.01),
    "sampling_row_top_p": change(SamplingRow, top_p=0.0),
    "sampling_row_min_p": change(SamplingRow, min_p=1.0),
    "sampling_row_penalty": change(SamplingRow, repetition_penalty=0.99),
    "sampling_row_seed": change(SamplingRow, seed=1_000_000),
    "generation_samplingrow_top_k_check": change(SamplingRow, top_k=-1),
    "generation_samplingrow_seed_check": change(SamplingRow, seed=-1),
    "generation_samplingrow_sample_index_key": lambda: SamplingRow.objects.create(sample_index=0, temperature=1.0),
    "run_one_at_work_a_policy": lambda: make_run(Policy.objects.get()),
    "run_state_known": change(WritingRun, state="tired", ended_at=Now()),
    "run_count_in_range": change(WritingRun, count=6),
    "run_ended_has_a_time": change(WritingRun, state="done"),
    "redraw_once_a_fault": lambda: Redraw.objects.create(run=WritingRun.objects.get(), fault="same"),
    "redraw_fault_known": change(Redraw, fault="dull"),
    "empty_place_once": lambda: EmptyPlace.objects.create(
        run=WritingRun.objects.get(), prompt=Prompt.objects.get(), sample_index=1, fault="near"
    ),
    "empty_place_fault_known": change(EmptyPlace, fault="dull"),
    "empty_place_at_most_five": change(EmptyPlace, sample_index=5),
    "figures_finished_are_written": change(PolicyFigures, finished=2),
    "judge_model_only_one": lambda: JudgeModel.objects.create(pk=2, policy=Policy.objects.get()),
    "reading_once_a_detector": lambda: StoryReading.objects.create(story=Story.objects.get(), detector="judge"),
    "reading_has_a_detector": change(StoryReading, detector=""),
    "labelled_reading_once": lambda: LabelledReading.objects.create(detector="judge", labels="1", readings=[]),
}
OTHER_ENDS = [
    ("story_top_p_in_range", change(Story, top_p=1.01)),
    ("story_min_p_in_range", change(Story, min_p=1.01)),
    ("sampling_row_heat", change(SamplingRow, temperature=-0.1)),
    ("sampling_row_top_p", change(SamplingRow, top_p=1.01)),
    ("sampling_row_min_p", change(SamplingRow, min_p=-0.01)),
    ("sampling_row_penalty", change(SamplingRow, repetition_penalty=2.01)),
    ("run_count_in_range", change(WritingRun, count=0)),
    ("run_ended_has_a_time", change(WritingRun, ended_at=Now())),
]


@pytest.fixture
def _one_of_each():
    story = make_story(make_policy("base", current=True), make_prompt("Tell of a fox."), text="A fox.")
    SamplingRow.objects.create(sample_index=0, temperature=1.0)
    run = make_run(story.policy)
    Redraw.objects.create(run=run, fault="same")
    EmptyPlace.objects.create(run=run, prompt=story.prompt, sample_index=1, fault="same")
    figures_of(story.policy)
    JudgeModel.objects.create(policy=story.policy)
    StoryReading.objects.create(story=story, detector="judge")
    LabelledReading.objects.create(detector="judge", labels="1", readings=[])


@pytest.mark.usefixtures("_one_of_each")
@pytest.mark.parametrize(("name", "violate"), [*BREAKS.items(), *OTHER_ENDS])
def test_the_database_refuses_what_breaks(name, violate):
    with pytest.raises(IntegrityError, match=name), transaction.atomic():
        violate()


@pytest.mark.parametrize("model", [*apps.get_app_config("generation").get_models()])
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


def test_a_policy_may_have_many_runs_that_have_ended():
    policy = make_policy()
    runs = [make_run(policy, state=state) for state in ("done", "failed", "cancelled", "done", "running")]
    assert list(policy.runs.all()) == runs[::-1]


def test_a_story_stays_when_its_run_is_forgotten():
    run = make_run()
    story = make_story(run.policy, make_prompt(), run=run)
    run.delete()
    assert Story.objects.get(pk=story.pk).run is None


def test_what_a_run_gave_up_and_drew_again_goes_with_it():
    run = make_run()
    Redraw.objects.create(run=run, fault="same")
    EmptyPlace.objects.create(run=run, prompt=make_prompt(), sample_index=1, fault="same")
    run.delete()
    assert not Redraw.objects.exists()
    assert not EmptyPlace.objects.exists()
