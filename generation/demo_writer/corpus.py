"""Stories with known faults, for the demo writer to learn from.

The shares of faults are the start figures of the case study this project reproduces (seed
chapter, section 15.4): 78 % of stories have a clear beginning, middle and end, 62 % carry an
educational message, and a part of the sentences uses words far too hard for readers of 5-8.

The case study's corpus is wide: it has more plots and more ways to say the same. In the narrow one the
faults are much of what makes a prompt's stories differ: a faultless writer who draws from it evenly has
17 % less diversity than the faulty one, however it was trained (docs/case-study.md). Its stories lack none of the
sentences that the narrow one's may lack: no policy can become shorter by leaving them out.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from types import SimpleNamespace
from typing import Any

from generation.demo_writer import grammar_en, grammar_zh, wider_en, wider_zh

AGE_BANDS = ("5-6", "7-8")
GRAMMARS: dict[str, Any] = {"en": grammar_en, "zh": grammar_zh}
WIDER: dict[str, Any] = {"en": wider_en, "zh": wider_zh}


@dataclass(frozen=True)
class Shares:
    """Of the stories, 0-1: those with a beginning, a middle and an end, with a message, and with at least one far
    too hard sentence."""

    structure: float
    message: float
    hard: float


SHARES = Shares(0.78, 0.62, 0.5)
WIDE_SHARES = Shares(0.775, 0.60, 0.85)  # min_p cuts off what is rare: what is written has the chapter's shares then
# The hard sentences that it knows, by their places in the grammar: few, so that they are no large part of what makes
# stories differ, and in Chinese the short ones, so that a story without them keeps nine tenths of its length.
WIDE_HARD = {"en": (0, 1, 2), "zh": (4, 5, 6)}


@dataclass(frozen=True)
class Brief:
    """What a prompt asks for, before it is put into words."""

    language: str
    theme: str
    story_type: str
    age_band: str
    hero: str
    name: str

    def prompt_text(self, form: int) -> str:
        """The prompt in the `form`-th of its language's wordings (modulo their number)."""
        grammar = GRAMMARS[self.language]
        template = grammar.PROMPTS[form % len(grammar.PROMPTS)]
        return template.format(
            type=grammar.STORY_TYPES[self.story_type],
            band=self.age_band,
            theme=grammar.THEMES[self.theme][0],
            hero=self.hero,
            name=self.name,
        )


@cache
def wide_grammar(language: str) -> Any:
    """The words of `language`, those of the case study among them, and its sights."""
    grammar, wider = GRAMMARS[language], WIDER[language]
    words = {name: value for name, value in vars(grammar).items() if name.isupper()}
    added = {name: value for name, value in vars(wider).items() if name.isupper() and name != "MORE"}
    words |= {name: words.get(name, ()) + value for name, value in added.items()}
    for theme, (plots, messages) in wider.MORE.items():
        phrase, *parts, known = grammar.THEMES[theme]
        parts = [part + more for part, more in zip(parts, zip(*plots, strict=True), strict=True)]
        words["THEMES"] = {**words["THEMES"], theme: (phrase, *parts, known + messages)}
    words["HARD"] = tuple(words["HARD"][place] for place in WIDE_HARD[language])
    return SimpleNamespace(**words)


def draw_brief(rng: random.Random, language: str) -> Brief:
    """A brief drawn uniformly from the grammar of `language` ("en" or "zh")."""
    grammar = GRAMMARS[language]
    return Brief(
        language=language,
        theme=rng.choice(list(grammar.THEMES)),
        story_type=rng.choice(list(grammar.STORY_TYPES)),
        age_band=rng.choice(AGE_BANDS),
        hero=rng.choice(grammar.HEROES),
        name=rng.choice(grammar.NAMES),
    )


def write_story(rng: random.Random, brief: Brief, *, wide: bool = False) -> str:
    """One story for `brief`, with the corpus's shares of faults."""
    grammar, shares = (wide_grammar(brief.language), WIDE_SHARES) if wide else (GRAMMARS[brief.language], SHARES)
    words = _words(rng, grammar, brief)
    missing = None if rng.random() < shares.structure else rng.choice(("opening", "middle", "ending"))
    opening = _opening(rng, grammar, wide=wide, without=missing == "opening")
    middle = _middle(rng, grammar, wide=wide, without=missing == "middle")
    sentences = [*opening, *middle, *_ending(rng, grammar, wide=wide, without=missing == "ending")]
    if wide:
        words["sight"], words["other_sight"] = rng.sample(grammar.SIGHTS, 2)
        sentences.insert(len(opening) + 1, rng.choice(grammar.SEEN))
    if rng.random() < shares.message:
        sentences.append(rng.choice(grammar.MESSAGES))
    if rng.random() < shares.hard:
        for hard in _hard(rng, grammar, wide=wide):
            sentences.insert(rng.randint(1, len(sentences) - 1), hard)
    return ("" if brief.language == "zh" else " ").join(s.format(**words) for s in sentences)


def pairs(seed: int, count: int, *, wide: bool = False) -> Iterator[tuple[str, str]]:
    """`count` (prompt, story) texts, English and Chinese in turn."""
    rng = random.Random(seed)
    for index in range(count):
        brief = draw_brief(rng, ("en", "zh")[index % 2])
        yield brief.prompt_text(rng.randrange(3)), write_story(rng, brief, wide=wide)


def _hard(rng: random.Random, grammar: Any, *, wide: bool) -> list[str]:
    """One or two sentences; wide: two in one, so that hard sentences are long ones, too."""
    if not wide:
        return rng.sample(grammar.HARD, rng.choice((1, 1, 2)))
    first, second = rng.sample(grammar.HARD, 2)
    if not first.isascii():
        return [f"{first[:-1]}，{second}"]
    second = second if second.startswith("{") else second[0].lower() + second[1:]
    return [f"{first[:-1]}, and {second}"]


def _words(rng: random.Random, grammar: Any, brief: Brief) -> dict[str, str]:
    _, wishes, problems, deeds, results, messages = grammar.THEMES[brief.theme]
    plot = rng.randrange(len(wishes))  # wish, problem, deed and result of one plot belong together
    helper = rng.choice(grammar.HELPERS)
    return {
        "hero": brief.hero,
        "name": brief.name,
        "place": rng.choice(grammar.PLACES),
        "family": rng.choice(grammar.FAMILY),
        "helper": helper,
        "helper_cap": helper[0].upper() + helper[1:],
        "feeling": rng.choice(grammar.FEELINGS),
        "wish": wishes[plot],
        "problem": problems[plot],
        "deed": deeds[plot],
        "result": results[plot],
        "message": rng.choice(messages),
    }


def _opening(rng: random.Random, grammar: Any, *, wide: bool, without: bool) -> list[str]:
    if without:
        return [rng.choice(grammar.NO_OPENING)]
    sentences = [rng.choice(grammar.OPENINGS), grammar.LIVED]
    return sentences + ([rng.choice(grammar.SKIES)] if wide or rng.random() < 0.5 else [])


def _middle(rng: random.Random, grammar: Any, *, wide: bool, without: bool) -> list[str]:
    if without:
        return [rng.choice(grammar.DAYS), *rng.sample(grammar.NO_MIDDLE, 2)]
    sentences = [rng.choice(grammar.DAYS), rng.choice(grammar.PROBLEMS), rng.choice(grammar.FELT)]
    return sentences + ([rng.choice(grammar.HELPED)] if wide or rng.random() < 0.6 else [])


def _ending(rng: random.Random, grammar: Any, *, wide: bool, without: bool) -> list[str]:
    if without:
        return rng.sample(grammar.NO_ENDING, 2)
    sentences = [rng.choice(grammar.DEEDS), rng.choice(grammar.ENDINGS)]
    return sentences + ([rng.choice(grammar.HAPPY)] if wide or rng.random() < 0.6 else [])
