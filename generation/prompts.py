"""Importing prompts from a file: all rows or none, each fault with its line."""

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.db import transaction

from generation.models import Language, Prompt, Split

FIELDS = ("text", "language", "theme", "story_type", "age_band", "split")
MAX_TEXT = 4000


class BadPrompts(ValueError):
    """The file cannot be imported: `faults` says why, a line each. Nothing was imported."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


@dataclass(frozen=True)
class Imported:
    """How many prompts are new, and how many were known already (by text) and left as they are."""

    new: int
    known: int


def import_prompts(path: Path) -> Imported:
    """Import a JSONL or CSV file of prompts. Raises BadPrompts with every fault found."""
    rows, faults = [], []
    seen: dict[str, int] = {}
    for line, row, torn in _rows(path):
        fault = torn or _fault(row)
        text = str(row.get("text", "")).strip()
        if fault:
            faults.append(f"line {line}: {fault}")
        elif text in seen:
            faults.append(f"line {line}: the same text as line {seen[text]}")
        else:
            seen[text] = line
            rows.append(Prompt(**{name: str(row[name]).strip() for name in FIELDS if row.get(name)}))
    if faults:
        raise BadPrompts(faults)
    if not rows:
        raise BadPrompts([f"{path.name} holds no prompts."])
    return _store(rows)


@transaction.atomic
def _store(rows: list[Prompt]) -> Imported:
    known = set(Prompt.objects.filter(text__in=[r.text for r in rows]).values_list("text", flat=True))
    new = [row for row in rows if row.text not in known]
    Prompt.objects.bulk_create(new)
    return Imported(new=len(new), known=len(known))


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any], str]]:
    """(line, row, fault) for each row; a fault is "" or why the line is not a row."""
    suffix = path.suffix.lower()
    if suffix not in READERS:
        raise BadPrompts([f"{path.name} is neither .jsonl nor .csv."])
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise BadPrompts([f"There is no file {path}."]) from error
    except UnicodeDecodeError as error:
        raise BadPrompts([f"{path.name} is not UTF-8 text (byte {error.start}): save it as UTF-8."]) from error
    except OSError as error:
        raise BadPrompts([f"{path} cannot be read: {error.strerror}."]) from error
    yield from READERS[suffix](text)


def _jsonl_rows(text: str) -> Iterator[tuple[int, dict[str, Any], str]]:
    for line, raw in enumerate(text.split("\n"), start=1):
        if not raw.strip():
            continue
        try:
            row = json.loads(raw)
        except ValueError as error:
            yield line, {}, f"not valid JSON ({error})"
            continue
        yield (line, row, "") if isinstance(row, dict) else (line, {}, "not a JSON object")


def _csv_rows(text: str) -> Iterator[tuple[int, dict[str, Any], str]]:
    reader = csv.DictReader(io.StringIO(text, newline=""))
    missing = [name for name in FIELDS[:-1] if name not in (reader.fieldnames or ())]
    if missing:
        yield 1, {}, f"the header lacks {', '.join(missing)}"
        return
    try:
        for row in reader:
            extra = row.pop(None, None)  # type: ignore[call-overload]
            yield reader.line_num, row, "more fields than the header has" if extra else ""
    except csv.Error as error:
        yield reader.line_num, {}, f"not valid CSV ({error}): is a quotation mark left open?"


def _fault(row: dict[str, Any]) -> str:
    """Why `row` is no prompt, or ""."""
    unknown = set(row) - set(FIELDS)
    if unknown:
        return f"unknown field {', '.join(sorted(unknown))}; known are {', '.join(FIELDS)}"
    for name in FIELDS[:-1]:
        if not row.get(name) or (isinstance(row[name], str) and not row[name].strip()):
            return f"{name} is missing or empty"
    for name, value in row.items():
        if value is not None and (fault := _text_fault(value)):
            return f"{name} {fault}"
    for name, choices in (("language", Language.values), ("split", Split.values)):
        if row.get(name) and row[name] not in choices:
            return f"{name} is {row[name]!r}: give {' or '.join(choices)}"
    for name, limit in (("text", MAX_TEXT), ("theme", 60), ("story_type", 60), ("age_band", 12)):
        if len(row[name]) > limit:
            return f"{name} is longer than {limit} characters"
    return ""


def _text_fault(value: Any) -> str:
    if not isinstance(value, str):
        return f"is {value!r}: give text, in quotation marks"
    if "\x00" in value or any("\ud800" <= c <= "\udfff" for c in value):
        return "holds a character that is no text (NUL or half a surrogate pair)"
    return ""


READERS = {".csv": _csv_rows, ".jsonl": _jsonl_rows, ".ndjson": _jsonl_rows}
