"""The copies that this machine has of what lies in the store: who uses which, and which go when room is short.

A file lock for each copy says that it is used (shared) or changed (exclusive); the kernel gives it back when its
process dies. A copy that has a mark (.store/*.json) is in the store too, and may go; work that is not, never.
"""

import errno
import fcntl
import logging
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from django.conf import settings

from generation.stores.manifest import Manifest, parse
from generation.stores.places import INNER, OUTLINES

log = logging.getLogger(__name__)

SPARE = 256 * 2**20  # bytes that stay free beside a copy
GIGABYTE = 10**9
DAY = 24 * 60 * 60  # seconds
OTHERS = ".*.other.*"
LEFT = {".*.fetch.*": DAY, ".*.gone.*": DAY, ".*.drawn.*": DAY, OTHERS: 7 * DAY}


def is_marked(folder: Path) -> bool:
    return folder.is_dir() and _mark(folder).exists()


def mark(folder: Path, found: Manifest) -> None:
    """`folder` is what the store has."""
    _mark(folder).parent.mkdir(parents=True, exist_ok=True)
    temporary = _mark(folder).with_suffix(f".{os.getpid()}.tmp")
    temporary.write_text(found.as_json())
    temporary.replace(_mark(folder))


@contextmanager
def locked(folder: Path, *, exclusive: bool = False, wait: bool = True) -> Iterator[bool]:
    """The lock of the copy; False if somebody has it and `wait` is not meant."""
    path = _mark(folder).with_suffix(".lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:  # NFS gives a shared lock to who can read
        try:
            fcntl.flock(file, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        if not exclusive:
            os.utime(path)  # used last
        yield True


def make_room(size: int, for_whom: Path) -> None:
    """Delete copies, least lately used first, until `size` bytes more fit. OSError (ENOSPC) if they do not."""
    limit = settings.MODEL_CACHE_GB * GIGABYTE
    copies = _copies()
    total = sum(copies.values())
    settings.MODEL_DIR.mkdir(parents=True, exist_ok=True)
    if _is_short(size):
        for other in _left(OTHERS):
            shutil.rmtree(other, ignore_errors=True)
    for folder in sorted(copies, key=_used):
        if not _is_short(size) and not (limit and total + size > limit):
            return
        if folder != for_whom and forget(folder):
            total -= copies[folder]
    if _is_short(size):
        raise OSError(errno.ENOSPC, "No space left on device", str(for_whom))


def _is_short(size: int) -> bool:
    return shutil.disk_usage(settings.MODEL_DIR).free < size + SPARE


def marked(folder: Path) -> Manifest | None:
    """What the mark says that the store has."""
    try:
        return parse(_mark(folder).read_bytes())
    except FileNotFoundError:
        return None


def set_aside(folder: Path) -> None:
    """It is not what the store has: it stays on the disk for a week, or until room is short. The lock is ours."""
    other = folder.with_name(f".{folder.name}.other.{time.time_ns()}")
    folder.rename(other)
    os.utime(other)
    unmark(folder)
    log.warning("%s is not what the model store has: it is fetched from there; the one of before is %s", folder, other)


def clear_away() -> None:
    """Delete what fetches and deletions left that were killed, after a day, and what was set aside, after a week."""
    for pattern, seconds in LEFT.items():
        for path in _left(pattern):
            if path.stat().st_mtime < time.time() - seconds:
                shutil.rmtree(path, ignore_errors=True)


def _left(pattern: str) -> list[Path]:
    root = Path(settings.MODEL_DIR)
    places = (root.glob(pattern), root.glob(f"*/{pattern}"), (root / OUTLINES).glob(f"**/{pattern}"))
    return [path for found in places for path in found]


def unmark_all() -> None:
    """Nothing here is known to be the store's: a backup was put back."""
    for path in (Path(settings.MODEL_DIR) / INNER).glob("*.json"):
        path.unlink()


def forget(folder: Path) -> bool:
    """Delete the copy here; False if somebody uses it. What is not in the store is left alone."""
    with locked(folder, exclusive=True, wait=False) as mine:
        if not mine or not is_marked(folder):
            return False
        gone = folder.with_name(f".{folder.name}.gone.{os.getpid()}")
        folder.rename(gone)  # at once: nobody sees half of it
        _mark(folder).unlink()
        shutil.rmtree(gone, ignore_errors=True)
    log.info("the copy of %s on this machine was deleted: it is in the model store", folder)
    return True


def unmark(folder: Path) -> None:
    """What lies here is in no store any more."""
    _mark(folder).unlink(missing_ok=True)


def outline_of(folder: Path) -> Path:
    return Path(settings.MODEL_DIR) / OUTLINES / folder.relative_to(settings.MODEL_DIR)


def _copies() -> dict[Path, int]:
    """Folders with a mark, and their bytes."""
    found = {}
    for path in (Path(settings.MODEL_DIR) / INNER).glob("*.json"):
        folder = Path(settings.MODEL_DIR) / path.stem.replace("~", "/")
        known = parse(path.read_bytes())
        if folder.is_dir() and known:
            found[folder] = known.size
    return found


def _used(folder: Path) -> float:
    path = _mark(folder).with_suffix(".lock")
    return path.stat().st_mtime if path.exists() else 0.0


def _mark(folder: Path) -> Path:
    name = folder.relative_to(settings.MODEL_DIR).as_posix().replace("/", "~")
    return Path(settings.MODEL_DIR) / INNER / f"{name}.json"
