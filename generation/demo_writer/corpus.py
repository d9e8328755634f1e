"""Stories with known faults, for the demo writer to learn from.

The shares of faults are the start figures of the case study this project reproduces (seed
chapter, section 15.4): 78 % of stories have a clear beginning, middle and end, 62 % carry an
educational message, and a part of the sentences uses words far too hard for readers of 5-8.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType

from generation.demo_writer import grammar_en, grammar_zh

STRUCTURE_SHARE = 0.78
MESSAGE_SHARE = 0.62
HARD_STORY_SHARE = 0.5  # stories with at least one far too hard sentence
AGE_BANDS = ("5-6", "7-8")
GRAMMARS: dict[str, ModuleType] = {"en": grammar_en, "zh": grammar_zh}


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


def write_story(rng: random.Random, brief: Brief) -> str:
    """One story for `brief`, with the corpus's shares of faults."""
    grammar = GRAMMARS[brief.language]
    words = _words(rng, grammar, brief)
    missing = None if rng.random() < STRUCTURE_SHARE else rng.choice(("opening", "middle", "ending"))
    sentences = [
        *_opening(rng, grammar, without=missing == "opening"),
        *_middle(rng, grammar, without=missing == "middle"),
        *_ending(rng, grammar, without=missing == "ending"),
    ]
    if rng.random() < MESSAGE_SHARE:
        sentences.append(rng.choice(grammar.MESSAGES))
    if rng.random() < HARD_STORY_SHARE:
        for hard in rng.sample(grammar.HARD, rng.choice((1, 1, 2))):
            sentences.insert(rng.randint(1, len(sentences) - 1), hard)
    return ("" if brief.language == "zh" else " ").join(s.format(**words) for s in sentences)


def pairs(seed: int, count: int) -> Iterator[tuple[str, str]]:
    """`count` (prompt, story) texts, English and Chinese in turn."""
    rng = random.Random(seed)
    for index in range(count):
        brief = draw_brief(rng, ("en", "zh")[index % 2])
        yield brief.prompt_text(rng.randrange(3)), write_story(rng, brief)


def _words(rng: random.Random, grammar: ModuleType, brief: Brief) -> dict[str, str]:
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


def _opening(rng: random.Random, grammar: ModuleType, *, without: bool) -> list[str]:
    if without:
        return [rng.choice(grammar.NO_OPENING)]
    sentences = [rng.choice(grammar.OPENINGS), grammar.LIVED]
    return sentences + ([rng.choice(grammar.SKIES)] if rng.random() < 0.5 else [])


def _middle(rng: random.Random, grammar: ModuleType, *, without: bool) -> list[str]:
    if without:
        return [rng.choice(grammar.DAYS), *rng.sample(grammar.NO_MIDDLE, 2)]
    sentences = [rng.choice(grammar.DAYS), rng.choice(grammar.PROBLEMS), rng.choice(grammar.FELT)]
    return sentences + ([rng.choice(grammar.HELPED)] if rng.random() < 0.6 else [])


def _ending(rng: random.Random, grammar: ModuleType, *, without: bool) -> list[str]:
    if without:
        return rng.sample(grammar.NO_ENDING, 2)
    sentences = [rng.choice(grammar.DEEDS), rng.choice(grammar.ENDINGS)]
    return sentences + ([rng.choice(grammar.HAPPY)] if rng.random() < 0.6 else [])
