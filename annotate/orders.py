"""The orders that experts gave, side by side: for admins who look at disagreements and at gold.

Nobody sees another's judgement before giving theirs: an admin who judges too is shown only what
they have judged themselves.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from annotate.models import Assignment, Comparison, Expert, Judgement, Kind
from generation.models import Story

LETTERS = "ABCDE"


@dataclass(frozen=True)
class Order:
    """One ordinary judgement in letters: `A > B = C`. Empty if it ranks nothing."""

    judgement: Judgement
    text: str

    @property
    def expert(self) -> Expert:
        return self.judgement.assignment.expert


@dataclass(frozen=True)
class SideBySide:
    """A comparison's stories that are left, by letter, and the orders that were given of them."""

    comparison: Comparison
    stories: list[tuple[str, Story]]
    orders: list[Order]


def side_by_side(comparisons: Sequence[int]) -> list[SideBySide]:
    """Comparisons by id, in the order asked for."""
    found = Comparison.objects.select_related("prompt").prefetch_related("stories").in_bulk(comparisons)
    judgements = defaultdict(list)
    rows = Judgement.objects.filter(assignment__comparison__in=comparisons, assignment__kind=Kind.ORDINARY)
    for judgement in rows.select_related("assignment__expert__user").prefetch_related("ranks"):
        judgements[judgement.assignment.comparison_id].append(judgement)
    return [_side_by_side(found[pk], judgements[pk]) for pk in comparisons if pk in found]


def letters(comparison: Comparison) -> list[tuple[str, Story]]:
    """The stories with a letter each, the same on every page; withdrawn ones keep theirs and are left out."""
    stories = sorted(comparison.stories.all(), key=lambda story: story.pk)
    return [(letter, story) for letter, story in zip(LETTERS, stories, strict=False) if story.withdrawn_at is None]


def _side_by_side(comparison: Comparison, judgements: Iterable[Judgement]) -> SideBySide:
    stories = letters(comparison)
    letter_of = {story.pk: letter for letter, story in stories}
    return SideBySide(comparison, stories, [Order(j, _in_letters(j, letter_of)) for j in judgements])


def _in_letters(judgement: Judgement, letter_of: dict[int, str]) -> str:
    ranks = sorted((r.rank, letter_of[r.story_id]) for r in judgement.ranks.all() if r.story_id in letter_of)
    return " > ".join(" = ".join(letter for _, letter in tied) for _, tied in groupby(ranks, key=lambda r: r[0]))


def still_to_judge(expert: Expert | None, comparisons: Iterable[int]) -> set[int]:
    """Those of `comparisons` that `expert` has not judged yet; none if it is nobody who judges."""
    if expert is None:
        return set()
    judged = Assignment.objects.filter(expert=expert, judgement__isnull=False, comparison__in=list(comparisons))
    return set(comparisons) - set(judged.values_list("comparison_id", flat=True))
