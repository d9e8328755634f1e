"""The log as a file: JSONL without loss, or CSV for a spreadsheet; read in pieces, whatever its length."""

import json
from collections.abc import Iterable, Iterator
from datetime import UTC
from typing import Any

from django.contrib.auth.models import User

from config.audit.words import what, who
from config.models_audit import AuditEntry, AuditEntryQuerySet
from generation.spreadsheets import csv_lines

PIECE = 2000
COLUMNS = ("id", "at", "kind", "what", "actor", "actor_name", "source", "through", "request_id", "object_type",
           "object_id", "label", "facts")  # fmt: skip


def rows(found: AuditEntryQuerySet) -> Iterator[dict[str, Any]]:
    """Newest first. Times are UTC, ISO 8601."""
    last: AuditEntry | None = None
    while piece := list((found.before(last) if last else found)[:PIECE]):
        people = dict(User.objects.filter(pk__in={one.actor_id for one in piece}).values_list("pk", "username"))
        for one in piece:
            yield _row(one, people)
        last = piece[-1]


def jsonl(found: AuditEntryQuerySet) -> Iterator[str]:
    return (json.dumps(row, ensure_ascii=False) + "\n" for row in rows(found))


def csv(found: AuditEntryQuerySet) -> Iterator[str]:
    return csv_lines(_table(rows(found)))


WRITERS = {"jsonl": jsonl, "csv": csv}


def _table(found: Iterable[dict[str, Any]]) -> Iterator[list[Any]]:
    yield list(COLUMNS)
    for row in found:
        yield [json.dumps(row[name], ensure_ascii=False) if name == "facts" else row[name] for name in COLUMNS]


def _row(entry: AuditEntry, people: dict[int, str]) -> dict[str, Any]:
    return {
        "id": entry.pk,
        "at": entry.at.astimezone(UTC).isoformat(),
        "kind": entry.kind,
        "what": what(entry.kind),
        "actor": entry.actor_id,
        "actor_name": who(entry, people),
        "source": entry.source,
        "through": entry.through,
        "request_id": entry.request_id,
        "object_type": entry.object_type,
        "object_id": entry.object_id,
        "label": entry.label,
        "facts": entry.facts,
    }
