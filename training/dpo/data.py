"""Pairs from a JSONL file, gathered by prompt: each distinct story of a prompt stands there once.

A line is a pair, as TRL's DPOTrainer takes it, or a comparison: a prompt with its stories, and
which of them is preferred to which.
"""

import json
import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

from training.dpo.texts import BadRow, Texts

OVERALL = "overall"  # criterion of a pair that names none


class BadData(ValueError):
    """The data file cannot be trained on; the message names line and reason."""


@dataclass(frozen=True)
class Pair:
    """chosen and rejected index the completions of their group.

    weight: how much the pair counts; margin: by how much it is preferred, if the data say so.
    """

    chosen: int
    rejected: int
    weight: float = 1.0
    margin: float = 0.0
    criterion: str = OVERALL


@dataclass
class Group:
    """One prompt with its distinct completions, as token ids, and the pairs among them.

    A completion that its writer ended ends with the end token, which is trained.
    """

    prompt_ids: list[int]
    completions: list[list[int]] = field(default_factory=list)
    pairs: list[Pair] = field(default_factory=list)

    def add(self, ids: list[int]) -> int:
        """The index of the completion `ids`, appended if it is new."""
        if ids not in self.completions:
            self.completions.append(ids)
        return self.completions.index(ids)


@dataclass
class Dataset:
    """groups to train on, and what was left out: pairs longer than max_tokens, pairs with the same
    story on both sides, and pairs of criteria that were not asked for.
    """

    groups: list[Group]
    too_long: int = 0
    equal: int = 0
    other_criteria: int = 0

    @property
    def pairs(self) -> int:
        return sum(len(group.pairs) for group in self.groups)

    def left_out(self) -> str:
        """In words, for a person; empty if nothing was."""
        reasons = (
            (self.too_long, "too long"),
            (self.equal, "with the same story on both sides"),
            (self.other_criteria, "of other criteria"),
        )
        said = [f"{count} {reason}" for count, reason in reasons if count]
        return f"{', '.join(said)} left out" if said else ""


@dataclass(frozen=True)
class _Preference:
    """One pair of a line, before its tokens have a group."""

    chosen: list[int]
    rejected: list[int]
    weight: float
    margin: float
    criterion: str


def read_pairs(path: Path, tokenizer: Any, *, max_tokens: int, criteria: Collection[str] = ()) -> Dataset:
    """Read the lines of `path`: pairs, comparisons, or both (`python -m training.dpo --help`).

    Token ids, if there, are used as they are: text that is tokenized anew may give other tokens
    than were sampled. Nothing is truncated: a pair that is too long is left out and counted.
    criteria: those to train on; all if empty. Raises BadData.
    """
    texts = Texts(tokenizer)
    groups: dict[tuple[int, ...], Group] = {}
    dataset = Dataset([])
    for number, row in _rows(path):
        try:
            prompt_ids, preferences = _read_row(texts, row)
        except BadRow as error:
            raise BadData(f"{path.name}, line {number}: {error}.") from error
        group = groups.setdefault(tuple(prompt_ids), Group(prompt_ids))
        for preference in preferences:
            _add(group, preference, dataset, max_tokens, criteria)
    dataset.groups = [group for group in groups.values() if group.pairs]
    if not dataset.groups:
        left_out = dataset.left_out()
        limit = f" (the limit is {max_tokens} tokens)" if dataset.too_long else ""
        raise BadData(f"{path.name} holds no pair to train on" + (f": {left_out}{limit}." if left_out else "."))
    return dataset


def _add(group: Group, found: _Preference, dataset: Dataset, max_tokens: int, criteria: Collection[str]) -> None:
    if criteria and found.criterion not in criteria:
        dataset.other_criteria += 1
    elif found.chosen == found.rejected:
        dataset.equal += 1
    elif len(group.prompt_ids) + max(len(found.chosen), len(found.rejected)) > max_tokens:
        dataset.too_long += 1
    else:
        chosen, rejected = group.add(found.chosen), group.add(found.rejected)
        group.pairs.append(Pair(chosen, rejected, found.weight, found.margin, found.criterion))


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    if not path.is_file():
        raise BadData(f"There is no data file {path}.")
    try:
        with path.open(encoding="utf-8-sig") as file:
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
    if not isinstance(row, dict):
        raise BadData(f"{path.name}, line {number}: no object of names and values.")
    return row


def _read_row(texts: Texts, row: dict[str, Any]) -> tuple[list[int], list[_Preference]]:
    prompt = texts.prompt(row)
    if "completions" in row:
        return prompt.ids, _comparison(texts, prompt, row)
    chosen, rejected = (texts.completion(prompt, row, side) for side in ("chosen", "rejected"))
    return prompt.ids, [_preference(chosen, rejected, row)]


def _preference(chosen: list[int], rejected: list[int], row: dict[str, Any]) -> _Preference:
    criterion = row.get("criterion", OVERALL)
    if not isinstance(criterion, str):
        raise BadRow(f"criterion is {criterion!r}: it must be text")
    weight = _number(row, "weight", 1.0)
    if not weight > 0:
        raise BadRow(f"weight is {weight}: it must be above 0")
    # how far experts agree is the margin that our exports know
    return _Preference(chosen, rejected, weight, _number(row, "margin", weight), criterion)


def _number(row: dict[str, Any], name: str, default: float) -> float:
    value = row.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadRow(f"{name} is {value!r}: it must be a number")
    if not 0 <= value <= sys.float_info.max:
        raise BadRow(f"{name} is {str(value)[:20]}: it must be a number not below 0")
    return float(value)


def _comparison(texts: Texts, prompt: Any, row: dict[str, Any]) -> list[_Preference]:
    """A prompt's stories with "pairs", or with "ranks" (1 is best, ties allowed), or best first."""
    stories = row["completions"]
    if not isinstance(stories, list) or len(stories) < 2:
        raise BadRow("completions must be a list of two stories or more")
    ids = [texts.story(prompt, story, f"completions[{i}]") for i, story in enumerate(stories)]
    if "pairs" in row:
        return [_listed_pair(ids, pair, row) for pair in _list(row, "pairs")]
    ranks = _list(row, "ranks") if "ranks" in row else list(range(len(ids)))
    if len(ranks) != len(ids) or not all(type(rank) is int for rank in ranks):
        raise BadRow("ranks must be a list of whole numbers, one for each completion")
    order = sorted(range(len(ids)), key=lambda i: ranks[i])
    return [_preference(ids[i], ids[j], row) for i, j in combinations(order, 2) if ranks[i] < ranks[j]]


def _list(row: dict[str, Any], name: str) -> list[Any]:
    if not isinstance(row[name], list):
        raise BadRow(f"{name} must be a list")
    return row[name]


def _listed_pair(ids: list[list[int]], pair: Any, row: dict[str, Any]) -> _Preference:
    if not isinstance(pair, dict):
        raise BadRow(f"{pair!r} is no pair: give an object with chosen and rejected")
    sides: list[Any] = [pair.get(side) for side in ("chosen", "rejected")]
    if not all(type(index) is int and 0 <= index < len(ids) for index in sides):
        raise BadRow(f"a pair's chosen and rejected must be numbers of completions, 0 to {len(ids) - 1}")
    of_all: dict[str, Any] = {name: row[name] for name in ("criterion", "weight", "margin") if name in row}
    return _preference(ids[sides[0]], ids[sides[1]], {**of_all, **pair})
