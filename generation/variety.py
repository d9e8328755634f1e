"""How much a story repeats itself, and how much the stories of one prompt are alike. Plain functions on texts."""

import math
import re
from collections import Counter
from collections.abc import Sequence

from generation.measures import sentences, words

ORDERS = (1, 2, 3, 4)  # the runs that BLEU counts
EPSILON = 0.1  # instead of no run in common


def distinct(text: str, language: str, size: int) -> float | None:
    """distinct-n: different runs of `size` words over all of them (Li et al., 2016, "A diversity-promoting objective",
    section 4.3; there for n = 1 and 2). Characters in Chinese. None for a text shorter than one run.

    It falls with length: compare stories that are about as long.
    """
    found = _runs(words(text, language), size)
    return len(found) / found.total() if found else None


def repeated_word_share(text: str, language: str) -> float:
    """Share of words that stand where the same word stood just before, with only a space between ("Dot sat sat").

    In Chinese, of characters with the same one twice before them: doubling (慢慢, 妈妈) is grammar. Our rule.
    """
    found = words(text, language)
    if not found:
        return 0.0
    if language == "zh":
        repeats = sum(len(run) - 2 for run, _ in re.findall(r"(([\u4e00-\u9fff])\2{2,})", text))
    else:
        repeats = sum(len(run.split()) - 1 for run, _ in re.findall(r"\b(([a-z']+)(?:\s+\2)+)\b", text.lower()))
    return repeats / len(found)


def repeated_sentence_share(text: str, language: str) -> float:
    """Share of sentences whose words were all said before in the same order, in one sentence. Our rule."""
    found = [tuple(words(part, language)) for part in sentences(text)]
    said = [part for part in found if part]
    return 1 - len(set(said)) / len(said) if said else 0.0


def self_bleu(texts: Sequence[str], language: str) -> float | None:
    """Mean BLEU-4 of each story against the other stories of its prompt: 1 says that they are all the same
    (Zhu et al., 2018, "Texygen", section 3.2.2). None for fewer than two stories.
    """
    stories = [words(text, language) for text in texts]
    stories = [story for story in stories if story]
    if len(stories) < 2:
        return None
    counted = [[_runs(story, size) for size in ORDERS] for story in stories]
    return sum(_bleu(index, stories, counted) for index in range(len(stories))) / len(stories)


def _bleu(index: int, stories: Sequence[list[str]], counted: Sequence[list[Counter[tuple[str, ...]]]]) -> float:
    """BLEU of one story against the rest (Papineni et al., 2002, section 2.3): the geometric mean of the clipped
    precisions, times the brevity penalty for the rest's nearest length.

    Smoothed as the first method of Chen and Cherry (2014): a short story shares few runs of four.
    """
    rest = [number for number in range(len(stories)) if number != index]
    logs = 0.0
    for order, own in enumerate(counted[index]):
        hits = sum(min(count, max(counted[other][order][run] for other in rest)) for run, count in own.items())
        if not hits and not order:
            return 0.0
        logs += math.log((hits or EPSILON) / max(own.total(), 1))
    length = len(stories[index])
    nearest = min((len(stories[other]) for other in rest), key=lambda other: (abs(other - length), other))
    return math.exp(min(1 - nearest / length, 0.0) + logs / len(ORDERS))


def _runs(found: Sequence[str], size: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(found[start : start + size]) for start in range(len(found) - size + 1))
