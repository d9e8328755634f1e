"""The rules that read a story, each on a sentence made for it."""

import pytest

from generation.demo_writer import grammar_en, grammar_zh
from generation.measures import (
    broken_share,
    distinct_share,
    foreign_share,
    hard_word_share,
    measure_story,
    overlap,
    repetition,
    runs_of,
    sentences,
    syllables,
    words,
)

WHOLE = {
    "en": "Once upon a time there was a fox. But the fox was lost in a dark and windy wood. "
    "In the end it came home. It learned that maps help.",
    "zh": "从前，有一只小狐狸。可是，小狐狸迷路了。最后，它回家了。它学会了：要带地图。",
}


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_whole_story_has_a_structure_and_a_message(language):
    read = measure_story(WHOLE[language], language)
    assert (read.has_structure, read.has_message, read.broken, read.hard_words) == (True, True, 0, 0)


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize(
    ("left_out", "missing"), [(0, "has_beginning"), (1, "has_conflict"), (2, "has_resolution"), (3, "has_message")]
)
def test_a_story_without_one_part_lacks_that_part_only(language, left_out, missing):
    parts = sentences(WHOLE[language])
    del parts[left_out]
    read = measure_story(" ".join(parts), language)
    found = {n for n in ("has_beginning", "has_conflict", "has_resolution", "has_message") if not getattr(read, n)}
    assert found == {missing}
    assert read.has_structure == (missing == "has_message")


def test_a_beginning_that_comes_last_is_no_beginning():
    assert not measure_story("A fox ran. It was wet. It was cold. Once upon a time.", "en").has_beginning


def test_an_ending_that_comes_first_is_no_resolution():
    assert not measure_story("In the end. A fox ran far away. It was wet and cold.", "en").has_resolution


def test_nothing_has_no_parts_and_is_wholly_broken():
    read = measure_story("", "en")
    assert (read.has_structure, read.has_message, read.words, read.broken) == (False, False, 0, 1.0)


def test_each_chinese_message_of_the_demo_writer_is_read_as_one():
    lessons = [
        form.format(name="豆豆", message=message)
        for form in grammar_zh.MESSAGES
        for *_, messages in grammar_zh.THEMES.values()
        for message in messages
    ]
    walk = "从前有一只小兔子。有一天它走了很远的路。"
    assert [lesson for lesson in lessons if not measure_story(walk + lesson, "zh").has_message] == []


def test_not_knowing_is_no_message():
    assert not measure_story("从前有一只小兔子。它看见了亮光。可是，谁也不知道那是什么。", "zh").has_message


def test_a_problem_there_was_is_no_beginning():
    text = "Dot looked around. Then there was a problem: the cup fell. In the end all was well. Dot slept and slept."
    assert not measure_story(text, "en").has_beginning


def test_english_words_are_lower_case_and_keep_their_apostrophes():
    assert words("The fox couldn't see 3 bears.", "en") == ["the", "fox", "couldn't", "see", "bears"]


def test_chinese_words_are_the_characters():
    assert words("小狐狸，fox 回家了。", "zh") == list("小狐狸回家了")


def test_a_sentence_keeps_its_final_marks_and_closing_quotes():
    assert sentences('He said, "Go!" She went. 他说：“走吧。”然后') == [
        'He said, "Go!"',
        "She went.",
        "他说：“走吧。”",
        "然后",
    ]


@pytest.mark.parametrize(
    ("word", "count"),
    [("fox", 1), ("the", 1), ("home", 1), ("homes", 1), ("walked", 1), ("wanted", 2), ("table", 2), ("happy", 2)]
    + [("family", 3), ("elephant", 3), ("considerable", 5), ("inevitable", 5), ("hmm", 1)],
)
def test_syllables(word, count):
    assert syllables(word) == count


@pytest.mark.parametrize(
    ("text", "language", "share"),
    [
        ("The fox ran home.", "en", 0),
        ("The fox contemplated deliberation.", "en", 2 / 4),
        ("A profound fox.", "en", 1 / 3),
        ("小狐狸磋商。", "zh", 1 / 5),
        ("", "en", 0),
        ("", "zh", 0),
    ],
)
def test_the_share_of_hard_words(text, language, share):
    assert hard_word_share(text, language) == share


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("one two three four five", 0),
        ("one two three four one two three four", 1 / 5),
        ("go go go go go go", 2 / 3),
        ("too short here", 0),
    ],
)
def test_the_share_of_four_word_runs_that_come_back(text, share):
    assert repetition(text, "en") == pytest.approx(share)


@pytest.mark.parametrize(
    ("sentence", "language"),
    [
        ("The the fox ran.", "en"),
        ("The fox ran", "en"),
        ("Fox.", "en"),
        ("The fox \ufffd ran.", "en"),
        (" ".join(f"fox {a}" for a in "abcdefghijklmnopqrstu") + ".", "en"),
        ("小狐狸走走走了。", "zh"),
        ("小狐狸走了", "zh"),
    ],
)
def test_a_broken_sentence(sentence, language):
    assert broken_share(sentence, language) == 1


@pytest.mark.parametrize(("sentence", "language"), [("The fox ran.", "en"), ("小狐狸看看天空。", "zh")])
def test_a_sound_sentence(sentence, language):
    assert broken_share(sentence, language) == 0


def test_a_sentence_said_before_is_broken():
    assert broken_share("The fox ran. It rained. The fox ran.", "en") == pytest.approx(1 / 3)


def test_diversity_is_the_share_of_runs_that_no_sister_has():
    one = "a fox ran to the hill"  # three runs, one of them shared
    other = "a fox ran to his red house"  # four runs
    assert distinct_share([one, other], "en") == pytest.approx((2 / 3 + 3 / 4) / 2)


@pytest.mark.parametrize(
    ("texts", "share"), [([], 0), (["a fox"], 0), (["a fox ran home"] * 2, 0), (["a fox ran home"], 1)]
)
def test_diversity_at_its_ends(texts, share):
    assert distinct_share(texts, "en") == share


@pytest.mark.parametrize(("grammar", "language"), [(grammar_en, "en"), (grammar_zh, "zh")])
def test_every_hard_sentence_of_the_demo_writer_is_read_as_hard(grammar, language):
    easy = [s for s in grammar.HARD if not hard_word_share(s.format(hero="fox", name="Dot"), language)]
    assert easy == []


@pytest.mark.parametrize(
    ("text", "language", "expected"),
    [
        ("A fox ran home.", "en", {("a", "fox", "ran", "home")}),
        ("A fox ran home now", "en", {("a", "fox", "ran", "home"), ("fox", "ran", "home", "now")}),
        ("A fox.", "en", {("a", "fox")}),
        ("小狐狸回家", "zh", {tuple("小狐狸回"), tuple("狐狸回家")}),
        ("", "en", {()}),
    ],
)
def test_the_four_word_runs_of_a_text(text, language, expected):
    assert runs_of(text, language) == expected


@pytest.mark.parametrize(
    ("one", "other", "share"),
    [
        ("a fox ran home now", "a fox ran home now", 1),
        ("a fox ran home now", "a fox ran home late", 1 / 3),
        ("a fox ran home", "the moon was very lonely", 0),
        ("a fox", "a fox ran home", 0),
        ("", "", 1),
    ],
)
def test_overlap_is_what_is_shared_over_all(one, other, share):
    assert overlap(runs_of(one, "en"), runs_of(other, "en")) == pytest.approx(share)


@pytest.mark.parametrize(
    ("text", "language", "share"),
    [
        ("A fox.", "en", 0),
        ("小狐狸。", "zh", 0),
        ("小狐狸。", "en", 1),
        ("A fox.", "zh", 1),
        ("Fox 小狐狸回家了", "zh", 3 / 9),
        ("Fox 小狐狸回家了", "en", 6 / 9),
        ("12, 3!", "en", 0),
        ("", "zh", 0),
    ],
)
def test_the_share_of_letters_of_the_other_script(text, language, share):
    assert foreign_share(text, language) == pytest.approx(share)
