"""What a story is like: plain functions on its text, by stated rules, no model.

They read surface marks ("Once upon a time", "最后"), as a quick reader would. A story can have a
structure that they do not see, and the marks without a structure: they are for comparing policies
with each other, not for the truth about one story.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

BEGINNING = {
    "en": r"\b(once upon a time|long ago|there was once|there once (was|lived)|there lived|once there)\b",
    "zh": r"从前|很久以前|以前有|曾经有",
}
CONFLICT = {
    "en": r"\b(but|suddenly|problem|got lost|was lost|could not|couldn't|trouble|however)\b",
    "zh": r"可是|但是|忽然|突然|问题|不料|没想到|不小心",
}
RESOLUTION = {
    "en": r"\b(in the end|at last|finally|happily ever after)\b",
    "zh": r"最后|终于|后来|从此以后",
}
MESSAGE = {
    "en": r"\b(learned that|learnt that|knew that|understood that|lesson|remember that)\b",
    "zh": r"学会了|明白了|懂得了|(?<!不)知道了?(?!那|什么|谁|他|她|它)|道理",
}
# A word of four syllables or more, or one of these idioms' characters, is hard for readers of 5-8.
HARD_SYLLABLES = 4
HARD_WORD_EXTRA = {"phenomenon", "profound", "exhibited", "perplexed", "predicament", "ambiguous", "preoccupied"}
HARD_CHARACTERS = set("蕴磋谧惘怅萦畴慎衡迫哲邃氛综杂权审避免反思象性该质形势")


@dataclass(frozen=True)
class StoryMeasures:
    """What the rules read in one story. Shares are 0-1."""

    has_beginning: bool
    has_conflict: bool
    has_resolution: bool
    has_message: bool
    hard_words: float
    repetition: float
    broken: float
    words: int

    @property
    def has_structure(self) -> bool:
        """A clear beginning, middle and end."""
        return self.has_beginning and self.has_conflict and self.has_resolution


def measure_story(text: str, language: str) -> StoryMeasures:
    """Read one story in `language` ("en" or "zh")."""
    lower = text.lower()
    third = max(len(lower) // 3, 1)
    return StoryMeasures(
        has_beginning=bool(re.search(BEGINNING[language], lower[: 2 * third])),
        has_conflict=bool(re.search(CONFLICT[language], lower)),
        has_resolution=bool(re.search(RESOLUTION[language], lower[third:])),
        has_message=bool(re.search(MESSAGE[language], lower[third:])),
        hard_words=hard_word_share(text, language),
        repetition=repetition(text, language),
        broken=broken_share(text, language),
        words=len(words(text, language)),
    )


def words(text: str, language: str) -> list[str]:
    """The words of an English text in small letters; for Chinese, its characters."""
    if language == "zh":
        return re.findall(r"[\u4e00-\u9fff]", text)
    return re.findall(r"[a-z]+(?:'[a-z]+)?", text.lower())


def sentences(text: str) -> list[str]:
    """Split at final punctuation, which stays with its sentence."""
    return [s.strip() for s in re.findall(r"[^.!?。！？]+[.!?。！？]*[\"”’」]*", text) if s.strip()]


def syllables(word: str) -> int:
    """Vowel groups of an English word, a final silent e not counted; at least 1."""
    trimmed = re.sub(r"(?<=[^aeiouyl])e$|(?<=[aeiouy][^aeiouyl])es?$|ed$(?<![td]ed)", "", word.lower())
    return max(len(re.findall(r"[aeiouy]+", trimmed)), 1)


def hard_word_share(text: str, language: str) -> float:
    """Share of words too hard for readers of 5-8 (for Chinese: of characters rare in children's books)."""
    found = words(text, language)
    if not found:
        return 0.0
    if language == "zh":
        return sum(c in HARD_CHARACTERS for c in found) / len(found)
    hard = [w for w in found if w in HARD_WORD_EXTRA or syllables(w) >= HARD_SYLLABLES]
    return len(hard) / len(found)


def repetition(text: str, language: str) -> float:
    """Share of 4-word runs that stood in the story before (1 - distinct-4; Li et al., 2016, for n = 1, 2)."""
    found = words(text, language)
    runs = [tuple(found[i : i + 4]) for i in range(len(found) - 3)]
    return 1 - len(set(runs)) / len(runs) if runs else 0.0


def runs_of(text: str, language: str) -> frozenset[tuple[str, ...]]:
    """The 4-word runs of a text (4 characters in Chinese); a shorter text is one run."""
    found = words(text, language)
    return frozenset(tuple(found[i : i + 4]) for i in range(max(len(found) - 3, 1)))


def overlap(one: frozenset[tuple[str, ...]], other: frozenset[tuple[str, ...]]) -> float:
    """The Jaccard index of two sets of runs: shared over all (Broder, 1997, section 2: resemblance of shingles)."""
    return len(one & other) / len(one | other)


def foreign_share(text: str, language: str) -> float:
    """Share of a text's letters that are not of its language's script: Latin, or Chinese characters.

    Languages of one script are not told apart.
    """
    letters = [character for character in text if character.isalpha()]
    own = r"[\u3400-\u4dbf\u4e00-\u9fff]" if language == "zh" else r"[A-Za-z\u00c0-\u024f]"
    return sum(not re.match(own, letter) for letter in letters) / len(letters) if letters else 0.0


def ends_open(text: str) -> bool:
    """Whether a text stops without a final mark (closing quotes may follow it): cut off, or left so."""
    return not re.search(r"[.!?…。！？][\"'”’」』)）]*\s*$", text)


def broken_share(text: str, language: str) -> float:
    """Share of sentences that a reader would call broken.

    Broken is: a word twice in a row, no final punctuation, a sentence said before, fewer than two
    words or more than forty, or a character that is no letter of the language (a torn byte).
    """
    found = sentences(text)
    if not found:
        return 1.0
    return sum(_is_broken(s, found[:i], language) for i, s in enumerate(found)) / len(found)


def _is_broken(sentence: str, before: Sequence[str], language: str) -> bool:
    found = words(sentence, language)
    doubled = language == "en" and any(a == b for a, b in zip(found, found[1:], strict=False))
    tripled = any(a == b == c for a, b, c in zip(found, found[1:], found[2:], strict=False))
    open_end = not re.search(r"[.!?。！？][\"”’」]*$", sentence)
    return doubled or tripled or open_end or not 2 <= len(found) <= 40 or sentence in before or "\ufffd" in sentence


def distinct_share(texts: Sequence[str], language: str) -> float:
    """Diversity among the stories of one prompt: mean share of a story's 4-word runs that no sister has."""
    runs = []
    for text in texts:
        found = words(text, language)
        runs.append({tuple(found[i : i + 4]) for i in range(len(found) - 3)})
    shares = []
    for index, own in enumerate(runs):
        others = set().union(*runs[:index], *runs[index + 1 :])
        if own:
            shares.append(len(own - others) / len(own))
    return sum(shares) / len(shares) if shares else 0.0
