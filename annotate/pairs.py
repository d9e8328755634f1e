"""Preference pairs from judgements, and their files.

Judgements of several experts on the same two stories become one pair: the majority's. Equal
votes make no pair, so that an export never holds a pair and its opposite.
"""

import hashlib
import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import BinaryIO

from django.db.models import Exists, OuterRef, Q

from annotate.models import (
    Assignment,
    CriterionWinner,
    Improvement,
    Judgement,
    JudgementQuerySet,
    Kind,
    Purpose,
    Rank,
    Verdict,
)
from generation.models import Policy, Split, Story

OVERALL = "overall"

# what an export says of a pair, and of its prompt
VOTES = ("weight", "criterion", "judgements_for", "judgements_against", "simulated_judgements")
ABOUT = ("language", "theme", "story_type", "age_band", "split")


Votes = dict[tuple[int, int], list[bool]]  # (winner, loser): of each vote, whether it was simulated


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


@dataclass(frozen=True)
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
    """
    judgements = deciding(judgements)
    pairs = _voted(_overall_votes(judgements), OVERALL) + _edited(judgements)
    if by_criterion:
        for criterion, votes in _criterion_votes(judgements).items():
            pairs += _voted(votes, criterion)
    return sorted(pairs, key=_fixed_order)


def deciding(judgements: JudgementQuerySet) -> JudgementQuerySet:
    """The adjudicators' judgements, and those of comparisons that have none."""
    rulings = judgements.filter(assignment__kind=Kind.ADJUDICATION, ranks__isnull=False)
    ruled = Assignment.objects.filter(judgement__in=rulings, comparison=OuterRef("assignment__comparison"))
    return judgements.filter(Q(assignment__kind=Kind.ADJUDICATION) | ~Exists(ruled))


def _overall_votes(judgements: JudgementQuerySet) -> Votes:
    votes: Votes = defaultdict(list)
    for ranking in _rankings(judgements):
        for one, other in combinations(sorted(ranking, key=lambda r: r.rank), 2):
            if one.rank < other.rank:
                votes[one.story_id, other.story_id].append(one.judgement.assignment.expert.simulated)
    return votes


def _rankings(judgements: JudgementQuerySet) -> Iterable[list[Rank]]:
    found: dict[int, list[Rank]] = defaultdict(list)
    ranks = Rank.objects.filter(judgement__in=judgements, story__withdrawn_at=None)
    for rank in ranks.select_related("judgement__assignment__expert"):
        found[rank.judgement_id].append(rank)
    return found.values()


def _criterion_votes(judgements: JudgementQuerySet) -> dict[str, Votes]:
    """The winner by a criterion is preferred to every other story that was shown beside it."""
    votes: dict[str, Votes] = defaultdict(lambda: defaultdict(list))
    ranking = judgements.exclude(verdict__in=[Verdict.CANNOT_RANK, Verdict.UNSAFE])
    winners = CriterionWinner.objects.filter(judgement__in=ranking, story__isnull=False)
    withdrawn = set(Story.objects.exclude(withdrawn_at=None).values_list("pk", flat=True))
    found = winners.exclude(story__in=withdrawn).select_related("judgement__assignment__expert")
    for winner in found.prefetch_related("judgement__ranks"):
        read = {rank.story_id for rank in winner.judgement.ranks.all()}
        for other in read - {winner.story_id} - withdrawn:
            simulated = winner.judgement.assignment.expert.simulated
            votes[winner.criterion][winner.story_id or 0, other].append(simulated)
    return votes


def _voted(votes: Votes, criterion: str) -> list[PreferencePair]:
    """The majority's pairs. Equal votes make none, and neither do stories of the same text."""
    stories = Story.objects.select_related("prompt", "policy").in_bulk({pk for pair in votes for pk in pair})
    pairs = []
    for (winner, loser), pro in sorted(votes.items()):
        contra = votes.get((loser, winner), [])
        if len(pro) > len(contra) and stories[winner].text != stories[loser].text:
            simulated = sum(pro) + sum(contra)
            pairs.append(PreferencePair(stories[winner], stories[loser], len(pro), len(contra), simulated, criterion))
    return pairs


def _edited(judgements: JudgementQuerySet) -> list[PreferencePair]:
    """edited > chosen > rejected (Llama 3, 2024, section 4.2.1)."""
    improvements = Improvement.objects.filter(judgement__in=judgements, story__withdrawn_at=None)
    pairs = []
    for found in improvements.select_related("story__prompt", "story__policy", "judgement__assignment__expert"):
        expert = found.judgement.assignment.expert
        edited = Edited(found.story, found.text, expert.pk)
        ranks = found.judgement.ranks.filter(story__withdrawn_at=None).select_related("story__prompt", "story__policy")
        for rank in ranks:
            if rank.story.text != found.text:
                pairs.append(PreferencePair(edited, rank.story, 1, 0, int(expert.simulated)))
    return pairs


def _fixed_order(pair: PreferencePair) -> tuple[int, str, int, int, int]:
    chosen, edited = pair.chosen, isinstance(pair.chosen, Edited)
    story = story_of(chosen)
    expert = chosen.expert if isinstance(chosen, Edited) else 0
    criterion = "" if pair.criterion == OVERALL else pair.criterion
    return story.prompt_id, criterion, int(edited) * (expert + 1), story.pk, pair.rejected.pk


def story_of(completion: Story | Edited) -> Story:
    """The story itself, or the one that was edited."""
    return completion.story if isinstance(completion, Edited) else completion


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
    by_prompt: dict[tuple[int, str], list[PreferencePair]] = defaultdict(list)
    for pair in pairs:
        story = story_of(pair.chosen)
        by_prompt[story.prompt_id, story.rendered_prompt].append(pair)
    for (prompt_id, rendered), found in by_prompt.items():
        wins: Counter[Story | Edited] = Counter(pair.chosen for pair in found)
        wins.subtract(pair.rejected for pair in found)
        stories = sorted(wins, key=lambda one: (-wins[one], one.pk, isinstance(one, Edited)))
        place = {story: index for index, story in enumerate(stories)}
        prompt = story_of(stories[0]).prompt
        yield {
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
                for pair in found
            ],
            "prompt_id": prompt_id,
            **{name: getattr(prompt, name) for name in ABOUT},
        }


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
            _write_lines(file, comparison_rows(pairs) if grouped else map(export_row, pairs), digest)
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
