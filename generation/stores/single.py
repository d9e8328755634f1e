"""Single files that more than one machine reads: frozen pairs, exports, uploads, a round's log and figures."""

import hashlib
import logging
import tempfile
import time
from io import BytesIO
from pathlib import Path

from django.core.files import File

from generation.stores.faults import MISSING, StoreFault, is_silent, told, tolerated
from generation.stores.places import apart, in_haste, is_kept, key_of, store

log = logging.getLogger(__name__)


def put(path: Path) -> None:
    """Into the store, if there is one apart. StoreFault."""
    if apart() and is_kept(path):
        with told(store()), path.open("rb") as file:
            store().save(key_of(path), File(file, path.name))


def get(path: Path, *, sha256: str = "") -> Path:
    """`path`, fetched if this machine does not have it, or has not the file of `sha256`. StoreFault if it cannot be.

    What the store has may be another one, too: who says a digest compares.
    """
    if apart() and is_kept(path) and not (path.exists() and (not sha256 or _digest(path) == sha256)):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        try:
            with told(store()), open(descriptor, "wb") as file:
                for chunk in store().stream(key_of(path)):
                    file.write(chunk)
            if not path.exists() or _digest(Path(name)) == sha256:  # else both are wrong: who compares says so
                Path(name).chmod(0o644)
                Path(name).replace(path)
        except FileNotFoundError as error:
            if not path.exists():
                raise StoreFault(MISSING, key=key_of(path)) from error
        finally:
            Path(name).unlink(missing_ok=True)
    return path


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def find(path: Path) -> Path:
    """The same for pages: where it cannot be fetched there is nothing at `path`."""
    if not path.exists() and not is_silent(path):
        with tolerated(path):
            get(path)
    return path


def drop(path: Path) -> None:
    """Delete it here and in the store. Best effort there: what it leaves, drop_older deletes."""
    path.unlink(missing_ok=True)
    if apart() and is_kept(path):
        with tolerated(path), told(store()):
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
    with in_haste(), tolerated(path):
        if is_silent():
            return
        with path.open("rb") as file:
            file.seek(max(file.seek(0, 2) - most, 0))
            content = file.read(most)
        with told(store()):
            store().save(key_of(path), File(BytesIO(content), path.name))


def tail(path: Path) -> bytes | None:
    """What put_tail has put; None if there is nothing, or no store apart."""
    if not apart() or not is_kept(path) or is_silent(path):
        return None
    with tolerated(path):
        try:
            with told(store()):
                return b"".join(store().stream(key_of(path)))
        except FileNotFoundError:  # it has said nothing yet
            return None
    return None
