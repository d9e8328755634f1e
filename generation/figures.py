"""Reading a policy's stories with the automatic measures, once: kept in a row, renewed when the stories change."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import timedelta
from hashlib import md5
from statistics import fmean
from typing import Any, NamedTuple

from django.db.models import Count, Max, Q
from django.utils import timezone

from generation.measures import distinct_share, ends_open, foreign_share, measure_story
from generation.models import FinishReason, Language, Policy, PolicyFigures
from generation.readability import (
    difficult_word_share,
    school_grade,
    sentence_length,
    uncommon_character_share,
    uncommon_word_share,
)
from generation.variety import distinct, repeated_sentence_share, repeated_word_share, self_bleu

VERSION = 1  # of the measures: a higher one has all figures computed again
MOST_STORIES = 2_000  # read of one policy
FRESH = timedelta(minutes=1)  # figures this new are good enough while a run is writing

Means = dict[str, float | None]


class Told(NamedTuple):
    """A story as it is measured."""

    prompt: int
    language: str
    text: str
    finished: bool


def figures_of(policy: Policy) -> PolicyFigures:
    """The figures of `policy`, without by_prompt if they are from the table."""
    now = policy.stories.aggregate(
        written=Count("pk"),
        finished=Count("pk", filter=Q(finish_reason=FinishReason.STOP)),
        withdrawn=Count("withdrawn_at"),
        newest=Max("pk"),
    )
    now = {"version": VERSION, **now, "newest": now["newest"] or 0}
    kept = PolicyFigures.objects.defer("by_prompt").filter(policy=policy).first()
    if kept and all(getattr(kept, name) == value for name, value in now.items()):
        return kept
    if kept and kept.version == VERSION and timezone.now() - kept.computed_at < FRESH and _is_writing(policy):
        return kept
    computed = {**now, **_compute(policy), "computed_at": timezone.now()}
    return PolicyFigures.objects.update_or_create(policy=policy, defaults=computed)[0]


def _is_writing(policy: Policy) -> bool:
    return policy.runs.at_work().exists()


def _compute(policy: Policy) -> dict[str, Any]:
    told = drawn_stories(policy)
    by_prompt: dict[int, list[Told]] = defaultdict(list)
    for story in told:
        by_prompt[story.prompt].append(story)
    totals = dict(policy.stories.values_list("prompt__language").annotate(Count("pk")))
    read = {prompt: _read_prompt(stories) for prompt, stories in by_prompt.items()}
    return {
        "by_prompt": {str(p): {"language": by_prompt[p][0].language, **means} for p, (means, _) in read.items()},
        "summaries": {
            language: _summary(
                [read[p] for p, stories in by_prompt.items() if language in {"", stories[0].language}],
                totals.get(language, 0) if language else sum(totals.values()),
            )
            for language in ("", *Language.values)
        },
    }


def drawn_stories(policy: Policy) -> list[Told]:
    """The stories that are read: whole prompts in the order of a hash, up to MOST_STORIES stories.

    The order is the same for every policy, so that two of them are read for the same prompts.
    """
    counts = dict(policy.stories.values_list("prompt").annotate(Count("pk")).order_by())
    drawn: list[int] = []
    room = MOST_STORIES
    for prompt in sorted(counts, key=lambda prompt: md5(str(prompt).encode(), usedforsecurity=False).digest()):
        room -= counts[prompt]
        if room < 0 and drawn:
            break
        drawn.append(prompt)
    found = policy.stories.filter(prompt__in=drawn).values_list("prompt", "prompt__language", "text", "finish_reason")
    return [Told(prompt, language, text, reason == FinishReason.STOP) for prompt, language, text, reason in found]


def read_story(text: str, language: str) -> Means:
    """Every measure of one finished story, by its name in summaries.MEASURES; None where it has no value."""
    found = measure_story(text, language)
    read: Means = {
        "structure": float(found.has_structure),
        "message": float(found.has_message),
        "hard_words": found.hard_words,
        "mean_words": float(found.words),
        "repetition": found.repetition,
        "broken": found.broken,
        **{f"distinct_{size}": distinct(text, language, size) for size in (1, 2, 4)},
        "repeated_words": repeated_word_share(text, language),
        "repeated_sentences": repeated_sentence_share(text, language),
        "foreign": foreign_share(text, language),
    }
    if language == Language.ENGLISH:
        read |= {
            "grade": school_grade(text),
            "words_per_sentence": sentence_length(text, language),
            "difficult_words": difficult_word_share(text),
        }
    else:
        read |= {
            "characters_per_sentence": sentence_length(text, language),
            "uncommon_characters": uncommon_character_share(text),
            "uncommon_words": uncommon_word_share(text),
        }
    return read


class _Stories(NamedTuple):
    """What was read of one prompt's stories: each measure's values, one a story."""

    written: int
    finished: int
    values: dict[str, list[float]]


def _read_prompt(stories: list[Told]) -> tuple[Means, _Stories]:
    """(means of one prompt's stories, what they are the means of)."""
    finished = [story for story in stories if story.finished]
    values = _collected(read_story(story.text, story.language) for story in finished)
    values["cut_off"] = [float(not story.finished or ends_open(story.text)) for story in stories]
    texts, language = [story.text for story in finished], stories[0].language
    measures: dict[str, Callable[..., float | None]] = {"diversity": distinct_share, "self_bleu": self_bleu}
    among = {name: measure(texts, language) for name, measure in measures.items()} if finished else {}
    values |= {name: [value] for name, value in among.items() if value is not None}
    return {name: fmean(found) for name, found in values.items()}, _Stories(len(stories), len(finished), values)


def _collected(read: Iterable[Means]) -> dict[str, list[float]]:
    values: dict[str, list[float]] = defaultdict(list)
    for means in read:
        for name, value in means.items():
            if value is not None:
                values[name].append(value)
    return values


def _summary(read: list[tuple[Means, _Stories]], drawn_from: int) -> dict[str, Any]:
    values: dict[str, list[float]] = defaultdict(list)
    for _, prompt in read:
        for name, found in prompt.values.items():
            values[name] += found
    return {
        "stories": sum(prompt.finished for _, prompt in read),
        "written": sum(prompt.written for _, prompt in read),
        "drawn_from": drawn_from,
        "n": {name: len(found) for name, found in values.items()},
        **{name: fmean(found) for name, found in values.items()},
    }
