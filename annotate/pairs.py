"""Preference pairs from judgements, and their files.

Judgements of several experts on the same two stories become one pair: the majority's. Equal
votes make no pair, so that an export never holds a pair and its opposite.
"""

import hashlib
import json
import os
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import BinaryIO, NamedTuple, TypeVar

from django.db.models import F, Q, QuerySet
from django.db.models.functions import MD5

from annotate.majorities import OVERALL, count_majorities, majorities
from annotate.models import Judgement, JudgementQuerySet, Kind, Purpose, Rank
from generation.models import Policy, Prompt, Split, Story
from generation.sql import among

# what an export says of a pair, and of its prompt
VOTES = ("weight", "criterion", "judgements_for", "judgements_against", "simulated_judgements")
ABOUT = ("language", "theme", "story_type", "age_band", "split")

TEXTS = ("text", "token_ids", "rendered_prompt", "finish_reason")  # of a story, most of what it weighs
AT_ONCE = 500  # pairs, or prompts with theirs, whose texts are in memory
One = TypeVar("One")


class NoPairs(ValueError):
    """There is nothing to export; the message says what is missing."""


@dataclass(frozen=True)
class Edited:
    """A story as an expert would have written it. No policy sampled it: it has text, and no tokens."""

    story: Story
    text: str
    expert: int

    finish_reason = "stop"

    @property
    def pk(self) -> int:
        """The edited story's."""
        return self.story.pk

    @property
    def token_ids(self) -> list[int]:
        """Empty, not None: a file's columns keep one type, whatever line comes first."""
        return []


@dataclass(frozen=True, slots=True)
class PreferencePair:
    """`chosen` is preferred to `rejected` by `judgements_for` experts against `judgements_against`.

    weight is factor * (judgements_for - judgements_against) / (judgements_for + judgements_against), in (0, 1].
    factor: what a round makes of it, if older pairs are to count less there.
    """

    chosen: Story | Edited
    rejected: Story
    judgements_for: int
    judgements_against: int
    simulated_judgements: int
    criterion: str = OVERALL
    factor: float = 1.0

    @property
    def weight(self) -> float:
        lead = self.judgements_for - self.judgements_against
        return self.factor * lead / (self.judgements_for + self.judgements_against)


@dataclass(frozen=True)
class Export:
    """A frozen file of pairs."""

    path: Path
    count: int
    sha256: str


def preference_judgements(*, policy: Policy | None = None, include_simulated: bool = True) -> JudgementQuerySet:
    """Judgements that pairs are made of: on training prompts, of one policy's stories or of all."""
    found = Judgement.objects.counted().filter(
        assignment__comparison__purpose=Purpose.PREFERENCE,
        assignment__comparison__prompt__split=Split.TRAIN,
    )
    if policy:
        found = found.filter(assignment__comparison__policy=policy)
    return found if include_simulated else found.by_people()


def preference_pairs(judgements: JudgementQuerySet, *, by_criterion: bool = False) -> list[PreferencePair]:
    """All strict pairs of the judgements' rankings, one for each two stories, in a fixed order.

    Where an adjudicator has ranked a comparison, that answer stands for all the others. An improved
    story is preferred to the one that it was made from, and to those ranked below it. With `by_criterion`
    the winners by criterion give pairs of their own. Withdrawn stories are in no pair.

    The stories come without their texts, which are most of what a campaign weighs: `with_texts` reads them.
    """
    judgements = deciding(judgements)
    found = list(majorities(judgements, by_criterion=by_criterion))
    edits = _edits(judgements)
    stories = _without_texts({pk for one in found for pk in one[1:3]} | {pk for one in edits for pk in one[:2]})
    pairs = [
        PreferencePair(stories[one.chosen], stories[one.rejected], *one[3:], criterion=one.criterion) for one in found
    ]
    for one in edits:
        edited = Edited(stories[one.chosen], one.text, one.expert)
        pairs.append(PreferencePair(edited, stories[one.rejected], 1, 0, int(one.simulated)))
    return sorted(pairs, key=_fixed_order)


def count_pairs(judgements: JudgementQuerySet, *, by_criterion: bool = False) -> int:
    """How many `preference_pairs` would give."""
    judgements = deciding(judgements)
    return count_majorities(judgements, by_criterion=by_criterion) + _edited_from(judgements).count()


def deciding(judgements: JudgementQuerySet) -> JudgementQuerySet:
    """The adjudicators' judgements, and those of comparisons that have none."""
    rulings = judgements.filter(assignment__kind=Kind.ADJUDICATION, ranks__isnull=False)
    ruled = rulings.order_by().values("assignment__comparison")  # asked once; with Exists for each judgement
    return judgements.filter(Q(assignment__kind=Kind.ADJUDICATION) | ~Q(assignment__comparison__in=ruled))


class _Edit(NamedTuple):
    """An expert's wording of the story `chosen`, preferred to the story `rejected` (ids)."""

    chosen: int
    rejected: int
    text: str
    expert: int
    simulated: bool


def _edits(judgements: JudgementQuerySet) -> list[_Edit]:
    edit, expert = "judgement__improvement__", "judgement__assignment__expert"
    told = (f"{edit}story", "story", f"{edit}text", expert, f"{expert}__simulated")
    return [_Edit(*row) for row in _edited_from(judgements).order_by().values_list(*told)]


def _edited_from(judgements: JudgementQuerySet) -> QuerySet[Rank]:
    """The stories that improved ones are preferred to, edited > chosen > rejected (Llama 3, 2024, section 4.2.1)."""
    found = Rank.objects.filter(judgement__in=judgements, judgement__improvement__isnull=False)
    found = found.filter(judgement__improvement__story__withdrawn_at=None, story__withdrawn_at=None)
    return found.exclude(story__text=F("judgement__improvement__text"))


def _without_texts(ids: Collection[int]) -> dict[int, Story]:
    """Stories by id, with one object for each prompt and each policy."""
    stories = Story.objects.filter(pk__in=among(ids)).only("prompt", "policy").in_bulk()
    prompts = Prompt.objects.filter(pk__in=among({story.prompt_id for story in stories.values()})).in_bulk()
    policies = Policy.objects.in_bulk({story.policy_id for story in stories.values()})
    for story in stories.values():
        story.prompt, story.policy = prompts[story.prompt_id], policies[story.policy_id]
    return stories


def with_texts(pairs: Iterable[PreferencePair]) -> Iterator[PreferencePair]:
    """The same pairs with all of their stories, read as they are asked for: AT_ONCE pairs are in memory."""
    for part in batched(pairs, AT_ONCE):
        light = {story.pk: story for pair in part for story in (story_of(pair.chosen), pair.rejected)}
        full = Story.objects.filter(pk__in=among(light)).only(*TEXTS, "prompt", "policy").in_bulk()
        for story in full.values():
            story.prompt, story.policy = light[story.pk].prompt, light[story.pk].policy
        for pair in part:
            chosen = pair.chosen
            written = replace(chosen, story=full[chosen.pk]) if isinstance(chosen, Edited) else full[chosen.pk]
            yield replace(pair, chosen=written, rejected=full[pair.rejected.pk])


def _fixed_order(pair: PreferencePair) -> tuple[int, str, int, int, int]:
    chosen, edited = pair.chosen, isinstance(pair.chosen, Edited)
    story = story_of(chosen)
    expert = chosen.expert if isinstance(chosen, Edited) else 0
    criterion = "" if pair.criterion == OVERALL else pair.criterion
    return story.prompt_id, criterion, int(edited) * (expert + 1), story.pk, pair.rejected.pk


def story_of(completion: Story | Edited) -> Story:
    """The story itself, or the one that was edited."""
    return completion.story if isinstance(completion, Edited) else completion


def batched(items: Iterable[One], count: int) -> Iterator[list[One]]:
    """Lists of `count` of them, the last one shorter (itertools.batched, of Python 3.12)."""
    rest = iter(items)
    while part := list(islice(rest, count)):
        yield part


def export_row(pair: PreferencePair) -> dict[str, object]:
    """One line of an export, as TRL's DPOTrainer takes it. `prompt` is what the policy read; the token
    ids are the sampler's own (empty for an edited story), `chosen` and `rejected` their text without the
    white space around it.
    """
    story = story_of(pair.chosen)
    prompt = story.prompt
    return {
        "prompt": story.rendered_prompt,
        "chosen": pair.chosen.text,
        "rejected": pair.rejected.text,
        "chosen_ids": pair.chosen.token_ids,
        "rejected_ids": pair.rejected.token_ids,
        **{name: getattr(pair, name) for name in VOTES},
        "prompt_id": prompt.pk,
        "chosen_id": pair.chosen.pk,
        "rejected_id": pair.rejected.pk,
        "edited": isinstance(pair.chosen, Edited),
        "policy": story.policy.name,
        **{name: getattr(prompt, name) for name in ABOUT},
    }


def comparison_rows(pairs: Iterable[PreferencePair]) -> Iterator[dict[str, object]]:
    """One line a prompt, as `python -m training.dpo` takes it too: its stories once, best first, and the
    pairs among them by their place in that list. Stories of several policies have different prompts if their chat
    templates differ.
    """
    by_prompt: dict[int, list[PreferencePair]] = defaultdict(list)
    for pair in pairs:
        by_prompt[story_of(pair.chosen).prompt_id].append(pair)
    for prompts in batched(by_prompt.values(), AT_ONCE):
        by_rendered: dict[tuple[int, str], list[PreferencePair]] = defaultdict(list)
        for pair in with_texts(pair for found in prompts for pair in found):
            story = story_of(pair.chosen)
            by_rendered[story.prompt_id, story.rendered_prompt].append(pair)
        for (_prompt, rendered), found in by_rendered.items():
            yield _comparison_row(rendered, found)


def _comparison_row(rendered: str, pairs: list[PreferencePair]) -> dict[str, object]:
    wins: Counter[Story | Edited] = Counter(pair.chosen for pair in pairs)
    wins.subtract(pair.rejected for pair in pairs)
    stories = sorted(wins, key=lambda one: (-wins[one], one.pk, isinstance(one, Edited)))
    place = {story: index for index, story in enumerate(stories)}
    prompt = story_of(stories[0]).prompt
    return {
        "prompt": rendered,
        "completions": [
            {
                "text": story.text,
                "token_ids": story.token_ids,
                "finish_reason": story.finish_reason,
                "id": story.pk,
                "edited": isinstance(story, Edited),
                "policy": story_of(story).policy.name,
            }
            for story in stories
        ],
        "pairs": [
            {
                "chosen": place[pair.chosen],
                "rejected": place[pair.rejected],
                **{name: getattr(pair, name) for name in VOTES},
            }
            for pair in pairs
        ],
        "prompt_id": prompt.pk,
        **{name: getattr(prompt, name) for name in ABOUT},
    }


def count_comparison_rows(pairs: Iterable[PreferencePair]) -> int:
    """How many lines `comparison_rows` would give."""
    chosen = Story.objects.filter(pk__in=among({story_of(pair.chosen).pk for pair in pairs}))
    return chosen.order_by().values("prompt", rendered=MD5("rendered_prompt")).distinct().count()


def write_export(
    pairs: list[PreferencePair], path: Path, *, grouped: bool = False, further: Iterable[Mapping[str, object]] = ()
) -> Export:
    """Write `pairs` as JSONL, a line a pair (or, grouped, a line a prompt), whole or not at all.

    further: lines of a pair each that follow them as they are, taken one by one. NoPairs if there are no `pairs`,
    whatever follows.
    """
    if not pairs:
        raise NoPairs(
            "There are no preference pairs to export: no judgement prefers one story to another yet. "
            "Have experts rank stories first (or run manage.py simulate_experts for a demonstration)."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(path.suffix + ".tmp")
    digest = hashlib.sha256()
    try:
        with temporary.open("wb") as file:
            _write_lines(file, comparison_rows(pairs) if grouped else map(export_row, with_texts(pairs)), digest)
            followed = _write_lines(file, further, digest)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)  # there only if it was not finished
    return Export(path=path, count=len(pairs) + followed, sha256=digest.hexdigest())


def _write_lines(file: BinaryIO, rows: Iterable[Mapping[str, object]], digest: "hashlib._Hash") -> int:
    """How many there were."""
    lines = 0
    for lines, row in enumerate(rows, start=1):  # noqa: B007
        line = (json.dumps(row, ensure_ascii=False) + "\n").encode()
        digest.update(line)
        file.write(line)
    return lines
