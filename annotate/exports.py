"""Frozen exports: a row that says what a file holds, and the file, whole or not there.

Each step can be done again after a kill. A finished file is never written again.
"""

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import F
from django.utils import timezone
from django.utils.translation import gettext as _

from annotate import formats
from annotate.models import Export, ExportState, Format, Layout
from annotate.models.data import AT_WORK
from annotate.pairs import NoPairs
from annotate.selections import BadSelection, Selection
from annotate.votes import votes_on
from generation import locks
from generation.stores import single
from generation.stores.faults import ABSENT, StoreFault

NAMESPACE = 0x45787074  # "Expt": locks of those who write exports, by the export's id
ATTEMPTS = 3  # a worker that dies over an export each time shall not die over it for ever
AT_ONCE = 500  # judgements that a request waits for; more are a worker's
BEAT = 1.0  # seconds between notes of the progress


class BadExport(ValueError):
    """It cannot be made like this; the message says why. Nothing is kept."""


@dataclass(frozen=True)
class Finding:
    """What verifying found of one finished export. fault: "" if its file is as it was."""

    export: Export
    fault: str


def begin_export(
    *, by: User | None, purpose: str, selection: Selection, format: str = Format.JSONL, layout: str = Layout.PAIRS
) -> Export:
    """The row of an export that is still to be written. Raises BadExport.

    Where the selection says no `until`, it is now: run again, it finds the same judgements.
    """
    selection = selection if selection.until else replace(selection, until=timezone.now().isoformat())
    try:
        selection.check()
    except BadSelection as error:
        raise BadExport(str(error)) from error
    if layout != Layout.PAIRS and format not in (Format.JSONL, Format.PARQUET):
        raise BadExport(_("Only JSONL and Parquet can hold conversations, or a prompt a line."))
    if layout == Layout.GROUPED and (selection.reasons or selection.experts):
        raise BadExport(_("Single votes belong to pairs: they cannot be told with a prompt a line."))
    if not selection.judgements().exists():
        raise BadExport(_("No judgement fits this selection: nothing would be exported. Choose less narrowly."))
    return Export.objects.create(
        made_by=by, purpose=purpose.strip()[:200], selection=selection.to_json(), format=format, layout=layout
    )


def small(selection: Selection) -> bool:
    """Whether it is written in the time that a page may take."""
    return selection.judgements()[: AT_ONCE + 1].count() <= AT_ONCE


def write_export(export_id: int) -> None:
    """Write the export's file. Left alone if it is over, or if another process is writing it now.

    Whatever ends it is on the row: the counts, or why it failed.
    """
    with locks.held(export_id % 2**31, namespace=NAMESPACE) as mine:
        export = Export.objects.at_work().filter(pk=export_id).first() if mine else None
        if export is None:
            return
        if export.attempts >= ATTEMPTS:
            _fail(export, f"Its worker has died {ATTEMPTS} times while writing, most likely for want of memory. "
                          "Export less at a time: one language, one policy.")  # fmt: skip
            return
        Export.objects.filter(pk=export.pk).update(state=ExportState.WRITING, attempts=F("attempts") + 1, done=0)
        export.refresh_from_db()
        try:
            _write(export)
        except (NoPairs, BadSelection, StoreFault) as error:
            _fail(export, str(error))
        except OSError as error:
            _fail(export, f"The file could not be written: {error}. Free some space in {directory()}, then make the "
                          "export again.")  # fmt: skip


def lonely_exports() -> list[int]:
    """Ids of exports that are not over and that nobody writes: a worker died, or the queue lost the message."""
    return [export.pk for export in Export.objects.at_work() if is_lonely(export)]


def is_lonely(export: Export) -> bool:
    """Whether nobody writes it."""
    return not locks.holders(export.pk % 2**31, namespace=NAMESPACE)


def directory() -> Path:
    return Path(settings.EXPORT_DIR)


def path_of(export: Export) -> Path:
    """Of a finished export's file."""
    return single.find(directory() / export.path)


def verify_exports() -> Iterator[Finding]:
    """Hash every finished export's file anew."""
    for export in Export.objects.finished().order_by("pk"):
        yield Finding(export, file_fault(directory() / export.path, export.sha256))


def file_fault(path: Path, sha256: str) -> str:
    """Why the file is not the one that was hashed; "" if it is. StoreFault if that cannot be known now."""
    try:
        single.get(path)
    except StoreFault as error:
        if error.code in ABSENT:
            raise
    except OSError as error:
        return f"unreadable: {error}"
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return f"missing: {path} is gone"
    except OSError as error:
        return f"unreadable: {error}"
    return "" if digest == sha256 else f"differs: SHA-256 is {digest}, it was {sha256}"


def copy_export(export: Export, path: Path) -> None:
    """Put the finished export's file at `path`, whole or not at all. OSError if it cannot be; it never overwrites."""
    with new_file(path) as target, path_of(export).open("rb") as source:
        while part := source.read(1 << 20):
            target.write(part)


@contextmanager
def new_file(path: Path, *, temporary: Path | None = None) -> Iterator[BinaryIO]:
    """A file that appears at `path` when the block has ended well, synced to the disk. FileExistsError if
    something is there."""
    check_free(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary or path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        check_free(path)
        temporary.rename(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    entry = os.open(path.parent, os.O_RDONLY)  # the name itself, too
    try:
        os.fsync(entry)
    finally:
        os.close(entry)


def check_free(path: Path) -> None:
    """FileExistsError if something is there."""
    if path.is_dir():
        raise FileExistsError(f"{path} is a directory: name a file in it")
    if path.exists():
        raise FileExistsError(f"{path} is there already, and an export never overwrites: name another file")


def _write(export: Export) -> None:
    selection = Selection.read(export.selection)
    pairs = selection.pairs()
    if not pairs:
        raise NoPairs(
            "The judgements that fit make no pair: they are ties, or equal votes, or of stories withdrawn since. "
            "Select more, or have experts judge more."
        )
    total = formats.lines(pairs, export.layout)
    Export.objects.filter(pk=export.pk).update(total=total)
    told = selection.reasons or selection.experts
    content = formats.Content(
        pairs, selection.reasons, selection.experts, votes_on(selection.judgements()) if told else None
    )
    path = directory() / _name(export)
    with new_file(path, temporary=directory() / f".export-{export.pk}.tmp") as file:
        formats.write(content, file, format=export.format, layout=export.layout, on_line=_progress(export))
    with path.open("rb") as written:
        digest = hashlib.file_digest(written, "sha256").hexdigest()
    single.put(path)
    Export.objects.filter(pk=export.pk).update(
        state=ExportState.DONE, done=total, path=path.name, count=len(pairs), size=path.stat().st_size,
        simulated=sum(pair.simulated_judgements > 0 for pair in pairs), sha256=digest, ended_at=timezone.now(),
    )  # fmt: skip


def _name(export: Export) -> str:
    """Not the number alone: another database's export 1 may lie in the same folder, and so may an attempt that
    died between the file and its row."""
    again = f"-{export.attempts}" if export.attempts > 1 else ""
    return f"export-{export.pk}-{export.created_at:%Y%m%dT%H%M%S%f}{again}{formats.suffix(export.format)}"


def _progress(export: Export) -> Callable[[int], None]:
    last = time.monotonic()

    def note(done: int) -> None:
        nonlocal last
        if time.monotonic() - last >= BEAT:
            last = time.monotonic()
            Export.objects.filter(pk=export.pk).update(done=done)

    return note


def _fail(export: Export, message: str) -> None:
    with transaction.atomic():
        Export.objects.filter(pk=export.pk, state__in=AT_WORK).update(
            state=ExportState.FAILED, message=message, ended_at=timezone.now()
        )


def repeat(export: Export) -> dict[str, Any]:
    """The keywords with which begin_export runs the same selection again. The SHA-256 is the same if nothing of it
    was changed since: no judgement, no withdrawn story."""
    return {"selection": Selection.read(export.selection), "format": export.format, "layout": export.layout}
