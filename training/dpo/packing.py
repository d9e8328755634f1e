"""Groups laid out for one forward pass: each prompt once, its completions behind it, no padding.

    [ prompt 1 | story 1a | story 1b | ... | prompt 2 | story 2a | ... ]

Each completion takes up the positions that follow its own prompt and attends to that prompt and
itself alone (attention.py): the prompt's work is shared by all stories of a comparison.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import torch

from training.dpo.data import Group


@dataclass(frozen=True)
class Branch:
    """One completion in a pack: half-open ranges of token positions."""

    prompt: tuple[int, int]
    completion: tuple[int, int]
    first: bool  # of its prompt: it also yields the prompt's own positions

    @property
    def length(self) -> int:
        return self.prompt[1] - self.prompt[0] + self.completion[1] - self.completion[0]


@dataclass(frozen=True)
class Pack:
    """ids and positions are [1, tokens]; targets and predictors are [completion tokens]:
    the hidden state at predictors[i] predicts targets[i]. lengths are the completions' tokens.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    predictors: torch.Tensor
    targets: torch.Tensor
    lengths: tuple[int, ...]
    branches: tuple[Branch, ...]

    @property
    def tokens(self) -> int:
        return self.ids.shape[1]

    @cached_property
    def pieces(self) -> list[int]:
        """Tokens of each prompt and completion, as they stand."""
        found = []
        for branch in self.branches:
            ranges = (branch.prompt, branch.completion) if branch.first else (branch.completion,)
            found += [end - begin for begin, end in ranges]
        return found

    @cached_property
    def padded(self) -> "Padded":
        return Padded.of(self)

    def to(self, device: torch.device) -> "Pack":
        if device == self.ids.device:
            return self
        ids, positions, predictors, targets = (
            t.to(device) for t in (self.ids, self.positions, self.predictors, self.targets)
        )
        return Pack(ids, positions, predictors, targets, self.lengths, self.branches)


@dataclass(frozen=True)
class Padded:
    """The branches of a pack as rows of equal width.

    gather: [branches, width], the pack's position of each cell (0 beyond a branch's end).
    scatter: [tokens], for each position of the pack its cell, counted row by row.
    """

    gather: torch.Tensor
    scatter: torch.Tensor

    @classmethod
    def of(cls, pack: Pack) -> "Padded":
        width = max(branch.length for branch in pack.branches)
        gather = torch.zeros(len(pack.branches), width, dtype=torch.long)
        scatter = torch.zeros(pack.tokens, dtype=torch.long)
        for row, branch in enumerate(pack.branches):
            (start, middle), (begin, end) = branch.prompt, branch.completion
            prompt = middle - start
            gather[row, :prompt] = torch.arange(start, middle)
            gather[row, prompt : branch.length] = torch.arange(begin, end)
            if branch.first:
                scatter[start:middle] = row * width + torch.arange(prompt)
            scatter[begin:end] = row * width + torch.arange(prompt, branch.length)
        return cls(gather.to(pack.ids.device), scatter.to(pack.ids.device))


def pack(groups: Iterable[Group]) -> Pack:
    """The groups in one row, in order; the completions of all groups, in order."""
    ids: list[int] = []
    positions: list[int] = []
    predictors: list[int] = []
    targets: list[int] = []
    branches: list[Branch] = []
    for group in groups:
        prompt = (len(ids), len(ids) + len(group.prompt_ids))
        ids += group.prompt_ids
        positions += range(len(group.prompt_ids))
        for index, completion in enumerate(group.completions):
            begin, end = len(ids), len(ids) + len(completion)
            ids += completion
            positions += range(len(group.prompt_ids), len(group.prompt_ids) + len(completion))
            predictors += [prompt[1] - 1, *range(begin, end - 1)]
            targets += completion
            branches.append(Branch(prompt, (begin, end), first=index == 0))
    return Pack(
        torch.tensor([ids]),
        torch.tensor([positions]),
        torch.tensor(predictors),
        torch.tensor(targets),
        tuple(branch.completion[1] - branch.completion[0] for branch in branches),
        tuple(branches),
    )
