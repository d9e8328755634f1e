"""How hard a text is to read, and the same by a second library."""

from pathlib import Path

import pytest

from generation import readability
from generation.readability import (
    chinese_words,
    difficult_word_share,
    school_grade,
    sentence_length,
    uncommon_character_share,
    uncommon_word_share,
)

DATA = Path(readability.__file__).parent / "data"
TALE = (
    "The little rabbit wanted a yellow balloon. She asked her mother for money and went to the market. "
    "A sudden wind carried the balloon away. The rabbit waited under the tree until evening."
)
# of the words of TALE, in the form of NLTK's copy of CMUdict
SPOKEN = {
    1: "a and asked for her she the to tree went wind",
    2: "little rabbit wanted yellow balloon mother money market sudden carried away waited under until evening",
}


@pytest.fixture
def textstat(tmp_path, monkeypatch):
    """The library with a dictionary: its own it would fetch from the network."""
    import nltk
    import textstat

    folder = tmp_path / "corpora" / "cmudict"
    folder.mkdir(parents=True)
    spoken = sorted((word.upper(), count) for count, found in SPOKEN.items() for word in found.split())
    (folder / "cmudict").write_text("".join(f"{word} 1 {'AH0 ' * count}\n" for word, count in spoken))
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
    return textstat


def test_the_school_grade_is_that_of_textstat(textstat):
    assert textstat.lexicon_count(TALE) == 33
    assert school_grade(TALE) == pytest.approx(textstat.flesch_kincaid_grade(TALE))


def test_the_school_grade_worked_by_hand():
    # 6 words, 2 sentences, 8 syllables (ba-by, e-ven counts two each)
    assert school_grade("The baby sat. It even smiled.") == pytest.approx(0.39 * 3 + 11.8 * 8 / 6 - 15.59)


def test_sentences_of_two_words_count_too():
    """textstat leaves them out, and a child's text of short sentences becomes one long one."""
    assert school_grade("Dot ran. Dot hid.") == pytest.approx(0.39 * 2 + 11.8 - 15.59)


@pytest.mark.parametrize("measure", [school_grade, difficult_word_share, uncommon_character_share, uncommon_word_share])
def test_a_text_without_words_has_no_figure(measure):
    assert measure("12 ... !") is None


@pytest.mark.parametrize(
    ("text", "language", "length"),
    [
        ("A fox ran. It hid.", "en", 2.5),
        ("小狐狸跑了。他躲起来。", "zh", 4.5),
        ("A fox ran. 12!", "en", 3),
        ("", "en", 0),
    ],
)
def test_the_length_of_a_sentence(text, language, length):
    assert sentence_length(text, language) == length


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("The fox went home.", 0),
        ("The foxes hopped happily and cried, stopping by the biggest trees.", 0),
        ("The fox's paw wasn't cold.", 0),
        ("The fox contemplated the predicament.", 2 / 5),
        ("Then little Zorbin met a fox. Zorbin ran.", 0),
        ("Zorbin ran home.", 1 / 3),
    ],
)
def test_words_outside_the_list_of_dale_and_chall(text, share):
    assert difficult_word_share(text) == pytest.approx(share)


def test_the_list_is_that_of_textstat():
    import textstat

    theirs = (Path(textstat.__file__).parent / "resources" / "en" / "easy_words.txt").read_text().split()
    assert readability._familiar_words() == set(theirs)


def test_chinese_words_are_those_of_the_dictionary():
    assert chinese_words("从前，有3只小狐狸 Dot。") == ["从前", "有", "只", "小", "狐狸"]


@pytest.mark.parametrize(
    ("text", "characters", "words"),
    [("小狐狸回家了。", 0, 0), ("惆怅的狐狸。", 2 / 5, 1 / 3), ("森林里的朋友", 0, 0)],
)
def test_chinese_characters_and_words_outside_the_common_ones(text, characters, words):
    assert uncommon_character_share(text) == pytest.approx(characters)
    assert uncommon_word_share(text) == pytest.approx(words)


def test_the_lists_have_the_size_that_the_docs_state():
    characters, words = readability._common("characters"), readability._common("words")
    assert (len(characters), len(words)) == (2_500, 20_000)
    # all but five of them are in the first level of GB 2312, as is known of this list
    level_1 = {bytes([row, cell]).decode("gb2312", "ignore") for row in range(0xB0, 0xD8) for cell in range(0xA1, 0xFF)}
    assert characters - level_1 == set("叨蜓筝蜻橘")
