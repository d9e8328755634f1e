"""Copying files that others are writing: each folder is taken as it is at one moment.

Policies, checkpoints and exports are written beside their place and renamed into it. So a folder whose files are
all open is whole, whatever happens to it afterwards, and what carries a temporary name is left out.
"""

import hashlib
import os
import time
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO

from config.backups.manifest import Entry

CHUNK = 1 << 20
TRIES = 20
HALF_WRITTEN = (".new", ".tmp")
LEFT = (".fetch.", ".gone.", ".drawn.", ".other.")  # in names that begin with a dot: generation/stores/cache.py


class CannotCopy(RuntimeError):
    """The message says what and why."""


def copy_tree(
    source: Path, target: Path, *, without: Collection[str] = (), only: Collection[str] = ()
) -> Iterator[tuple[str, Entry]]:
    """Copy the folder; tells each file's name in it. `without`: names of folders that stay where they are. `only`:
    these files of it and nothing else.

    A folder that is gone when its turn comes is passed over. Raises CannotCopy, OSError.
    """
    for folder in _folders(source, without):
        files, stack = _opened(folder)
        with stack:
            for file in files:
                name = Path(file.name).relative_to(source)
                if only and str(name) not in only:
                    continue
                yield name.as_posix(), copy(file, target / name)


def copy(file: IO[bytes], target: Path) -> Entry:
    """Copy an open file to where there is none; on the disk when it returns."""
    target.parent.mkdir(parents=True, exist_ok=True)
    digest, size = hashlib.sha256(), 0
    with target.open("xb") as copied:
        while chunk := file.read(CHUNK):
            copied.write(chunk)
            digest.update(chunk)
            size += len(chunk)
        copied.flush()
        os.fsync(copied.fileno())
    return Entry(size, digest.hexdigest())


def sync_folders(root: Path) -> None:
    """Have the names in `root` and below on the disk, too."""
    for folder in (root, *(path for path in root.rglob("*") if path.is_dir())):
        descriptor = os.open(folder, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


def size_of(source: Path, *, without: Collection[str] = ()) -> int:
    """Bytes, about: others are writing."""
    size = 0
    for folder in _folders(source, without):
        for name in os.listdir(folder) if folder.exists() else []:
            path = folder / name
            size += path.stat().st_size if path.is_file() else 0
    return size


def _folders(root: Path, without: Collection[str]) -> Iterator[Path]:
    """`root` and the folders below it, those that are links too, each once."""
    seen: set[str] = set()
    for folder, below, _files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            below.clear()
            continue
        seen.add(real)
        names = set(below)
        below[:] = sorted(name for name in below if name not in without and not _is_half_written(name, names))
        yield Path(folder)


def _opened(folder: Path) -> tuple[list[IO[bytes]], ExitStack]:
    """All files of the folder, open. Raises CannotCopy if it is replaced faster than it can be opened."""
    for _try in range(TRIES):
        with ExitStack() as stack:
            try:
                before = folder.stat().st_ino
                paths = sorted(path for path in folder.iterdir() if path.is_file())
                names = {path.name for path in paths}
                wanted = [path for path in paths if not _is_half_written(path.name, names)]
                files: list[IO[bytes]] = [stack.enter_context(path.open("rb")) for path in wanted]
                if folder.stat().st_ino == before:
                    return files, stack.pop_all()
            except FileNotFoundError:
                if not folder.exists():
                    return [], ExitStack()
        time.sleep(0.1)
    raise CannotCopy(f"{folder} changes faster than it can be copied. Make the backup again.")


def _is_half_written(name: str, beside: Collection[str]) -> bool:
    """What carries the name that it has while it is written; or the one before, when the new one is there."""
    if name.startswith(".") and any(part in name for part in LEFT):
        return True
    return name.endswith(HALF_WRITTEN) or (name.endswith(".old") and name.removesuffix(".old") in beside)
