"""Making a backup, while people judge and a round trains."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from django.conf import settings
from django.utils import timezone

from config.backups import client, database, files
from config.backups.manifest import DATABASE, ELSEWHERE, EXPORTS, MODELS, Entry, Manifest, digest_of
from generation.stores import single
from generation.stores.faults import ABSENT, StoreFault
from generation.stores.folders import at_hand
from generation.stores.places import INNER, OUTLINES, apart
from generation.version import VERSION

CHECKPOINTS = ("checkpoint", "best")
SPARE_BYTES = 64 * 2**20


class CannotBackUp(RuntimeError):
    """The message says why and what to do. Nothing is left behind."""


@dataclass(frozen=True)
class Place:
    """A folder that is taken along, or `only` some files of it, and its name in the backup."""

    name: str
    source: Path
    only: tuple[str, ...] = ()


def write_backup(target: Path, *, checkpoints: bool, say: Callable[[str], None]) -> Manifest:
    """Write a backup into the new folder `target`. Raises CannotBackUp, DatabaseFailed, NoClient, CannotCopy, OSError.

    The files are copied after the moment that the database is dumped at: what its rows name was written before
    it. checkpoints: also of rounds that can still go on; without, such a round trains from its first step again.
    """
    _check_target(target)
    with _appearing(target) as folder, database.snapshot() as now, _fetched(now, say):
        places = _places(now.policies(), now.exports())
        without = (INNER, OUTLINES, *(() if checkpoints else CHECKPOINTS))
        _check_room(folder, places, without)
        manifest = Manifest(
            storyloop=VERSION,
            made_at=timezone.now().isoformat(timespec="seconds"),
            postgres=client.server_version(),
            migrations=now.migrations(),
            counts=now.counts(),
            places={place.name: str(place.source) for place in places},
            at_work=now.at_work(),
        )
        say("Copying the database")
        now.dump(folder / DATABASE)
        manifest.files[DATABASE] = Entry((folder / DATABASE).stat().st_size, digest_of(folder / DATABASE))
        for place in places:
            say(f"Copying {place.source}")
            for name, entry in files.copy_tree(place.source, folder / place.name, without=without, only=place.only):
                manifest.files[f"{place.name}/{name}"] = entry
        manifest.missing = _missing(now, manifest)
        manifest.write(folder)
    return manifest


@contextmanager
def _fetched(now: database.Snapshot, say: Callable[[str], None]) -> Iterator[None]:
    """What lies in a model store apart is on this machine while it is copied."""
    named = [Path(policy[name]) for policy in now.policies() for name in ("path", "adapter_path") if policy.get(name)]
    if apart():
        say(f"Fetching from {settings.MODEL_STORE}")
    with ExitStack() as stack:
        for path in (*now.exports(), *now.made_for_people()) if apart() else ():
            _if_there(partial(single.get, Path(path)), say)
        for folder in named:
            _if_there(partial(stack.enter_context, at_hand([folder])), say)
        yield


def _if_there(fetch: Callable[[], object], say: Callable[[str], None]) -> None:
    """One file or folder that the store has lost keeps nothing else from being backed up: it is told."""
    try:
        fetch()
    except StoreFault as error:
        if error.code in ABSENT:
            raise CannotBackUp(f"{error} Nothing was backed up.") from error
        say(str(error))


def _check_target(target: Path) -> None:
    if target.exists():
        raise CannotBackUp(f"{target} is there already. Name a new folder: nothing is written over.")
    for place in (settings.MODEL_DIR, settings.EXPORT_DIR):
        if target.is_relative_to(place):
            raise CannotBackUp(f"{target} lies in {place}, which is to be copied. Name a folder elsewhere.")


@contextmanager
def _appearing(target: Path) -> Iterator[Path]:
    """A folder for its owner alone, that gets its name when all is on the disk."""
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = target.with_name(f".{target.name}.{os.getpid()}.unfinished")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    try:
        yield folder
        files.sync_folders(folder)
        folder.rename(target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _places(policies: list[dict[str, Any]], exports: list[str]) -> list[Place]:
    """Models, exports, and what lies elsewhere: models that everything began with, files from before a folder moved."""
    found = [Place(MODELS, Path(settings.MODEL_DIR)), Place(EXPORTS, Path(settings.EXPORT_DIR))]
    folders = [Path(policy[name]) for policy in policies for name in ("path", "adapter_path") if policy.get(name)]
    outside: dict[Path, tuple[str, ...]] = {
        folder: () for folder in folders if not folder.is_relative_to(settings.MODEL_DIR)
    }
    for file in map(Path, exports):
        if not file.is_relative_to(settings.EXPORT_DIR) and outside.get(file.parent, ("",)):
            outside[file.parent] = (*outside.get(file.parent, ()), file.name)
    places = enumerate(outside.items())
    return found + [Place(f"{ELSEWHERE}/{number}", folder, only) for number, (folder, only) in places]


def _check_room(folder: Path, places: list[Place], without: tuple[str, ...]) -> None:
    wanted = sum(files.size_of(place.source, without=without) for place in places) + SPARE_BYTES
    free = shutil.disk_usage(folder).free
    if free < wanted:
        raise CannotBackUp(
            f"The files take {wanted // 2**20} MB and only {free // 2**20} MB are free in {folder.parent}. "
            "Free some, or name a folder on another disk."
        )


def _missing(now: database.Snapshot, manifest: Manifest) -> list[str]:
    """Paths that the rows name and of which the backup has no file."""
    named = [policy[name] for policy in now.policies() for name in ("path", "adapter_path") if policy.get(name)]
    return [path for path in dict.fromkeys(named + now.exports()) if not _is_there(path, manifest)]


def _is_there(path: str, manifest: Manifest) -> bool:
    for place, source in manifest.places.items():
        if Path(path).is_relative_to(source):
            name = f"{place}/{Path(path).relative_to(source).as_posix()}".removesuffix("/.")
            if any(file == name or file.startswith(name + "/") for file in manifest.files):
                return True
    return False
