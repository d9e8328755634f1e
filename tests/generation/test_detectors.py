"""The two detectors of structure and message, and how good each is said to be."""

from collections import Counter
from pathlib import Path

import pytest

from generation.detectors import (
    ANSWER_TOKENS,
    QUESTIONS,
    RULES,
    Judge,
    Reading,
    Share,
    Told,
    answer,
    detect,
    labelled_stories,
    labelled_texts,
    quality,
    quality_of,
)
from generation.measures import sentences
from generation.readings import judge_model
from tests.generation.pens import PenEngine

DOCS = Path(__file__).resolve().parents[2] / "docs" / "measures.md"
WHOLE = Told(
    "Once upon a time there was a fox. But it was lost. In the end it came home. It learned that maps help.", "en"
)
BARE = Told("从前有一只小狐狸。", "zh")


def perfect(request) -> tuple[str, str]:
    """Answers by the labels."""
    story = next(story for story in labelled_stories() if story.text in request.prompt)
    _, structure, _ = QUESTIONS[story.language]
    has_it = story.structure if structure in request.prompt else story.message
    return {"en": ("No", "Yes."), "zh": ("否", "是。")}[story.language][has_it], "stop"


class TestAnswers:
    @pytest.mark.parametrize("text", ["yes", " Yes.", "YES", "**Yes**, it does", '"Yes"', "是", "是的。", "是，有"])
    def test_yes(self, text):
        assert answer(text) is True

    @pytest.mark.parametrize("text", ["no", "No.\n", "No, there is no conflict", "否", "不是", "“否”"])
    def test_no(self, text):
        assert answer(text) is False

    @pytest.mark.parametrize(
        "text",
        ["", "...", "Yes and no", "maybe", "Not", "yesterday", "nothing", "The answer is yes", "是否", "否，是", "不"],
    )
    def test_what_is_neither_is_not_guessed(self, text):
        assert answer(text) is None


class TestDetect:
    def test_rules_are_the_default(self):
        assert detect([WHOLE, BARE]) == [Reading(True, True), Reading(False, False)]

    def test_the_judge_is_asked_both_questions_greedily_in_the_storys_language(self):
        engine = PenEngine(lambda request: ("yes", "stop"))
        detect([WHOLE, BARE], Judge(engine, "h"))
        prompts = [request.prompt for request in engine.asked]
        assert [WHOLE.text in prompt for prompt in prompts] == [True, True, False, False]
        for language, (first, second) in {"en": prompts[:2], "zh": prompts[2:]}.items():
            _, structure, message = QUESTIONS[language]
            assert (structure in first, message in second) == (True, True)
        sampling = {
            (r.sampling.temperature, r.sampling.max_tokens, r.sampling.repetition_penalty) for r in engine.asked
        }
        assert sampling == {(0.0, ANSWER_TOKENS, 1.0)}

    def test_a_story_may_hold_braces(self):
        engine = PenEngine(lambda request: ("no", "stop"))
        detect([Told("A fox {question} {text}.", "en")], Judge(engine, "h"))
        assert "A fox {question} {text}." in engine.asked[0].prompt

    def test_answers_come_to_their_story_in_any_order(self):
        readings = detect(labelled_texts(), Judge(PenEngine(perfect, pick=lambda count: count * 7 % count - 1), "h"))
        assert [(r.structure, r.message) for r in readings] == [(s.structure, s.message) for s in labelled_stories()]

    def test_an_answer_that_cannot_be_read_is_kept_as_it_came(self):
        said = iter(["yes", "perhaps\x00"])
        (reading,) = detect([WHOLE], Judge(PenEngine(lambda request: (next(said), "length")), "h"))
        assert reading == Reading(True, None, "yes | perhaps")
        assert not reading.is_readable

    def test_the_judges_name_tells_its_weights(self):
        assert Judge(PenEngine(), "abc").name != Judge(PenEngine(), "abd").name


class TestLabels:
    def test_there_are_as_many_of_each_language_and_kind_as_the_docs_say(self):
        counts = Counter(story.language for story in labelled_stories())
        assert counts == {"en": 24, "zh": 24}
        for language in counts:
            kinds = Counter((s.structure, s.message) for s in labelled_stories() if s.language == language)
            assert kinds == {(True, True): 8, (True, False): 4, (False, True): 2, (False, False): 10}

    def test_each_has_a_key_a_reason_and_a_few_sentences(self):
        stories = labelled_stories()
        assert len({story.key for story in stories}) == len({story.text for story in stories}) == len(stories)
        assert all(story.reason for story in stories)
        assert [story.key for story in stories if not 3 <= len(sentences(story.text)) <= 8] == []


class TestQuality:
    def test_who_answers_by_the_labels_is_perfect(self):
        found = quality(Judge(PenEngine(perfect), "h"))
        shares = [
            getattr(scores, name) for scores in (found.structure, found.message) for name in ("precision", "recall")
        ]
        assert {share.rate for share in shares} == {1.0}
        assert (found.n, found.unreadable) == (48, 0)
        assert all(share.interval[0] < 0.92 for share in shares)

    def test_counted_by_hand(self):
        stories = labelled_stories()
        readings = [Reading(None, story.message) if i == 0 else Reading(True, False) for i, story in enumerate(stories)]
        found = quality_of(readings)
        assert found.structure.precision == Share(23, 47)  # of 24 that have it, the first has no answer
        assert found.structure.recall == Share(23, 24)
        assert found.message.precision == Share(1, 1)
        assert found.message.recall == Share(1, 20)
        assert found.unreadable == 1

    def test_of_a_detector_that_finds_nothing_precision_is_not_known(self):
        found = quality_of([Reading(False, False)] * len(labelled_stories()))
        assert (found.structure.precision.rate, found.structure.recall.rate) == (None, 0.0)

    @pytest.mark.parametrize(("language", "name"), [(None, "both"), ("en", "English"), ("zh", "Chinese")])
    def test_the_docs_say_what_the_rules_reach(self, language, name):
        found = quality(RULES, language=language)
        shares = [
            getattr(scores, kind) for scores in (found.structure, found.message) for kind in ("precision", "recall")
        ]
        cells = [f"{s.percent} % [{s.percent_low}, {s.percent_high}] ({s.hits} of {s.n})" for s in shares]
        assert f"| rules | {name} | {found.n} | {' | '.join(cells)} |" in DOCS.read_text()


def test_no_judge_is_chosen_at_first(db):
    assert judge_model() is None
