"""Two faults that every long job may meet, however the library at hand says them: a full disk, and no memory."""

import errno
import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

DISK_FULL = 87  # exit status of the processes that train, merge and write
BLOCK = 1 << 16


def is_disk_full(error: BaseException) -> bool:
    """safetensors, tokenizers and shutil have no errno for it: they say it in their text."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return any(words in str(error) for words in ("No space left on device", "Disk quota exceeded"))


def is_out_of_memory(error: BaseException) -> bool:
    """On a GPU, or of the machine: on a CPU torch and oneDNN have no exception of their own for it."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    said = ("allocate memory", "could not create a primitive", "CUDA out of memory")
    return any(words in str(error) for words in said)


def has_room(folder: Path) -> bool:
    """Whether anything can still be written there: asked by trying."""
    try:
        with tempfile.TemporaryFile(dir=existing(folder)) as file:
            file.write(bytes(BLOCK))
            file.flush()
    except OSError as error:
        return not is_disk_full(error)
    return True


def fullest(folders: Iterable[Path]) -> Path:
    """The folder whose disk has least free; the first of those on one disk."""
    return min(folders, key=lambda folder: shutil.disk_usage(existing(folder)).free)


def free_in(folder: Path) -> str:
    """For a person: what is free where `folder` lies."""
    free = shutil.disk_usage(existing(folder)).free
    return f"{free / 1e9:.1f} GB" if free >= 1e9 else f"{free / 1e6:.1f} MB"


def existing(folder: Path) -> Path:
    """The folder, or what is there of the way to it."""
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    return folder if os.access(folder, os.R_OK) else Path("/")
