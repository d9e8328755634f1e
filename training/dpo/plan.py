"""What a run does with its groups: the order, the optimizer batches, and each pair's part of the loss.

The loss of an optimizer batch is the sum of share * loss over its pairs, with shares that are known
before anything is computed: however a batch is cut into micro-batches or dealt out to processes,
the gradient is the same.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from training.dpo.data import Dataset, Group, Pair
from training.dpo.settings import DPOSettings


@dataclass(frozen=True)
class Term:
    """One pair in a batch's loss. share: its coefficient; weight: its part of the metrics, which add
    up to 1 over a batch; 0 for a pair across prompts.
    """

    chosen: int
    rejected: int
    share: float
    weight: float
    margin: float = 0.0


@dataclass(frozen=True)
class Work:
    """A group as one batch takes it: perhaps with other prompts' stories added."""

    group: Group
    terms: list[Term]


Batch = list[Work]


def hold_out(dataset: Dataset, share: float, seed: int) -> tuple[list[Group], list[Group]]:
    """(training, held-out) groups: `share` of the prompts, drawn with `seed`, and at least one on each side.

    By prompt: a story of a held-out prompt is never trained on. Everything is trained on if share is 0.
    """
    if not share or len(dataset.groups) < 2:
        return dataset.groups, []
    count = min(max(round(share * len(dataset.groups)), 1), len(dataset.groups) - 1)
    held = set(torch.randperm(len(dataset.groups), generator=torch.Generator().manual_seed(seed))[:count].tolist())
    return (
        [group for index, group in enumerate(dataset.groups) if index not in held],
        [group for index, group in enumerate(dataset.groups) if index in held],
    )


def epochs(groups: list[Group], settings: DPOSettings, *, max_tokens: int) -> list[list[Batch]]:
    """The batches of each epoch; their number can differ, since a prompt's pairs stay together."""
    taken = groups if settings.batching == "comparison" else list(one_by_one(groups))
    found = []
    for seed in range(settings.seed, settings.seed + settings.epochs):
        cut = optimizer_batches(taken, settings.batch_pairs, seed=seed if settings.shuffle else None)
        found.append([batch_of(batch, settings, max_tokens=max_tokens) for batch in cut])
    return found


def one_by_one(groups: list[Group]) -> Iterator[Group]:
    """Each pair as a group of its own."""
    for group in groups:
        for pair in group.pairs:
            sides = [group.completions[pair.chosen], group.completions[pair.rejected]]
            yield Group(group.prompt_ids, sides, [Pair(0, 1, pair.weight, pair.margin, pair.criterion)])


def optimizer_batches(groups: list[Group], batch_pairs: int, *, seed: int | None) -> list[list[Group]]:
    """The groups in a seeded order, cut so that each batch has `batch_pairs` pairs or a little more.

    A prompt's pairs stay together: they share its stories (Ouyang et al., 2022, section 3.5). With
    seed None the order is that of `groups`.
    """
    order = list(range(len(groups)))
    if seed is not None:
        order = torch.randperm(len(groups), generator=torch.Generator().manual_seed(seed)).tolist()
    batches: list[list[Group]] = [[]]
    pairs = 0
    for index in order:
        if pairs >= batch_pairs:
            batches.append([])
            pairs = 0
        batches[-1].append(groups[index])
        pairs += len(groups[index].pairs)
    return batches


def batch_of(groups: list[Group], settings: DPOSettings, *, max_tokens: int) -> Batch:
    """The groups with each pair's share of the loss.

    Without objectives: share = w / sum(w) over the batch. With objectives (criterion -> weight),
    share = weight * w / sum(w) over the batch's pairs of that criterion: the sum over criteria of
    weight * mean loss.
    """
    objectives = settings.objective_weights()
    weights = [_weights(group, settings, by_criterion=bool(objectives)) for group in groups]
    sums: dict[str, float] = defaultdict(float)
    total = 0.0
    for group, found in zip(groups, weights, strict=True):
        for pair, weight in zip(group.pairs, found, strict=True):
            sums[pair.criterion if objectives else ""] += weight
            total += weight
    batch = []
    for group, found in zip(groups, weights, strict=True):
        terms = []
        for pair, weight in zip(group.pairs, found, strict=True):
            key = pair.criterion if objectives else ""
            share = objectives.get(key, 1.0) * weight / sums[key]
            terms.append(Term(pair.chosen, pair.rejected, share, weight / total, settings.margin_scale * pair.margin))
        batch.append(Work(group, terms))
    return _contrasted(batch, settings.contrastive_weight, max_tokens) if settings.contrastive_weight else batch


def _weights(group: Group, settings: DPOSettings, *, by_criterion: bool) -> list[float]:
    """Each pair's weight; those of a prompt add up to 1 (for each criterion) if prompts weigh alike."""
    if settings.weighting == "pairs":
        return [pair.weight for pair in group.pairs]
    sums: dict[str, float] = defaultdict(float)
    for pair in group.pairs:
        sums[pair.criterion if by_criterion else ""] += pair.weight
    return [pair.weight / sums[pair.criterion if by_criterion else ""] for pair in group.pairs]


def _contrasted(batch: Batch, weight: float, max_tokens: int) -> Batch:
    """Contrastive DPO (the seed chapter): each prompt's best story against the best stories of the
    batch's other prompts, as if they had been written for it; weight * mean over these pairs.

    Stories that would be too long behind the other prompt are left out.
    """
    best = [best_completion(work.group) for work in batch]
    candidates = []
    for i, work in enumerate(batch):
        room = max_tokens - len(work.group.prompt_ids)
        own = work.group.completions[best[i]]
        others = [
            other.group.completions[best[j]]
            for j, other in enumerate(batch)
            if other.group.prompt_ids != work.group.prompt_ids
        ]
        candidates.append([ids for ids in others if len(ids) <= room and ids != own])
    count = sum(map(len, candidates))
    found = []
    for work, chosen, others in zip(batch, best, candidates, strict=True):
        group = Group(work.group.prompt_ids, list(work.group.completions), work.group.pairs)
        terms = [Term(chosen, group.add(ids), share=weight / count, weight=0.0) for ids in others]
        found.append(Work(group, work.terms + terms))
    return found


def best_completion(group: Group) -> int:
    """The completion that wins most, by weight; the first of these."""
    score = [0.0] * len(group.completions)
    for pair in group.pairs:
        score[pair.chosen] += pair.weight
        score[pair.rejected] -= pair.weight
    return score.index(max(score))


def micro_batches(batch: Batch, tokens: int) -> list[Batch]:
    """The batch, in order, cut so that at most `tokens` tokens (or one group) are in the model at once."""
    parts: list[Batch] = [[]]
    size = 0
    for work in batch:
        if parts[-1] and size + group_tokens(work.group) > tokens:
            parts.append([])
            size = 0
        parts[-1].append(work)
        size += group_tokens(work.group)
    return parts


def group_tokens(group: Group) -> int:
    """Tokens that a group takes in a pack: its prompt once."""
    return len(group.prompt_ids) + sum(map(len, group.completions))
