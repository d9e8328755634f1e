"""A disk of a few kilobytes, really mounted, to be really full."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

FILLER = "filler"


@contextmanager
def small_disk(folder: Path, size: int = 4 << 20) -> Iterator[Path]:
    """A tmpfs of `size` bytes at `folder`. The test is skipped where nobody may mount one."""
    folder.mkdir(parents=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip(f"A full disk needs the right to mount one: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path, *, leaving: int = 0) -> None:
    """Take all of its space but `leaving` bytes."""
    (disk / FILLER).unlink(missing_ok=True)
    taken = shutil.disk_usage(disk).free - leaving
    with (disk / FILLER).open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, taken)


def free(disk: Path) -> None:
    (disk / FILLER).unlink()
