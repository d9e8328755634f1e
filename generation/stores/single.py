"""Single files that more than one machine reads: frozen pairs, exports, uploads, a round's log and figures."""

import logging
import os
import time
from io import BytesIO
from pathlib import Path

from django.core.files import File

from generation.stores.faults import MISSING, StoreFault, told
from generation.stores.places import apart, is_kept, key_of, store

log = logging.getLogger(__name__)


def put(path: Path) -> None:
    """Into the store, if there is one apart. StoreFault."""
    if apart() and is_kept(path):
        with told(store()), path.open("rb") as file:
            store().save(key_of(path), File(file, path.name))


def get(path: Path) -> Path:
    """`path`, fetched if this machine does not have it. StoreFault if it cannot be."""
    if apart() and is_kept(path) and not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            with told(store()), temporary.open("wb") as file:
                for chunk in store().stream(key_of(path)):
                    file.write(chunk)
            temporary.replace(path)
        except FileNotFoundError as error:
            raise StoreFault(MISSING, key=key_of(path)) from error
        finally:
            temporary.unlink(missing_ok=True)
    return path


def find(path: Path) -> Path:
    """The same for pages: where it cannot be fetched there is nothing at `path`."""
    try:
        return get(path)
    except (StoreFault, OSError) as error:
        log.warning("%s: %s", path, error)
        return path


def drop(path: Path) -> None:
    """Delete it here and in the store."""
    path.unlink(missing_ok=True)
    if apart() and is_kept(path):
        with told(store()):
            store().delete(key_of(path))


def drop_older(folder: Path, seconds: float) -> None:
    """Delete what has lain in the store's `folder` for longer. Best effort: nobody waits for it."""
    if not apart():
        return
    try:
        with told(store()):
            for name in store().listdir(key_of(folder / "x").rpartition("/")[0])[1]:
                key = key_of(folder / name)
                if store().get_modified_time(key).timestamp() < time.time() - seconds:
                    store().delete(key)
    except (StoreFault, OSError) as error:
        log.warning("%s: %s", folder, error)


def put_tail(path: Path, most: int) -> None:
    """The last bytes of a log that grows, for the machines that show it. A store that does not answer ends nothing."""
    if not apart() or not path.exists():
        return
    try:
        with path.open("rb") as file:
            file.seek(max(file.seek(0, 2) - most, 0))
            content = file.read(most)
        with told(store()):
            store().save(key_of(path), File(BytesIO(content), path.name))
    except (StoreFault, OSError) as error:
        log.warning("%s: %s", path, error)


def tail(path: Path) -> bytes | None:
    """What put_tail has put; None if there is nothing, or no store apart."""
    if not apart() or not is_kept(path):
        return None
    try:
        with told(store()):
            return b"".join(store().stream(key_of(path)))
    except (StoreFault, OSError) as error:
        log.info("%s: %s", path, error)
        return None
