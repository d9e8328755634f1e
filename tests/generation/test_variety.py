"""Repetition in a story and likeness among stories, and BLEU by a second library."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu

from generation.measures import ends_open, repetition
from generation.variety import distinct, repeated_sentence_share, repeated_word_share, self_bleu


@pytest.mark.parametrize(
    ("text", "size", "share"),
    [
        ("a fox and a bear", 1, 4 / 5),
        ("a fox a fox", 2, 2 / 3),
        ("sat sat sat sat sat", 4, 1 / 2),
        ("a fox ran", 4, None),
        ("", 1, None),
    ],
)
def test_distinct_runs_over_all(text, size, share):
    assert distinct(text, "en", size) == (None if share is None else pytest.approx(share))


def test_distinct_4_is_what_repetition_leaves():
    text = "one two three four one two three four five"
    assert distinct(text, "en", 4) == pytest.approx(1 - repetition(text, "en"))


@pytest.mark.parametrize(
    ("text", "language", "share"),
    [
        ("Dot sat sat sat.", "en", 2 / 4),
        ("The the fox", "en", 1 / 3),
        ("No, no! Come here, here is a fox.", "en", 0),
        ("It can't can't be.", "en", 1 / 4),
        ("小狗慢慢走，妈妈看看。", "zh", 0),
        ("小狗坐坐坐坐。", "zh", 2 / 6),
        ("", "en", 0),
    ],
)
def test_words_twice_in_a_row(text, language, share):
    assert repeated_word_share(text, language) == pytest.approx(share)


@pytest.mark.parametrize(
    ("text", "share"), [("It ran. It hid. It ran!", 1 / 3), ("It ran. It hid.", 0), ("Go. Go. Go.", 2 / 3), ("", 0)]
)
def test_sentences_said_before(text, share):
    assert repeated_sentence_share(text, "en") == pytest.approx(share)


@pytest.mark.parametrize(
    ("text", "is_open"),
    [
        ("It ran.", False),
        ("“It ran!”", False),
        ("他说：“走吧。”", False),
        ("It ran and", True),
        ("它跑", True),
        ("", True),
    ]
    + [("It ran. \n", False), ("It ran…", False), ("It ran,", True)],
)
def test_a_text_without_a_final_mark_is_open(text, is_open):
    assert ends_open(text) is is_open


def theirs(stories: list[list[str]]) -> float:
    smooth = SmoothingFunction().method1
    scores = [
        sentence_bleu(stories[:i] + stories[i + 1 :], story, smoothing_function=smooth)
        for i, story in enumerate(stories)
    ]
    return sum(scores) / len(scores)


@given(st.lists(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=30), min_size=2, max_size=4))
def test_self_bleu_is_that_of_nltk(stories):
    ours = self_bleu([" ".join(story) for story in stories], "en")
    assert ours == pytest.approx(theirs(stories), abs=1e-9)


def test_stories_that_are_the_same_are_wholly_alike():
    assert self_bleu(["A fox ran home today."] * 3, "en") == pytest.approx(1)


def test_stories_without_a_word_in_common_are_not_alike_at_all():
    assert self_bleu(["a fox ran home", "the moon was lonely"], "en") == 0


def test_one_story_is_like_no_other():
    assert self_bleu(["A fox ran home.", "12!"], "en") is None
