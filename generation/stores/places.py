"""Whether there is a store apart from this machine's folders, and what its files are called.

A key is the path below the folder that a file has on every machine, wherever that machine keeps the folder.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.files.storage import storages

ALIAS, IN_HASTE = "models", "models_in_haste"
INNER = ".store"  # in the model directory: what this machine has fetched, and who uses it
OUTLINES = ".outlines"  # in the model directory: policies without their weights


def apart() -> bool:
    """Whether models lie in a store of their own; if not, the folders of this machine are all there is."""
    return bool(settings.MODEL_STORE)


_waits: ContextVar[bool] = ContextVar("_waits", default=False)


def store() -> Any:
    return storages[IN_HASTE if _waits.get() else ALIAS]


def is_in_haste() -> bool:
    return _waits.get()


@contextmanager
def in_haste() -> Iterator[None]:
    """A person waits: a store that is slow to answer is given up soon. Requests are (config/middleware.py)."""
    token = _waits.set(True)
    try:
        yield
    finally:
        _waits.reset(token)


def key_of(path: Path | str) -> str:
    """The file's or folder's name in the store. ValueError for a path outside of this installation's folders."""
    for name, root in _roots():
        if Path(path).is_relative_to(root) and Path(path) != root:
            return f"{name}/{Path(path).relative_to(root).as_posix()}"
    raise ValueError(f"{path} lies in no folder of this installation")


def is_kept(path: Path | str) -> bool:
    """Whether it has a place in the store: an absolute path that is somebody else's has none."""
    return any(Path(path).is_relative_to(root) and Path(path) != root for _name, root in _roots())


def _roots() -> list[tuple[str, Path]]:
    folders = (settings.MODEL_DIR, settings.EXPORT_DIR, settings.IMPORT_DIR)
    return [(name, Path(folder)) for name, folder in zip(("models", "exports", "imports"), folders, strict=True)]
