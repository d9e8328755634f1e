"""Importing prompts from a file: all rows or none, each fault with its line."""

import csv
import io
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.db import connection, transaction

from generation.models import Language, Prompt, Split
from generation.sql import among_texts

FIELDS = ("text", "language", "theme", "story_type", "age_band", "split")
MAX_TEXT = 4000
AT_ONCE = 1_000  # rows of one statement: PostgreSQL takes 65,535 values
STORING = 0x50726F6D70  # "Promp": the lock of who stores prompts

Faults = list[tuple[int, str]]  # (place, what is wrong)


class BadPrompts(ValueError):
    """The file cannot be imported: `faults` says why, a line each. Nothing was imported."""

    def __init__(self, faults: list[str], places: list[tuple[int, str]] | None = None) -> None:
        super().__init__("\n".join(faults))
        self.faults, self.places = faults, places or []


@dataclass(frozen=True)
class Imported:
    """How many prompts are new, and how many were known already (by text) and left as they are.

    ids: of all of them, in their order.
    """

    new: int
    known: int
    ids: list[int] = field(default_factory=list, compare=False)


def import_prompts(path: Path) -> Imported:
    """Import a JSONL or CSV file of prompts. Raises BadPrompts with every fault found."""
    rows, faults = _checked(_rows(path))
    if faults:
        raise BadPrompts([f"line {line}: {fault}" for line, fault in faults])
    if not rows:
        raise BadPrompts([f"{path.name} holds no prompts."])
    return _store(rows)


def add_prompts(given: list[dict[str, Any]]) -> Imported:
    """Store prompts that were sent. Raises BadPrompts, with the place of each fault in the list, from 0."""
    rows, faults = _checked(((place, row, "") for place, row in enumerate(given)), of="prompt")
    if faults:
        raise BadPrompts([f"prompt {place}: {fault}" for place, fault in faults], faults)
    return _store(rows)


def _checked(given: Iterable[tuple[int, dict[str, Any], str]], of: str = "line") -> tuple[list[Prompt], Faults]:
    rows: list[Prompt] = []
    faults: Faults = []
    seen: dict[str, int] = {}
    for place, row, torn in given:
        fault = torn or _fault(row)
        text = str(row.get("text", "")).strip()
        if fault:
            faults.append((place, fault))
        elif text in seen:
            faults.append((place, f"the same text as {of} {seen[text]}"))
        else:
            seen[text] = place
            rows.append(Prompt(**{name: str(row[name]).strip() for name in FIELDS if row.get(name)}))
    return rows, faults


@transaction.atomic
def _store(rows: list[Prompt]) -> Imported:
    with connection.cursor() as cursor:  # two at once with one text: the second finds it there
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [STORING])
    found = Prompt.objects.filter(text__in=among_texts(row.text for row in rows))
    known = dict(found.values_list("text", "pk"))
    new = Prompt.objects.bulk_create([row for row in rows if row.text not in known], batch_size=AT_ONCE)
    ids = known | {row.text: row.pk for row in new}
    return Imported(new=len(new), known=len(known), ids=[ids[row.text] for row in rows])


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
