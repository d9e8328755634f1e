"""How hard a story is to read: plain functions on its text, each with its source. No model and no network.

The libraries and lists are loaded at first use: the web process does not pay for them when it starts.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

from generation.measures import hard_word_share, sentences, syllables, words

DATA = Path(__file__).parent / "data"
HAN = re.compile(r"[\u4e00-\u9fff]+")
# what Dale and Chall let a word of the list end with, and what the word of the list then ends with itself
ENDINGS = (
    *(("ies", "y"), ("ied", "y"), ("ier", "y"), ("iest", "y"), ("ily", "y"), ("ing", "e")),
    *((ending, "") for ending in ("n't", "'s", "'", "s", "es", "d", "ed", "ing", "r", "er", "st", "est", "ly")),
)


@dataclass(frozen=True)
class Readability:
    """How hard a text is to read. `words` are characters in Chinese."""

    words: int
    sentences: int
    words_per_sentence: float
    hard_words: float
    grade: float | None


def readability(text: str, language: str) -> Readability:
    """Surface figures of one text. No formula for Chinese is agreed on: it has no grade."""
    found, parts = words(text, language), sentences(text)
    grade = school_grade(text) if language == "en" else None
    return Readability(len(found), len(parts), sentence_length(text, language), hard_word_share(text, language), grade)


def sentence_length(text: str, language: str) -> float:
    """Mean words a sentence; in Chinese, characters a sentence. 0 for a text without a word.

    One of the two quantities of Kincaid et al. (1975), and by Chall and Dale (1995) the one of syntax.
    """
    parts = [part for part in sentences(text) if words(part, language)]
    return len(words(text, language)) / len(parts) if parts else 0.0


def school_grade(text: str) -> float | None:
    """The school grade of Kincaid et al. (1975), "Derivation of new readability formulas", Flesch-Kincaid, English:
    0.39 words/sentence + 11.8 syllables/word - 15.59. None for a text without a word.

    Syllables are those of syllapy's dictionary (6,000 words) and, for other words, measures.syllables:
    together right for 98 % of running words, by CMUdict; syllapy's own rule counts smiled as two.
    (textstat fetches its dictionary from the network, and leaves sentences of one or two words out.)
    """
    found = words(text, "en")
    if not found:
        return None
    per_word = sum(map(_syllables, found)) / len(found)
    return 0.39 * sentence_length(text, "en") + 11.8 * per_word - 15.59


def difficult_word_share(text: str) -> float | None:
    """Share of an English text's words outside Dale and Chall's list of some 2,900 words that children of nine know.

    Dale and Chall (1948), "A formula for predicting readability: instructions": regular plurals, verb
    forms, comparatives and adverbs of a word of the list count as it does, and so do names: here, what
    stands with a capital inside a sentence. None for a text without a word.
    """
    found = words(text, "en")
    if not found:
        return None
    names = {name.lower() for name in re.findall(r"(?<=[a-z,;] )[A-Z][a-z]+", text)}
    return sum(word.removesuffix("'s") not in names and not _is_familiar(word) for word in found) / len(found)


def uncommon_character_share(text: str) -> float | None:
    """Share of a text's Chinese characters outside the 2,500 of 现代汉语常用字表 (1988), which primary school teaches.

    None for a text without a Chinese character.
    """
    found = words(text, "zh")
    return sum(character not in _common("characters") for character in found) / len(found) if found else None


def uncommon_word_share(text: str) -> float | None:
    """Share of a text's Chinese words outside the 20,000 most frequent of jieba's dictionary.

    The words are rjieba's, which splits by that dictionary alone (no guessing of new words). The
    dictionary counts newspapers and novels: names and nursery words (小兔子) are outside, for every policy
    alike. None for a text without a Chinese word.
    """
    found = chinese_words(text)
    return sum(word not in _common("words") for word in found) / len(found) if found else None


def chinese_words(text: str) -> list[str]:
    """The words of a Chinese text, without marks, numbers and Latin letters."""
    import rjieba

    return [word for word in rjieba.cut(text, False) if HAN.fullmatch(word)]


@lru_cache(maxsize=20_000)
def _syllables(word: str) -> int:
    from syllapy import WORD_DICT

    return WORD_DICT.get(word) or syllables(word)


@lru_cache(maxsize=20_000)
def _is_familiar(word: str) -> bool:
    familiar = _familiar_words()
    return word in familiar or any(stem in familiar for stem in _stems(word))


def _stems(word: str) -> Iterator[str]:
    for ending, instead in ENDINGS:
        stem = word.removesuffix(ending)
        if stem != word and len(stem) > 1:
            yield stem + instead
            if stem[-1] == stem[-2]:
                yield stem[:-1]  # stopped, bigger


@cache
def _familiar_words() -> frozenset[str]:
    return frozenset(_lines("familiar_words_en.txt").split())


@cache
def _common(kind: str) -> frozenset[str]:
    """`kind`: characters or words."""
    found = _lines(f"common_{kind}_zh.txt")
    return frozenset(found.split() if kind == "words" else "".join(found.split()))


def _lines(name: str) -> str:
    """The file of that name in generation/data without its lines of comment."""
    lines = (DATA / name).read_text(encoding="utf-8").splitlines()
    return "\n".join(line for line in lines if not line.startswith("#"))
