"""Whether a draw is kept: not empty, whole, in the prompt's language, and unlike its sisters."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from generation.acceptance import MOSTLY_FOREIGN, NEARLY_THE_SAME, Sisters, fault_of
from generation.engines.values import Completion
from generation.measures import overlap, runs_of

STORY = "Once upon a time a little fox went into the wood. It met a bear, and they shared a pot of honey."
CHINESE = "从前，有一只小狐狸。有一天，小狐狸在树林里遇见了一头熊。"
OTHER = "The moon was lonely. A boy built a ladder of kites and climbed up to say good night."


def fault(text: str, *sisters: str, language: str = "en", reason: str = "stop") -> str:
    completion = Completion(0, "Write.\n", text, (1, 2), reason, "0" * 64)
    return fault_of(completion, text, Sisters(language, sisters))


@pytest.mark.parametrize(("text", "language"), [(STORY, "en"), (CHINESE, "zh")])
def test_a_whole_story_unlike_its_sisters_has_no_fault(text, language):
    assert fault(text, OTHER, language=language) == ""


@pytest.mark.parametrize(("reason", "expected"), [("stop", "empty"), ("length", "empty"), ("too_long", "too_long")])
def test_nothing_is_empty_unless_there_was_no_room(reason, expected):
    assert fault("", reason=reason) == expected


def test_what_was_cut_off_is_cut_off_whatever_it_says():
    assert fault(STORY, STORY, reason="length") == "cut_off"


@pytest.mark.parametrize(
    ("text", "language"),
    [
        (CHINESE, "en"),
        (STORY, "zh"),
        ("从前有一只 fox 和一头 bear 在一起。", "zh"),
        ("The fox 狐狸在树林里遇见了熊。", "en"),
    ],
)
def test_a_story_in_the_other_language_is_in_the_wrong_one(text, language):
    assert fault(text, language=language) == "language"


@pytest.mark.parametrize(
    ("text", "language"),
    [("A fox called 小白 went home to her den in the wood.", "en"), ("小狐狸说：OK，我们一起回家去吃蜂蜜吧。", "zh")],
)
def test_a_name_or_a_word_of_the_other_language_is_no_fault(text, language):
    assert fault(text, language=language) == ""


@pytest.mark.parametrize("text", ["Жила-была лиса. Она жила в лесу.", "むかしむかし、きつねがいました。"])
def test_a_story_in_a_third_script_is_in_the_wrong_language(text):
    assert fault(text, language="en") == "language"


def test_the_same_text_is_the_same():
    assert fault(STORY, OTHER, STORY) == "same"


@pytest.mark.parametrize(
    ("text", "sister", "language"),
    [
        (STORY.replace("honey", "jam"), STORY, "en"),
        (STORY.upper(), STORY, "en"),
        (STORY + " It was good.", STORY, "en"),
        (CHINESE.replace("。有", "，有"), CHINESE, "zh"),
    ],
)
def test_a_text_that_differs_in_a_word_or_a_mark_is_nearly_the_same(text, sister, language):
    assert fault(text, sister, language=language) == "near"


def test_a_retelling_is_a_story_of_its_own():
    retold = "Long ago a small fox walked among the trees. There it saw a bear; both of them ate honey."
    assert fault(retold, STORY) == ""


def test_a_text_short_of_four_words_is_compared_as_a_whole():
    assert fault("A fox.", "A bear.") == ""
    assert fault("A fox!", "A fox.") == "near"


def test_sisters_that_are_added_count():
    sisters = Sisters("en")
    assert sisters.fault(STORY) == ""
    sisters.add(STORY)
    assert sisters.fault(STORY) == "same"


WORDS = st.lists(st.sampled_from(["fox", "bear", "moon", "tree", "ran", "sang", "home"]), min_size=1, max_size=14)


@given(one=WORDS, other=WORDS)
def test_nearly_the_same_is_mutual_and_by_the_stated_share(one, other):
    one, other = " ".join(one), " ".join(other)
    share = overlap(runs_of(one, "en"), runs_of(other, "en"))
    assert bool(fault(one, other)) == bool(fault(other, one)) == (share >= NEARLY_THE_SAME)


def test_the_stated_shares():
    assert (NEARLY_THE_SAME, MOSTLY_FOREIGN) == (0.8, 0.3)
