"""Secrets that are made once and kept in a file of their owner's."""

import os
from collections.abc import Callable
from pathlib import Path


def kept_secret(path: Path, make: Callable[[], str]) -> str:
    """The text in `path`; made now if there is none. Whole or not at all, and one for all who ask at once."""
    if not path.exists() or not path.stat().st_size:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(make())
            file.flush()
            os.fsync(file.fileno())
        if path.exists() and not path.stat().st_size:
            path.unlink()  # left by a full disk
        try:
            os.link(temporary, path)
        except FileExistsError:
            pass  # somebody else was quicker: theirs counts
        finally:
            temporary.unlink()
    return path.read_text().strip()
