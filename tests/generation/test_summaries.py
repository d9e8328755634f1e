"""What a policy's stories are like on the whole, and how two policies' differ."""

from datetime import timedelta
from itertools import count

import numpy as np
import pytest
from django.utils import timezone
from scipy.stats import bootstrap

from generation import figures
from generation.models import PolicyFigures
from generation.summaries import MEASURES, change, summarise
from tests.factories import make_policy, make_prompt, make_run, make_story

pytestmark = pytest.mark.django_db

WHOLE = "Once upon a time there was a fox. But it was lost. In the end it came home. It learned that maps help."
BARE = "A fox ran up the hill. It was a fine day."
CHINESE = "从前，有一只小狐狸。可是，它迷路了。最后，它回家了。"
QUERIES_KEPT = 2  # the count of the stories, and the row


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
    make_story(policy, make_prompt(language="zh"), text=CHINESE)
    assert summarise(policy).structure == 1


def test_a_language_may_be_asked_for_alone():
    policy = make_policy()
    make_story(policy, make_prompt(language="zh"), text=CHINESE)
    make_story(policy, make_prompt(), text=BARE)
    both, english, chinese = (summarise(policy, language=language) for language in (None, "en", "zh"))
    assert [found.stories for found in (both, english, chinese)] == [2, 1, 1]
    assert (both.structure, english.structure, chinese.structure) == (0.5, 0, 1)
    assert summarise(make_policy(), language="zh") is None


def test_a_measure_of_one_language_is_of_its_stories_only():
    policy = make_policy()
    make_story(policy, make_prompt(language="zh"), text=CHINESE)
    make_story(policy, make_prompt(), text=BARE)
    found = summarise(policy)
    assert (found.words_per_sentence, found.characters_per_sentence) == (5.5, 20 / 3)
    assert (found.n["grade"], found.n["uncommon_words"], found.n["structure"]) == (1, 1, 2)
    english = summarise(policy, language="en")
    assert (english.uncommon_words, "uncommon_words" in english.n) == (None, False)


def test_every_measure_has_a_figure_for_some_story():
    policy, english, chinese = make_policy(), make_prompt(), make_prompt(language="zh")
    for index in range(2):
        make_story(policy, english, index, f"{WHOLE} {BARE * index}")
        make_story(policy, chinese, index, CHINESE * (index + 1))
    found = summarise(policy)
    assert [name for name in MEASURES if getattr(found, name) is None] == []
    assert set(found.n) == set(MEASURES)


def test_a_story_that_was_cut_off_does_not_count_but_as_one_without_an_end():
    policy, prompt = make_policy(), make_prompt()
    make_story(policy, prompt, 0, WHOLE)
    make_story(policy, prompt, 1, BARE, finish_reason="length")
    make_story(policy, prompt, 2, "A fox ran and")
    found = summarise(policy)
    assert (found.stories, found.written, found.structure) == (2, 3, 0.5)
    assert found.cut_off == pytest.approx(2 / 3)


def test_another_policys_stories_do_not_count():
    policy, prompt = make_policy(), make_prompt()
    make_story(policy, prompt, 0, WHOLE)
    make_story(make_policy(), prompt, 0, BARE)
    assert summarise(policy).stories == 1


def test_diversity_is_among_the_stories_of_one_prompt():
    policy = make_policy()
    make_story(policy, make_prompt(), 0, BARE)
    make_story(policy, make_prompt(), 0, BARE)
    found = summarise(policy)
    assert (found.diversity, found.n["diversity"], found.self_bleu) == (1, 2, None)


def test_sisters_that_say_the_same_have_no_diversity():
    policy, prompt = make_policy(), make_prompt()
    make_story(policy, prompt, 0, BARE)
    make_story(policy, prompt, 1, BARE.upper())
    found = summarise(policy)
    assert (found.diversity, found.self_bleu) == (0, pytest.approx(1))


class TestKept:
    def test_what_was_read_is_not_read_again(self, django_assert_num_queries):
        policy = make_policy()
        make_story(policy, make_prompt(), text=BARE)
        first = summarise(policy)
        with django_assert_num_queries(QUERIES_KEPT):
            assert summarise(policy) == first

    @pytest.mark.parametrize("happens", ["written", "withdrawn", "deleted", "remeasured"])
    def test_it_is_renewed_when_the_stories_or_the_measures_change(self, happens, monkeypatch):
        policy, prompt = make_policy(), make_prompt()
        make_story(policy, prompt, 0, WHOLE)
        story = make_story(policy, prompt, 1, BARE)
        summarise(policy)
        before = PolicyFigures.objects.get().computed_at
        if happens == "written":
            make_story(policy, prompt, 2, BARE + BARE)
        elif happens == "withdrawn":
            policy.stories.filter(pk=story.pk).update(withdrawn_at=timezone.now())
        elif happens == "deleted":
            story.delete()
        else:
            monkeypatch.setattr(figures, "VERSION", figures.VERSION + 1)
        assert summarise(policy).stories == {"written": 3, "deleted": 1}.get(happens, 2)
        assert PolicyFigures.objects.get().computed_at > before

    def test_while_a_run_writes_it_may_be_a_minute_old(self):
        policy, prompt = make_policy(), make_prompt()
        make_story(policy, prompt, 0, WHOLE)
        summarise(policy)
        make_run(policy)
        make_story(policy, prompt, 1, BARE)
        assert summarise(policy).stories == 1
        PolicyFigures.objects.update(computed_at=timezone.now() - timedelta(minutes=2))
        assert summarise(policy).stories == 2

    def test_of_very_many_stories_whole_prompts_are_read_and_the_same_of_each_policy(self, monkeypatch):
        monkeypatch.setattr(figures, "MOST_STORIES", 7)
        base, policy, prompts = make_policy(), make_policy(), [make_prompt() for _ in range(5)]
        for prompt in prompts:
            for index in range(3):
                for writer in (base, policy):
                    make_story(writer, prompt, index, f"{BARE} {index} {'x' * index}")
        found = summarise(policy)
        assert (found.stories, found.written, found.drawn_from) == (6, 6, 15)
        drawn = [{story.prompt for story in figures.drawn_stories(writer)} for writer in (base, policy)]
        assert drawn[0] == drawn[1]
        assert len(drawn[0]) == 2
        assert change(base, policy, "mean_words").prompts == 2


class TestChange:
    def written(self, lengths: list[int], prompts: list) -> object:
        policy = make_policy()
        for prompt, length in zip(prompts, lengths, strict=True):
            make_story(policy, prompt, 0, "fox " * length + "ran.")
        return policy

    def test_it_is_of_the_prompts_that_both_wrote_for(self):
        prompts = [make_prompt() for _ in range(3)]
        base, policy = self.written([4, 6], prompts[:2]), self.written([9, 50], prompts[1:])
        found = change(base, policy, "mean_words")
        assert (found.mean, found.before, found.after, found.prompts) == (3, 7, 10, 1)
        assert (found.relative, found.clear) == (pytest.approx(3 / 7), True)

    def test_a_prompts_stories_are_averaged_first(self):
        prompts = [make_prompt() for _ in range(2)]
        base, policy = self.written([1, 1], prompts), self.written([1, 3], prompts)
        make_story(policy, prompts[0], 1, "fox " * 5 + "ran.")
        assert change(base, policy, "mean_words").mean == 2

    def test_the_interval_is_that_of_scipys_bootstrap(self):
        rng, prompts = np.random.default_rng(3), [make_prompt() for _ in range(60)]
        old, new = rng.integers(5, 30, 60), rng.integers(8, 30, 60)
        policies = [self.written(list(lengths), prompts) for lengths in (old, new)]
        found = change(*policies, "mean_words")
        theirs = bootstrap(((new - old).astype(float),), np.mean, method="percentile", rng=1).confidence_interval
        assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), abs=0.25)

    def test_the_interval_is_the_same_each_time(self):
        prompts = [make_prompt() for _ in range(5)]
        policies = [self.written(lengths, prompts) for lengths in ([3, 1, 4, 1, 5], [9, 2, 6, 5, 3])]
        first = change(*policies, "mean_words")
        PolicyFigures.objects.all().delete()
        assert change(*policies, "mean_words") == first

    def test_a_language_may_be_asked_for_alone(self):
        prompts = [make_prompt(), make_prompt(language="zh")]
        texts = count(1)
        policies = [make_policy(), make_policy()]
        for policy in policies:
            for prompt in prompts:
                make_story(policy, prompt, 0, "狐狸跑。" * next(texts) if prompt.language == "zh" else "A fox.")
        assert change(*policies, "mean_words", language="en").mean == 0
        assert change(*policies, "mean_words", language="zh").mean == 3
        assert change(*policies, "uncommon_words").prompts == 1

    def test_without_a_prompt_in_common_there_is_none(self):
        base, policy = self.written([4], [make_prompt()]), self.written([4], [make_prompt()])
        assert change(base, policy, "mean_words") is None
        assert change(base, base, "grade").mean == 0
        assert change(base, base, "uncommon_words") is None

    def test_a_measure_that_is_not_known_is_refused(self):
        with pytest.raises(KeyError, match="beauty"):
            change(make_policy(), make_policy(), "beauty")
