"""Reading preferences from somebody else's file: TRL's pairs, or scored completions as UltraFeedback has them.

JSONL or Parquet. Nothing is guessed: what cannot be read is said by its line.
"""

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

Message = dict[str, str]

MAX_TEXT = 100_000  # characters of a message
ROLES = ("system", "user", "assistant")
TEXT_NAMES = ("response", "text", "completion", "content")  # of a completion's text, the first that is there
SCORE_NAMES = ("overall_score", "score", "rating", "fine-grained_score")  # of its score, the same
JSONL, PARQUET = (".jsonl", ".ndjson"), (".parquet",)
EVERY, EXTREMES = "all", "best_worst"
BATCH = 500  # rows of Parquet that are in memory at once


class BadLine(ValueError):
    """A line cannot be read; the message says why, in a clause without a full stop."""


class BadFile(ValueError):
    """The file as a whole cannot be read; the message says why, and what to do."""


@dataclass(frozen=True)
class Preference:
    """One pair. margin: chosen's score less rejected's, if there were scores."""

    prompt: list[Message]
    chosen: str
    rejected: str
    margin: float | None = None

    @property
    def sha256(self) -> str:
        whole = json.dumps([self.prompt, self.chosen, self.rejected], ensure_ascii=False, sort_keys=True)
        return hashlib.sha256(whole.encode()).hexdigest()

    @property
    def turns(self) -> int:
        """1: a question, and perhaps a system's message before it."""
        return sum(message["role"] != "system" for message in self.prompt)


def rows(path: Path) -> Iterator[tuple[int, Any, str]]:
    """(line, row, fault) of each row; fault: "" or why the line holds none. Raises BadFile."""
    suffix = path.suffix.lower()
    if suffix not in JSONL + PARQUET:
        raise BadFile(f"{path.name} ends neither with .jsonl nor with .parquet: save it as one of them.")
    if not path.is_file():
        raise BadFile(f"There is no file {path}.")
    try:
        yield from _parquet(path) if suffix in PARQUET else _jsonl(path)
    except UnicodeDecodeError as error:
        raise BadFile(f"{path.name} is not UTF-8 text ({error.reason}): save it as UTF-8.") from error
    except OSError as error:
        raise BadFile(f"{path.name} cannot be read: {error}.") from error


def _jsonl(path: Path) -> Iterator[tuple[int, Any, str]]:
    with path.open(encoding="utf-8-sig", newline="\n") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                yield number, json.loads(line), ""
            except (ValueError, RecursionError) as error:
                yield number, {}, f"not valid JSON ({error})"


def _parquet(path: Path) -> Iterator[tuple[int, Any, str]]:
    import pyarrow as pa
    from pyarrow import parquet

    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=BATCH):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row, ""
    except pa.ArrowException as error:
        raise BadFile(f"{path.name} is no sound Parquet file ({error}): fetch it again.") from error


def preferences(row: Any, *, rendered: bool = False, which: str = EVERY) -> list[Preference]:
    """What a row prefers; nothing if its completions have the same score, or if it has one. Raises BadLine.

    rendered: its prompt is text as a policy reads it, which stays as it is to the last line break.
    which: EVERY pair of completions with different scores, or EXTREMES, the best against the worst.
    """
    if not isinstance(row, dict):
        raise BadLine("no object of names and values")
    if row.get("completions") is not None:
        return _scored(row, rendered, which)
    missing = [name for name in ("chosen", "rejected") if row.get(name) is None]
    if missing:
        raise BadLine(
            f"{' and '.join(missing)} missing: a row has prompt, chosen and rejected, or prompt and completions"
        )
    (before, chosen), (other, rejected) = (_answer(row[name], name) for name in ("chosen", "rejected"))
    if before != other:
        raise BadLine("chosen and rejected answer different conversations")
    prompt = _prompt(row.get("prompt"), rendered) if row.get("prompt") is not None else before
    if not prompt or (rendered and row.get("prompt") is None):
        raise BadLine("prompt is missing: give it as text, or as messages before the answers")
    if before and [_bare(m) for m in before] != [_bare(m) for m in prompt]:
        raise BadLine("the messages before the answers are not those of the prompt")
    scores: list[Any] = [row.get("score_chosen"), row.get("score_rejected")]  # as UltraFeedback binarized has them
    margin = scores[0] - scores[1] if all(map(_is_number, scores)) else None
    return [Preference(prompt, chosen, rejected, margin)] if chosen != rejected else []


def _scored(row: dict[str, Any], rendered: bool, which: str) -> list[Preference]:
    given = row.get("prompt") if row.get("prompt") is not None else row.get("instruction")
    prompt = _prompt(given, rendered)
    completions, scores = row["completions"], row.get("scores")
    if not isinstance(completions, list):
        raise BadLine("completions must be a list")
    if scores is not None and (not isinstance(scores, list) or len(scores) != len(completions)):
        raise BadLine("scores must be a list, one for each completion")
    found = [
        _completion(one, scores[at] if scores else None, f"completion {at + 1}") for at, one in enumerate(completions)
    ]
    found.sort(key=lambda one: -one[1])
    pairs = [(one, other) for one, other in combinations(found, 2) if one[1] > other[1] and one[0] != other[0]]
    if which == EXTREMES:
        pairs = [pair for pair in pairs if pair == (found[0], found[-1])][:1]  # none, if these two are equal
    return [Preference(prompt, one[0], other[0], one[1] - other[1]) for one, other in pairs]


def _completion(given: Any, score: Any, name: str) -> tuple[str, float]:
    if isinstance(given, dict):
        score = next((given[key] for key in SCORE_NAMES if given.get(key) is not None), score)
        given = next((given[key] for key in TEXT_NAMES if given.get(key) is not None), None)
    if not _is_number(score):
        raise BadLine(f"{name} has no number as its score ({', '.join(SCORE_NAMES)}, or scores beside completions)")
    return _text(given, name).strip(), float(score)


def _is_number(score: Any) -> bool:
    return isinstance(score, int | float) and not isinstance(score, bool) and math.isfinite(score)


def _prompt(given: Any, rendered: bool) -> list[Message]:
    if rendered:
        return [{"role": "user", "content": _text(given, "prompt")}]
    if isinstance(given, str):
        return [{"role": "user", "content": _text(given, "prompt").strip()}]
    found = _messages(given, "prompt")
    if found[-1]["role"] != "user":
        raise BadLine("the prompt's last message must be the user's")
    return found


def _answer(given: Any, name: str) -> tuple[list[Message], str]:
    """The messages before the answer, if there are any, and the answer."""
    if isinstance(given, str):
        return [], _text(given, name).strip()
    found = _messages(given, name)
    if found[-1]["role"] != "assistant":
        raise BadLine(f"{name} must end with the assistant's message")
    if len(found) > 1 and found[-2]["role"] != "user":
        raise BadLine(f"before its answer {name} must have the user's message")
    return found[:-1], found[-1]["content"].strip()


def _messages(given: Any, name: str) -> list[Message]:
    if not isinstance(given, list) or not given or not all(isinstance(one, dict) for one in given):
        raise BadLine(f'{name} must be text, or a list of messages {{"role": ..., "content": ...}}')
    for one in given:
        if one.get("role") not in ROLES:
            raise BadLine(f"{name} has the role {one.get('role')!r}: known are {', '.join(ROLES)}")
    return [{"role": one["role"], "content": _text(one.get("content"), name)} for one in given]


def _bare(message: Message) -> tuple[str, str]:
    return message["role"], message["content"].strip()


def _text(given: Any, name: str) -> str:
    if not isinstance(given, str) or not given.strip():
        raise BadLine(f"{name} is missing, empty or not text")
    if len(given) > MAX_TEXT:
        raise BadLine(f"{name} is longer than {MAX_TEXT:,} characters")
    if "\x00" in given or any("\ud800" <= c <= "\udfff" for c in given):
        raise BadLine(f"{name} holds a character that is no text (NUL or half a surrogate pair)")
    return given
