"""Does a story have a structure and a message? Two detectors behind one function: rules, and a judge model.

Neither is the truth: quality() says how each does on labelled stories, which the developers labelled, not educators.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple, Protocol

from generation.engines.values import Engine, Request, SamplingParams, taking
from generation.measures import measure_story
from generation.shares import wilson_interval

LABELLED = Path(__file__).parent / "data" / "labelled_stories.jsonl"
JUDGE_VERSION = 1  # of the questions: another one reads every story again
ANSWER_TOKENS = 8
SAID_LENGTH = 60
YES, NO = {"yes", "是", "是的"}, {"no", "否", "不是"}
ANSWER = re.compile(r"\s*[\"'*“]*(yes|no|是的?|否|不是)(?![a-z\u4e00-\u9fff])")
STRUCTURE, MESSAGE = ASPECTS = ("structure", "message")
QUESTIONS = {
    "en": (
        "Here is a story for children aged 5 to 8.\n\n<story>\n{text}\n</story>\n\n"
        "{question} Answer with one word: yes or no.\nAnswer:",
        "Does the story have all three of these: a beginning that says who it is about, a problem or conflict, and an "
        "ending that settles it?",
        "Does the story, told as a whole, teach children something good for life, such as kindness, courage or care?",
    ),
    "zh": (
        "下面是写给5至8岁孩子的一个故事。\n\n<story>\n{text}\n</story>\n\n{question}只用一个字回答：是或否。\n回答：",
        "这个故事是否同时有这三样：交代主角的开头、一个问题或矛盾、把它解决了的结尾？",
        "这个故事整体上是否教给孩子一个对生活有益的道理，比如善良、勇敢或关心别人？",
    ),
}


class Told(NamedTuple):
    """A story to be read, in its language ("en" or "zh")."""

    text: str
    language: str


@dataclass(frozen=True)
class Reading:
    """What a detector found. None: its answer could not be read; `said` is how it came."""

    structure: bool | None
    message: bool | None
    said: str = ""

    @property
    def is_readable(self) -> bool:
        return self.structure is not None and self.message is not None


class Detector(Protocol):
    """Reads stories. name: what it is, so that a reading can be told from another's."""

    name: str

    def read(self, stories: Iterable[Told]) -> "Iterator[tuple[int, Reading]]":
        """(the story's number, its reading) for each, in any order."""
        ...


class Rules:
    """The surface marks of generation.measures: no model."""

    name = "rules"

    def read(self, stories: Iterable[Told]) -> Iterator[tuple[int, Reading]]:
        for number, story in enumerate(stories):
            found = measure_story(story.text, story.language)
            yield number, Reading(found.has_structure, found.has_message)


RULES = Rules()


class Judge:
    """A model that is asked two questions about each story, and answers them greedily with yes or no."""

    def __init__(self, engine: Engine, weights_hash: str) -> None:
        self.engine, self.name = engine, judge_name(weights_hash)

    def read(self, stories: Iterable[Told]) -> Iterator[tuple[int, Reading]]:
        answers: dict[int, dict[str, str]] = {}
        with closing(self.engine.write(taking(_requests(stories)))) as completions:
            for completion in completions:
                number, aspect = divmod(completion.key, len(ASPECTS))
                found = answers.setdefault(number, {})
                found[ASPECTS[aspect]] = completion.text.replace("\x00", "")
                if len(found) == len(ASPECTS):
                    said = " | ".join(found[aspect].strip()[:SAID_LENGTH] for aspect in ASPECTS)
                    yield number, Reading(answer(found[STRUCTURE]), answer(found[MESSAGE]), said)
                    del answers[number]


def judge_name(weights_hash: str) -> str:
    """The detector's name for readings by the judge with these weights."""
    return f"judge {JUDGE_VERSION} {weights_hash}"


def detect(stories: Sequence[Told], detector: Detector = RULES) -> list[Reading]:
    """The reading of each story, in their order. Raises EngineError if the judge's engine cannot write."""
    found = dict(detector.read(stories))
    return [found[number] for number in range(len(stories))]


def answer(text: str) -> bool | None:
    """What an answer says: it has to begin with yes or no (是, 是的; 否, 不是) and not say the other one after it.

    Everything else is None: it is not guessed.
    """
    begin = ANSWER.match(text.lower())
    if begin is None:
        return None
    says_yes = begin[1] in YES
    rest = re.findall(r"[a-z]+|[\u4e00-\u9fff]+", text.lower()[begin.end() :])
    return None if set(rest) & (NO if says_yes else YES) else says_yes


def _requests(stories: Iterable[Told]) -> Iterator[Request]:
    sampling = SamplingParams(temperature=0.0, top_p=1.0, min_p=0.0, seed=1, max_tokens=ANSWER_TOKENS)
    for number, story in enumerate(stories):
        form, *questions = QUESTIONS[story.language]
        for aspect, question in enumerate(questions):
            # replaced in this order: a story that holds {question} itself stays as it is
            prompt = form.replace("{question}", question).replace("{text}", story.text)
            yield Request(number * len(ASPECTS) + aspect, prompt, sampling)


# --- how good a detector is ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Labelled:
    """A story whose structure and message a developer has labelled, with the reason."""

    key: str
    language: str
    text: str
    structure: bool
    message: bool
    reason: str


@dataclass(frozen=True)
class Share:
    """hits of n, with the 95 % interval of Wilson (1927); the rate is None for n = 0."""

    hits: int
    n: int

    @property
    def rate(self) -> float | None:
        return self.hits / self.n if self.n else None

    @property
    def interval(self) -> tuple[float, float]:
        return wilson_interval(self.rate or 0.0, self.n)

    @property
    def percent(self) -> int:
        return round(100 * (self.rate or 0))

    @property
    def percent_low(self) -> int:
        return round(100 * self.interval[0])

    @property
    def percent_high(self) -> int:
        return round(100 * self.interval[1])


@dataclass(frozen=True)
class Scores:
    """precision: of the stories said to have it, those that do. recall: of those that do, those said to have it."""

    precision: Share
    recall: Share


@dataclass(frozen=True)
class Quality:
    """A detector against the labels. An answer that could not be read counts as not found, and in `unreadable`."""

    n: int
    structure: Scores
    message: Scores
    unreadable: int


@cache
def labelled_stories() -> tuple[Labelled, ...]:
    """The labelled stories that ship: made by the developers to be hard for rules, so no sample of any policy's."""
    lines = LABELLED.read_text(encoding="utf-8").splitlines()
    return tuple(Labelled(**json.loads(line)) for line in lines if line)


def labels_hash() -> str:
    """SHA-256 of the labelled stories' file: a judge reads them again when they have changed."""
    return hashlib.sha256(LABELLED.read_bytes()).hexdigest()


def labelled_texts() -> list[Told]:
    return [Told(story.text, story.language) for story in labelled_stories()]


def quality(detector: Detector = RULES, *, language: str | None = None) -> Quality:
    """Have `detector` read the labelled stories, and compare."""
    return quality_of(detect(labelled_texts(), detector), language=language)


def quality_of(readings: Sequence[Reading], *, language: str | None = None) -> Quality:
    """The same for readings of labelled_stories(), in their order."""
    pairs = list(zip(labelled_stories(), readings, strict=True))
    pairs = [(story, reading) for story, reading in pairs if language in {None, story.language}]
    return Quality(
        n=len(pairs),
        structure=_scores([(story.structure, reading.structure) for story, reading in pairs]),
        message=_scores([(story.message, reading.message) for story, reading in pairs]),
        unreadable=sum(not reading.is_readable for _, reading in pairs),
    )


def _scores(pairs: Sequence[tuple[bool, bool | None]]) -> Scores:
    hits = sum(label and found is True for label, found in pairs)
    said, there = sum(found is True for _, found in pairs), sum(label for label, _ in pairs)
    return Scores(precision=Share(hits, said), recall=Share(hits, there))
