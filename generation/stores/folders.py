"""Policies' folders in the store: publishing, fetching, looking, deleting. Without a store apart: nothing to do."""

import hashlib
import logging
import os
import shutil
import struct
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from django.core.files import File

from generation.stores import cache, manifest
from generation.stores.faults import BUSY, DAMAGED, MISSING, StoreFault, is_silent, told, tolerated
from generation.stores.manifest import Kept, Manifest
from generation.stores.places import apart, in_haste, is_kept, key_of, store

log = logging.getLogger(__name__)

HEADER = 1 << 28  # bytes of a safetensors header that are believed
MOMENT, PATIENCE = 1.0, 600.0  # seconds: a copy that is to be replaced is used by somebody
_process = ExitStack()  # what hold() holds, until the process ends


def publish(folder: Path, *, source: Path | None = None, again: bool = False) -> bool:
    """Put `folder` into the store, from `source` if it lies elsewhere; the manifest last. StoreFault, OSError.

    What is there whole already, and the same, is left alone: False. `again` writes every file anew.
    """
    if not apart():
        return False
    key, source = key_of(folder), source or folder
    found = manifest.of_folder(source)
    new = again or manifest.read(key) != found
    if new:
        with told(store()):
            manifest.delete(key)
            for name in found.files:
                with (source / name).open("rb") as file:
                    store().save(f"{key}/{name}", File(file, name))
            manifest.write(key, found)
    if folder.is_dir():
        cache.mark(folder, found)
    return new


def require(folder: Path) -> None:
    """StoreFault if the store has no whole `folder`, and this machine neither."""
    if apart() and is_kept(folder) and not folder.is_dir():
        manifest.require(key_of(folder))


@contextmanager
def at_hand(folders: Iterable[Path]) -> Iterator[None]:
    """These folders lie whole on this machine as long as the block lasts. StoreFault, OSError (a full disk)."""
    with ExitStack() as stack:
        for folder in dict.fromkeys(folders) if apart() else ():
            if is_kept(folder):
                stack.enter_context(_used(folder))
        yield


def hold(*folders: Path) -> None:
    """The same until this process ends: for commands."""
    _process.enter_context(at_hand(folders))


@contextmanager
def _used(folder: Path) -> Iterator[None]:
    ends = time.monotonic() + PATIENCE
    other: Manifest | None = None  # what the store has, if the copy here was found to be another one
    while True:
        with cache.locked(folder):
            if folder.is_dir() and (other := _not_the_same(folder, other)) is None:
                yield
                return
        with cache.locked(folder, exclusive=True, wait=False) as mine:  # one fetches, the others wait for their share
            if mine and folder.is_dir() and other:
                cache.set_aside(folder)
            if mine and not folder.is_dir():
                _fetch(folder)
        if not mine:
            if time.monotonic() > ends:
                raise StoreFault(BUSY, key=key_of(folder))
            time.sleep(MOMENT)


def _not_the_same(folder: Path, known: Manifest | None) -> Manifest | None:
    """What the store has instead of the copy here; None if that may be used: it is the same, or the store has none, or
    does not answer. known: what this has said before: a copy is hashed once, and without a mark alone.

    Another one may be here: an upload was killed and another machine has trained the round, or a backup was put back.
    """
    try:
        with in_haste():  # it is at hand: a store that is slow holds nobody up
            found = manifest.read(key_of(folder))
    except StoreFault as error:
        log.warning("%s is used as it is here: %s", folder, error)
        return None
    if found is None or found == cache.marked(folder):
        return None
    if cache.is_marked(folder) or found == known or manifest.of_folder(folder) != found:
        return found
    cache.mark(folder, found)
    return None


def _fetch(folder: Path) -> None:
    cache.clear_away()
    key = key_of(folder)
    found = manifest.require(key)
    cache.make_room(found.size, folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    for left in folder.parent.glob(f".{folder.name}.fetch.*"):  # of a process that was killed: the lock is ours
        shutil.rmtree(left, ignore_errors=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.fetch.", dir=folder.parent))
    temporary.chmod(0o755)
    try:
        for name, kept in found.files.items():
            with (temporary / name).open("wb") as file:
                for chunk in checked(key, name, kept):
                    file.write(chunk)
                file.flush()
                os.fsync(file.fileno())
            os.utime(temporary / name, (found.made, found.made))
        temporary.rename(folder)
        cache.mark(folder, found)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def checked(key: str, name: str, kept: Kept) -> Iterator[bytes]:
    """The file's bytes. StoreFault at its end if they are not those that were published."""
    digest = hashlib.sha256()
    with told(store()):
        try:
            for chunk in store().stream(f"{key}/{name}"):
                digest.update(chunk)
                yield chunk
        except FileNotFoundError as error:
            raise StoreFault(MISSING, key=f"{key}/{name}") from error
    if digest.hexdigest() != kept.sha256:
        raise StoreFault(DAMAGED, file=f"{key}/{name}")


# -- looking, without the weights


def seen(folder: Path) -> Path:
    """`folder`, or on a machine that does not have it an outline: all but the weights, of which there are
    the headers and, as holes that take no room, the length. Nobody loads it.

    `folder` itself if the store has none or does not answer: who looks finds nothing there.
    """
    if not apart() or not is_kept(folder) or folder.is_dir():
        return folder
    outline = cache.outline_of(folder)
    if not outline.is_dir() and not is_silent(folder):
        with tolerated(folder):
            _draw(folder, outline)
    return outline if outline.is_dir() else folder


def seen_or_fault(folder: Path) -> Path:
    """The same. StoreFault, OSError."""
    if not apart() or not is_kept(folder) or folder.is_dir():
        return folder
    outline = cache.outline_of(folder)
    if not outline.is_dir():
        _draw(folder, outline)
    return outline


def _draw(folder: Path, outline: Path) -> None:
    key = key_of(folder)
    found = manifest.require(key)
    outline.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{outline.name}.drawn.", dir=outline.parent))
    try:
        for name, kept in found.files.items():
            path = temporary / name
            if path.suffix == ".safetensors":
                path.write_bytes(_header(key, name))
                os.truncate(path, kept.size)
            else:
                path.write_bytes(b"".join(checked(key, name, kept)))
            os.utime(path, (found.made, found.made))
        if not outline.is_dir():
            temporary.rename(outline)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _header(key: str, name: str) -> bytes:
    """The first bytes of a safetensors file: a length, and so many bytes of JSON."""
    found, wanted = b"", 8
    with told(store()):
        stream = store().stream(f"{key}/{name}")
        try:
            for chunk in stream:
                found += chunk
                if wanted == 8 and len(found) >= 8:
                    wanted += min(struct.unpack("<Q", found[:8])[0], HEADER)
                if len(found) >= wanted > 8:
                    break
        except FileNotFoundError as error:
            raise StoreFault(MISSING, key=f"{key}/{name}") from error
        finally:
            stream.close()
    return found[:wanted]


@dataclass(frozen=True)
class Stored:
    """A file in the store. made: seconds since 1970; chunks: its bytes from a place on."""

    name: str
    size: int
    sha256: str
    made: int
    chunks: Callable[[int], Iterator[bytes]]


def listed(folder: Path) -> list[Stored]:
    """The files of `folder` in the store. StoreFault."""
    key = key_of(folder)
    found = manifest.require(key)

    def chunks_of(name: str, kept: Kept) -> Callable[[int], Iterator[bytes]]:
        # what is read from its first byte on is checked at its last
        return lambda start: _from(f"{key}/{name}", start) if start else checked(key, name, kept)

    return [
        Stored(name, kept.size, kept.sha256, found.made, chunks_of(name, kept)) for name, kept in found.files.items()
    ]


def _from(name: str, start: int) -> Iterator[bytes]:
    with told(store()):
        yield from store().stream(name, start)


# -- deleting


def size_in_store(folder: Path) -> int:
    """Bytes, of what an interrupted deletion has left, too; 0 without a store apart. StoreFault."""
    if not apart() or not is_kept(folder):
        return 0
    key = key_of(folder)
    with told(store()):
        return sum(store().size(f"{key}/{name}") for name in manifest.names_in(key))


def left_in_store(folder: Path) -> int:
    """The same for pages: 0, too, if the store does not answer."""
    if not is_silent(folder):
        with tolerated(folder):
            return size_in_store(folder)
    return 0


def delete(folder: Path) -> None:
    """From the store; what is not there is passed over, so that it can be done again. StoreFault."""
    if not apart() or not is_kept(folder):
        return
    key = key_of(folder)
    with told(store()):
        manifest.delete(key)
        for name in manifest.names_in(key):
            store().delete(f"{key}/{name}")
    cache.unmark(folder)
    shutil.rmtree(cache.outline_of(folder), ignore_errors=True)
