import pytest
from django.db import transaction
from django.utils import timezone

from annotate.comparisons import close_comparisons, open_evaluation_comparisons, open_preference_comparisons
from annotate.models import Comparison, Place, Purpose
from annotate.queue import lock_queue, refresh_queue
from generation.models import Policy, Prompt, Split
from tests.factories import make_comparison, make_evaluation, make_policy, make_prompt, make_story

pytestmark = pytest.mark.django_db


def written(policy: Policy, *, stories: int, split: str = Split.TRAIN, **fields: object) -> Prompt:
    prompt = make_prompt(split=split)
    for index in range(stories):
        make_story(policy, prompt, index, **fields)
    return prompt


def shown_texts(comparison: Comparison) -> set[str]:
    return set(comparison.stories.values_list("text", flat=True))


def test_each_training_prompt_gets_one_comparison_of_all_its_stories() -> None:
    policy = make_policy()
    prompts = {written(policy, stories=3), written(policy, stories=5)}
    assert open_preference_comparisons(policy=policy) == 2
    found = {c.prompt: c.stories.count() for c in Comparison.objects.preference()}
    assert found == {prompt: prompt.stories.count() for prompt in prompts}


def test_opening_again_adds_nothing() -> None:
    policy = make_policy()
    written(policy, stories=3)
    open_preference_comparisons(policy=policy)
    assert open_preference_comparisons(policy=policy) == 0
    assert Comparison.objects.count() == 1


def test_opening_again_leaves_what_is_shown_alone() -> None:
    comparison = make_comparison(3)
    make_story(comparison.policy, comparison.prompt, 3)
    open_preference_comparisons(policy=comparison.policy)
    assert comparison.stories.count() == 3


def test_stories_cut_off_at_the_length_limit_are_not_shown() -> None:
    policy = make_policy()
    prompt = written(policy, stories=2)
    cut_off = make_story(policy, prompt, 2, finish_reason="length")
    open_preference_comparisons(policy=policy)
    assert not cut_off.comparisons.exists()


def test_one_story_is_nothing_to_compare() -> None:
    policy = make_policy()
    written(policy, stories=1)
    assert open_preference_comparisons(policy=policy) == 0


def test_held_out_prompts_get_no_preference_comparison() -> None:
    policy = make_policy()
    written(policy, stories=3, split=Split.EVALUATION)
    assert open_preference_comparisons(policy=policy) == 0


def test_other_policies_stories_are_not_mixed_into_a_preference_comparison() -> None:
    policy = make_policy()
    prompt = written(policy, stories=2)
    stranger = make_story(make_policy(), prompt)
    open_preference_comparisons(policy=policy)
    assert not stranger.comparisons.exists()


def test_a_comparison_has_the_places_that_the_settings_ask_for(settings) -> None:
    settings.PLACES_PER_COMPARISON = 4
    comparison = make_comparison()
    assert [place.number for place in comparison.places.all()] == [1, 2, 3, 4]


def test_places_stand_in_the_queue_where_their_comparison_was_drawn() -> None:
    comparison = make_comparison()
    assert set(comparison.places.values_list("draw_order", flat=True)) == {comparison.draw_order}


def test_chance_and_not_age_orders_the_queue() -> None:
    policy = make_policy()
    made = [make_comparison(2, policy=policy).pk for _ in range(20)]
    drawn = list(Comparison.objects.order_by("draw_order").values_list("pk", flat=True))
    assert drawn not in (made, made[::-1])


def test_an_evaluation_shows_one_story_of_each_policy() -> None:
    new, old = make_policy(), make_policy()
    comparison = make_evaluation(new, old)
    assert set(comparison.stories.values_list("policy", flat=True)) == {new.pk, old.pk}
    assert (comparison.purpose, comparison.policy, comparison.baseline) == (Purpose.EVALUATION, new, old)


def test_an_evaluation_pairs_stories_of_the_same_sample() -> None:
    new, old = make_policy(), make_policy()
    prompt = make_prompt(split=Split.EVALUATION)
    make_story(new, prompt, 1, "new 1")
    for index in range(2):
        make_story(old, prompt, index, f"old {index}")
    open_evaluation_comparisons(policy=new, baseline=old)
    assert [shown_texts(c) for c in Comparison.objects.all()] == [{"new 1", "old 1"}]


def test_a_prompt_is_evaluated_by_two_pairs_at_most() -> None:
    new, old = make_policy(), make_policy()
    prompt = make_prompt(split=Split.EVALUATION)
    for policy in (new, old):
        for index in range(4):
            make_story(policy, prompt, index)
    assert open_evaluation_comparisons(policy=new, baseline=old) == 2


def test_training_prompts_are_not_evaluated() -> None:
    new, old = make_policy(), make_policy()
    prompt = written(new, stories=1)
    make_story(old, prompt)
    assert open_evaluation_comparisons(policy=new, baseline=old) == 0


def test_the_same_text_from_both_policies_is_not_put_before_experts() -> None:
    new, old = make_policy(), make_policy()
    prompt = make_prompt(split=Split.EVALUATION)
    for policy in (new, old):
        make_story(policy, prompt, text="The very same story.")
    assert open_evaluation_comparisons(policy=new, baseline=old) == 0


def test_opening_evaluations_again_adds_nothing() -> None:
    new, old = make_policy(), make_policy()
    make_evaluation(new, old)
    assert open_evaluation_comparisons(policy=new, baseline=old) == 0


def test_two_stories_are_not_paired_twice_when_more_stories_come() -> None:
    new, old = make_policy(), make_policy()
    prompt = make_prompt(split=Split.EVALUATION)
    for index in (1, 0):
        make_story(new, prompt, index, f"new {index}")
        make_story(old, prompt, index, f"old {index}")
        open_evaluation_comparisons(policy=new, baseline=old)
    shown = [shown_texts(c) for c in Comparison.objects.order_by("pk")]
    assert shown == [{"new 1", "old 1"}, {"new 0", "old 0"}]


def test_closing_says_how_many_were_open() -> None:
    first, second = make_comparison(), make_comparison()
    assert close_comparisons([first]) == 1
    assert close_comparisons([first, second]) == 1


def test_closing_leaves_other_comparisons_open() -> None:
    closed, left = make_comparison(), make_comparison()
    close_comparisons([closed])
    assert list(Comparison.objects.all().open()) == [left]


def test_closing_keeps_the_places() -> None:
    comparison = make_comparison()
    close_comparisons([comparison])
    assert Place.objects.filter(comparison=comparison).count() == 3


@pytest.mark.parametrize("prompts", [2, 12])
def test_the_database_is_asked_as_often_for_many_comparisons_as_for_few(
    prompts: int, django_assert_max_num_queries
) -> None:
    policy = make_policy()
    for _ in range(prompts):
        written(policy, stories=3)
    with django_assert_max_num_queries(10):
        assert open_preference_comparisons(policy=policy) == prompts
    assert {comparison.stories.count() for comparison in Comparison.objects.all()} == {3}
    assert Place.objects.count() == 3 * prompts


def test_more_comparisons_than_a_statement_has_values_are_brought_in_line() -> None:
    comparison = make_comparison()
    Comparison.objects.update(closed_at=timezone.now())
    with transaction.atomic():
        lock_queue()
        refresh_queue(range(comparison.pk, comparison.pk + 70_000))
    assert not Place.objects.filter(wanted=True).exists()
