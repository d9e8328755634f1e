"""The reference's log-probabilities: of each distinct story once, before the first step.

No second model is held, and nothing that is trained can change them. A file keeps them: another run
on the same weights and stories (resumed, or with another beta) reads it.
"""

import hashlib
import os
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from training.dpo.checkpoint import sync_file
from training.dpo.data import Group
from training.dpo.plan import Batch, Work, group_tokens, micro_batches

Score = Callable[[Sequence[Group]], list[torch.Tensor]]


class ReferenceLogps:
    """Log-probabilities a token, [tokens of the completion] each, by prompt and completion."""

    def __init__(self) -> None:
        self.found: dict[bytes, torch.Tensor] = {}  # 128 bits of prompt and completion -> logps

    def of(self, group: Group) -> list[torch.Tensor]:
        """One tensor for each completion of the group. KeyError if it was not computed."""
        return [self.found[key] for key in _keys(group)]

    def add(self, group: Group, logps: Iterable[torch.Tensor]) -> None:
        for key, found in zip(_keys(group), logps, strict=True):
            self.found[key] = found.cpu().clone()  # a view would keep its whole pack

    def lacks(self, group: Group) -> bool:
        return any(key not in self.found for key in _keys(group))

    def take(self, found: dict[bytes, torch.Tensor]) -> None:
        self.found.update(found)

    def read(self, path: Path) -> None:
        """Take what the file holds; nothing if there is none, or if it is broken: it is computed again."""
        try:
            tensors = load_file(path)
            parts = tensors["logps"].split(tensors["lengths"].tolist())
            found = dict(zip(map(bytes, tensors["keys"].numpy()), (p.clone() for p in parts), strict=True))
        except (OSError, KeyError, ValueError, TypeError, RuntimeError, SafetensorError):
            return
        self.found.update(found)

    def write(self, path: Path) -> None:
        """Keep all in a file, whole or not at all."""
        keys = b"".join(self.found)
        tensors = {
            "keys": torch.frombuffer(bytearray(keys), dtype=torch.uint8).view(len(self.found), -1),
            "lengths": torch.tensor([len(t) for t in self.found.values()]),
            "logps": torch.cat(list(self.found.values())),
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{path.name}.{os.getpid()}.new")  # another run may keep its own here
        try:
            save_file(tensors, temporary)
            sync_file(temporary)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)  # there only if it was not finished


def _keys(group: Group) -> Iterator[bytes]:
    """128 bits for each completion behind its prompt."""
    prompt = array("q", [len(group.prompt_ids), *group.prompt_ids]).tobytes()
    for completion in group.completions:
        yield hashlib.blake2b(prompt + array("q", completion).tobytes(), digest_size=16).digest()


def distinct_groups(batches: Iterable[Batch], tokens: int) -> list[Group]:
    """Each prompt of the batches with all of its distinct stories, in pieces of at most `tokens` tokens."""
    merged: dict[tuple[int, ...], dict[tuple[int, ...], None]] = {}
    for batch in batches:
        for work in batch:
            stories = merged.setdefault(tuple(work.group.prompt_ids), {})
            stories.update(dict.fromkeys(map(tuple, work.group.completions)))
    found = []
    for prompt, stories in merged.items():
        piece = Group(list(prompt))
        for story in map(list, stories):
            if piece.completions and group_tokens(piece) + len(story) > tokens:
                found.append(piece)
                piece = Group(list(prompt))
            piece.completions.append(story)
        found.append(piece)
    return found


def longest(groups: Sequence[Group]) -> Group:
    """The longest story of the groups, prompt included, behind another of its prompt: what a way of
    computing is tried on before it is used."""
    found = max(groups, key=lambda group: len(group.prompt_ids) + max(map(len, group.completions)))
    story = max(found.completions, key=len)
    return Group(found.prompt_ids, [[*story[: len(story) // 2], story[-1]], story])


@torch.no_grad()
def compute(known: ReferenceLogps, groups: Sequence[Group], score: Score, tokens: int) -> None:
    """Add the groups' log-probabilities to `known`, as many at once as `tokens`; `score` is the reference."""
    for part in micro_batches([Work(group, []) for group in groups], tokens):
        logps = iter(score([work.group for work in part]))
        for work in part:
            known.add(work.group, [next(logps) for _ in work.group.completions])
