"""Preference pairs from judgements, and their files.

Judgements of several experts on the same two stories become one pair: the majority's. Equal
votes make no pair, so that an export never holds a pair and its opposite.
"""

import hashlib
import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from annotate.models import Judgement, JudgementQuerySet, Purpose, Rank
from generation.models import Policy, Split, Story

OVERALL = "overall"

# what an export says of a pair, and of its prompt
VOTES = ("weight", "criterion", "judgements_for", "judgements_against", "simulated_judgements")
ABOUT = ("language", "theme", "story_type", "age_band", "split")


class NoPairs(ValueError):
    """There is nothing to export; the message says what is missing."""


@dataclass(frozen=True)
class PreferencePair:
    """`chosen` is preferred to `rejected` by `judgements_for` experts against `judgements_against`.

    weight is (judgements_for - judgements_against) / (judgements_for + judgements_against), in (0, 1].
    """

    chosen: Story
    rejected: Story
    judgements_for: int
    judgements_against: int
    simulated_judgements: int
    criterion: str = OVERALL

    @property
    def weight(self) -> float:
        return (self.judgements_for - self.judgements_against) / (self.judgements_for + self.judgements_against)


@dataclass(frozen=True)
class Export:
    """A frozen file of pairs."""

    path: Path
    count: int
    sha256: str


def preference_judgements(*, policy: Policy | None = None, include_simulated: bool = True) -> JudgementQuerySet:
    """Judgements that pairs are made of: on training prompts, of one policy's stories or of all."""
    found = Judgement.objects.filter(
        assignment__comparison__purpose=Purpose.PREFERENCE,
        assignment__comparison__prompt__split=Split.TRAIN,
    )
    if policy:
        found = found.filter(assignment__comparison__policy=policy)
    return found if include_simulated else found.by_people()


def preference_pairs(judgements: Iterable[Judgement]) -> list[PreferencePair]:
    """All strict pairs of the judgements' rankings, one for each two stories, in a fixed order."""
    votes: dict[tuple[int, int], list[bool]] = defaultdict(list)  # (winner, loser) -> simulated?
    ranks = Rank.objects.filter(judgement__in=judgements).select_related("judgement__assignment__expert")
    for ranking in _by_judgement(ranks):
        for one, other in combinations(sorted(ranking, key=lambda r: r.rank), 2):
            if one.rank < other.rank:
                simulated = one.judgement.assignment.expert.simulated
                votes[one.story_id, other.story_id].append(simulated)
    stories = Story.objects.select_related("prompt", "policy").in_bulk({pk for pair in votes for pk in pair})
    pairs = []
    for (winner, loser), pro in sorted(votes.items()):
        contra = votes.get((loser, winner), [])
        if len(pro) > len(contra) and stories[winner].text != stories[loser].text:
            pairs.append(PreferencePair(stories[winner], stories[loser], len(pro), len(contra), sum(pro) + sum(contra)))
    return sorted(pairs, key=lambda p: (p.chosen.prompt_id, p.chosen.pk, p.rejected.pk))


def _by_judgement(ranks: Iterable[Rank]) -> Iterator[list[Rank]]:
    found: dict[int, list[Rank]] = defaultdict(list)
    for rank in ranks:
        found[rank.judgement_id].append(rank)
    yield from found.values()


def export_row(pair: PreferencePair) -> dict[str, object]:
    """One line of an export, as TRL's DPOTrainer takes it. `prompt` is what the policy read; the token
    ids are the sampler's own, `chosen` and `rejected` their text without the white space around it.
    """
    prompt = pair.chosen.prompt
    return {
        "prompt": pair.chosen.rendered_prompt,
        "chosen": pair.chosen.text,
        "rejected": pair.rejected.text,
        "chosen_ids": pair.chosen.token_ids,
        "rejected_ids": pair.rejected.token_ids,
        **{name: getattr(pair, name) for name in VOTES},
        "prompt_id": prompt.pk,
        "chosen_id": pair.chosen.pk,
        "rejected_id": pair.rejected.pk,
        "policy": pair.chosen.policy.name,
        **{name: getattr(prompt, name) for name in ABOUT},
    }


def comparison_rows(pairs: Iterable[PreferencePair]) -> Iterator[dict[str, object]]:
    """One line a prompt, as `python -m training.dpo` takes it too: its stories once, best first, and the
    pairs among them by their place in that list. Stories of several policies have different prompts if their chat
    templates differ.
    """
    by_prompt: dict[tuple[int, str], list[PreferencePair]] = defaultdict(list)
    for pair in pairs:
        by_prompt[pair.chosen.prompt_id, pair.chosen.rendered_prompt].append(pair)
    for (prompt_id, rendered), found in by_prompt.items():
        wins = Counter(pair.chosen for pair in found)
        wins.subtract(pair.rejected for pair in found)
        stories = sorted(wins, key=lambda story: (-wins[story], story.pk))
        place = {story: index for index, story in enumerate(stories)}
        prompt = stories[0].prompt
        yield {
            "prompt": rendered,
            "completions": [
                {
                    "text": story.text,
                    "token_ids": story.token_ids,
                    "finish_reason": story.finish_reason,
                    "id": story.pk,
                    "policy": story.policy.name,
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


def write_export(pairs: list[PreferencePair], path: Path, *, grouped: bool = False) -> Export:
    """Write `pairs` as JSONL, a line a pair (or, grouped, a line a prompt), whole or not at all. NoPairs if
    there is none."""
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
            for row in comparison_rows(pairs) if grouped else map(export_row, pairs):
                line = (json.dumps(row, ensure_ascii=False) + "\n").encode()
                digest.update(line)
                file.write(line)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    return Export(path=path, count=len(pairs), sha256=digest.hexdigest())
