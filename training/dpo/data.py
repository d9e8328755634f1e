"""Pairs from a JSONL file, gathered by prompt: each distinct story of a prompt stands there once."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from generation.engines.loading import encode_prompt


class BadData(ValueError):
    """The data file cannot be trained on; the message names line and reason."""


@dataclass(frozen=True)
class Pair:
    """chosen and rejected index the completions of their group."""

    chosen: int
    rejected: int
    weight: float


@dataclass
class Group:
    """One prompt with its distinct completions, as token ids, and the pairs among them.

    A completion ends with the end token, which is trained.
    """

    prompt_ids: list[int]
    completions: list[list[int]] = field(default_factory=list)
    pairs: list[Pair] = field(default_factory=list)

    def add(self, ids: list[int]) -> int:
        """The index of the completion `ids`, appended if it is new."""
        if ids not in self.completions:
            self.completions.append(ids)
        return self.completions.index(ids)


@dataclass(frozen=True)
class Dataset:
    """groups to train on; too_long counts the pairs left out because they exceed max_tokens."""

    groups: list[Group]
    too_long: int

    @property
    def pairs(self) -> int:
        return sum(len(group.pairs) for group in self.groups)


def read_pairs(path: Path, tokenizer: Any, *, max_tokens: int) -> Dataset:
    """Read TRL's {"prompt", "chosen", "rejected"} lines, or ours with the sampler's token ids.

    "chosen_ids" and "rejected_ids", if there, are used as they are: text that is tokenized anew
    may give other tokens than were sampled. Nothing is truncated: a pair that is too long is left
    out and counted. Raises BadData.
    """
    groups: dict[str, Group] = {}
    too_long = 0
    for number, row in _rows(path):
        group = groups.setdefault(row["prompt"], Group(encode_prompt(tokenizer, row["prompt"])))
        try:
            chosen, rejected = (_completion_ids(tokenizer, row, side) for side in ("chosen", "rejected"))
            weight = _weight(row)
        except ValueError as error:
            raise BadData(f"{path.name}, line {number}: {error}.") from error
        if chosen == rejected:
            raise BadData(f"{path.name}, line {number}: chosen and rejected are the same story.")
        if len(group.prompt_ids) + max(len(chosen), len(rejected)) > max_tokens:
            too_long += 1
            continue
        group.pairs.append(Pair(group.add(chosen), group.add(rejected), weight))
    kept = [group for group in groups.values() if group.pairs]
    if not kept:
        raise BadData(
            f"{path.name} holds no pair to train on"
            + (f": all {too_long} are longer than {max_tokens} tokens." if too_long else ".")
        )
    return Dataset(kept, too_long)


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    if not path.is_file():
        raise BadData(f"There is no data file {path}.")
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, _row(path, number, line)
    except UnicodeDecodeError as error:
        raise BadData(f"{path.name} is not UTF-8 text ({error.reason}): save it as UTF-8.") from error


def _row(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise BadData(f"{path.name}, line {number}: not valid JSON ({error}).") from error
    for name in ("prompt", "chosen", "rejected"):
        if not isinstance(row, dict) or not isinstance(row.get(name), str) or not row[name].strip():
            raise BadData(f'{path.name}, line {number}: "{name}" is missing, empty or not text.')
    return row


def _completion_ids(tokenizer: Any, row: dict[str, Any], side: str) -> list[int]:
    """The tokens of one story with one end token: the sampler's own if the row has them."""
    ids = row.get(f"{side}_ids")
    if ids is None:
        ids = tokenizer.encode(row[side], add_special_tokens=False)
    elif not isinstance(ids, list) or not ids or not all(type(i) is int and i >= 0 for i in ids):
        raise ValueError(f"{side}_ids is no list of token ids")
    return list(ids) if ids[-1:] == [tokenizer.eos_token_id] else [*ids, tokenizer.eos_token_id]


def _weight(row: dict[str, Any]) -> float:
    weight = row.get("weight", 1.0)
    if isinstance(weight, bool) or not isinstance(weight, int | float):
        raise ValueError(f"weight is {weight!r}: it must be a number above 0")
    if not 0 < weight < float("inf"):
        raise ValueError(f"weight is {float(weight)}: it must be above 0")
    return float(weight)


def optimizer_batches(groups: list[Group], batch_pairs: int, *, seed: int) -> list[list[Group]]:
    """The groups in a seeded order, cut so that each batch has `batch_pairs` pairs or a little more.

    A prompt's pairs stay together: they share its stories (Ouyang et al., 2022, section 3.5).
    """
    order = torch.randperm(len(groups), generator=torch.Generator().manual_seed(seed)).tolist()
    batches: list[list[Group]] = [[]]
    for index in order:
        if sum(len(g.pairs) for g in batches[-1]) >= batch_pairs:
            batches.append([])
        batches[-1].append(groups[index])
    return batches


def micro_batches(groups: list[Group], stories: int) -> list[list[Group]]:
    """The groups cut so that at most `stories` completions (or one group) are in the model at once."""
    parts: list[list[Group]] = [[]]
    for group in groups:
        size = sum(len(g.completions) for g in parts[-1])
        if parts[-1] and size + len(group.completions) > stories:
            parts.append([])
        parts[-1].append(group)
    return parts
