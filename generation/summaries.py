"""What a policy's stories are like on the whole, and by how much another policy's differ."""

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from generation.figures import figures_of
from generation.models import Policy, PolicyFigures

RESAMPLES = 4_000
SHARE, NUMBER = "share", "number"
STORIES, PROMPTS = "stories", "prompts"


@dataclass(frozen=True)
class Measure:
    """One automatic measure: a share (0-1) or a number, of one language or (None) of both, a mean of stories or of
    prompts."""

    name: str
    label: str | Promise
    kind: str = SHARE
    language: str | None = None
    of: str = STORIES


MEASURES = {
    measure.name: measure
    for measure in (
        Measure("structure", _("clear structure")),
        Measure("message", _("educational message")),
        Measure("grade", _("school grade (Flesch-Kincaid)"), NUMBER, "en"),
        Measure("words_per_sentence", _("words a sentence"), NUMBER, "en"),
        Measure("difficult_words", _("words outside the Dale-Chall list"), SHARE, "en"),
        Measure("characters_per_sentence", _("characters a sentence"), NUMBER, "zh"),
        Measure("uncommon_characters", _("characters outside the 2,500 common ones"), SHARE, "zh"),
        Measure("uncommon_words", _("words outside the 20,000 common ones"), SHARE, "zh"),
        Measure("hard_words", _("hard words")),
        Measure("mean_words", _("length in words (characters in Chinese)"), NUMBER),
        Measure("repetition", _("repeated runs of four words")),
        Measure("distinct_1", _("different words (distinct-1)")),
        Measure("distinct_2", _("different runs of two words (distinct-2)")),
        Measure("distinct_4", _("different runs of four words (distinct-4)")),
        Measure("repeated_words", _("words said twice in a row")),
        Measure("repeated_sentences", _("sentences said before")),
        Measure("broken", _("broken sentences")),
        Measure("diversity", _("diversity among a prompt's stories"), of=PROMPTS),
        Measure("self_bleu", _("likeness of a prompt's stories (self-BLEU)"), of=PROMPTS),
        Measure("foreign", _("letters of another script")),
        Measure("cut_off", _("stories without an end")),
    )
}


@dataclass(frozen=True)
class PolicySummary:
    """Means over a policy's stories; shares are 0-1, and None where nothing of the kind was read.

    stories: finished ones that were read, which every mean but cut_off is of. written: those and the unfinished
    ones, which cut_off is of. drawn_from: all that the policy wrote; more than `written` if it wrote more than
    figures.MOST_STORIES. n: what each mean is of, in stories, or in prompts for diversity and self_bleu.
    """

    stories: int
    written: int
    drawn_from: int
    structure: float
    message: float
    hard_words: float
    mean_words: float
    repetition: float
    broken: float
    diversity: float
    repeated_words: float
    repeated_sentences: float
    foreign: float
    cut_off: float
    distinct_1: float | None = None
    distinct_2: float | None = None
    distinct_4: float | None = None
    self_bleu: float | None = None
    grade: float | None = None
    words_per_sentence: float | None = None
    difficult_words: float | None = None
    characters_per_sentence: float | None = None
    uncommon_characters: float | None = None
    uncommon_words: float | None = None
    n: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Change:
    """after - before in the measure's unit, with a 95 % interval; the means are over the prompts of both."""

    mean: float
    low: float
    high: float
    before: float
    after: float
    prompts: int

    @property
    def clear(self) -> bool:
        """Whether the interval leaves out no change at all."""
        return self.low > 0 or self.high < 0

    @property
    def relative(self) -> float | None:
        """The change as a share of what it was before; None if that is nothing."""
        return self.mean / self.before if self.before else None

    @property
    def relative_low(self) -> float | None:
        return self.low / self.before if self.before else None

    @property
    def relative_high(self) -> float | None:
        return self.high / self.before if self.before else None


def summarise(policy: Policy, *, language: str | None = None) -> PolicySummary | None:
    """The summary of the finished stories of `policy` (in `language`); None if it has written none.

    At most figures.MOST_STORIES stories are read, once: the means are kept until the stories change.
    """
    found = figures_of(policy).summaries[language or ""]
    return PolicySummary(**found) if found["stories"] else None


def change(
    before: Policy, after: Policy, measure: str, *, language: str = "", prompts: frozenset[int] | None = None
) -> Change | None:
    """By how much `measure` (a name in MEASURES, else KeyError) differs between two policies' stories.

    The mean over the prompts that both wrote for (in `language`, of those whose ids are in `prompts`), each
    policy's stories of a prompt averaged first;
    those prompts are resampled for the interval (percentile bootstrap, Efron and Tibshirani, 1993,
    section 13.3; seeded). None if there are none.
    """
    if measure not in MEASURES:
        raise KeyError(measure)
    kept = [(policy.pk, figures_of(policy).computed_at) for policy in (before, after)]
    return _change(*kept, measure, language, prompts)


@lru_cache(maxsize=2_000)
def _change(
    before: tuple[int, Any], after: tuple[int, Any], measure: str, language: str, prompts: frozenset[int] | None
) -> Change | None:
    ours, theirs = _by_prompt(*before, measure, language), _by_prompt(*after, measure, language)
    both = ours.keys() & theirs.keys()
    shared = sorted(both if prompts is None else both & prompts)
    if not shared:
        return None
    old, new = (np.array([found[prompt] for prompt in shared]) for found in (ours, theirs))
    rng = np.random.default_rng(0)
    means = rng.choice(new - old, size=(RESAMPLES, len(shared))).mean(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return Change(float((new - old).mean()), float(low), float(high), float(old.mean()), float(new.mean()), len(shared))


def _by_prompt(policy: int, computed_at: Any, measure: str, language: str) -> dict[int, float]:
    """{prompt id: mean of the measure over the policy's stories for it}."""
    return {
        int(prompt): means[measure]
        for prompt, means in _prompts(policy, computed_at).items()
        if measure in means and language in {"", means["language"]}
    }


@lru_cache(maxsize=16)
def _prompts(policy: int, computed_at: Any) -> dict[str, Any]:
    return PolicyFigures.objects.values_list("by_prompt", flat=True).get(policy=policy)
