"""What a policy's stories are like on the whole."""

import pytest

from generation.summaries import summarise
from tests.factories import make_policy, make_prompt, make_story

pytestmark = pytest.mark.django_db

WHOLE = "Once upon a time there was a fox. But it was lost. In the end it came home. It learned that maps help."
BARE = "A fox ran up the hill. It was a fine day."


def test_a_policy_without_stories_has_no_summary():
    assert summarise(make_policy()) is None


def test_shares_are_means_over_the_stories():
    policy, prompt = make_policy(), make_prompt()
    make_story(policy, prompt, 0, WHOLE)
    make_story(policy, prompt, 1, BARE)
    summary = summarise(policy)
    assert (summary.stories, summary.structure, summary.message) == (2, 0.5, 0.5)
    assert (summary.hard_words, summary.broken, summary.mean_words) == (0, 0, (23 + 11) / 2)


def test_each_story_is_read_in_its_prompts_language():
    policy = make_policy()
    make_story(policy, make_prompt(language="zh"), text="从前，有一只小狐狸。可是，它迷路了。最后，它回家了。")
    assert summarise(policy).structure == 1


def test_a_story_that_was_cut_off_does_not_count():
    policy, prompt = make_policy(), make_prompt()
    make_story(policy, prompt, 0, WHOLE)
    make_story(policy, prompt, 1, BARE, finish_reason="length")
    assert (summarise(policy).stories, summarise(policy).structure) == (1, 1)


def test_another_policys_stories_do_not_count():
    policy, prompt = make_policy(), make_prompt()
    make_story(policy, prompt, 0, WHOLE)
    make_story(make_policy(), prompt, 0, BARE)
    assert summarise(policy).stories == 1


def test_diversity_is_among_the_stories_of_one_prompt():
    policy = make_policy()
    make_story(policy, make_prompt(), 0, BARE)
    make_story(policy, make_prompt(), 0, BARE)
    assert summarise(policy).diversity == 1


def test_sisters_that_say_the_same_have_no_diversity():
    policy, prompt = make_policy(), make_prompt()
    make_story(policy, prompt, 0, BARE)
    make_story(policy, prompt, 1, BARE.upper())
    assert summarise(policy).diversity == 0
