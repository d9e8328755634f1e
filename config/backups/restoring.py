"""Restoring a backup into an installation that has nothing yet, or is told to be replaced."""

import re
from collections.abc import Callable
from pathlib import Path

from django.conf import settings
from django.core.management import CommandError, call_command
from django.db.migrations.loader import MigrationLoader

from config.backups import client, database, files, manifest
from config.backups.manifest import DATABASE, ELSEWHERE, EXPORTS, MODELS, BadBackup, Manifest
from generation.stores.cache import unmark_all
from generation.stores.faults import StoreFault
from generation.stores.places import apart
from generation.version import VERSION


class CannotRestore(RuntimeError):
    """The message says why and what to do. Nothing was changed."""


def restore_backup(folder: Path, *, replace: bool, say: Callable[[str], None]) -> dict[str, str]:
    """Put files and database back; {old folder: new folder} of the places. It can be done again after a kill.

    The files come first: rows never name what is not there. Raises BadBackup, CannotRestore, DatabaseFailed, NoClient,
    OSError.
    """
    found = checked(folder, say)
    check_code(found)
    _check_server(found)
    _check_database(replace)
    moved = {source: str(_place_of(name, source, found, folder)) for name, source in found.places.items()}
    _check_files(folder, found, moved, replace)
    for name in found.places:
        say(f"Copying to {moved[found.places[name]]}")
        _put_files(folder, found, name, Path(moved[found.places[name]]))
    unmark_all()
    say("Restoring the database")
    database.restore(folder / DATABASE, moved)
    if (now := database.counts()) != found.counts:
        wrong = sorted(name for name in now.keys() | found.counts if now.get(name) != found.counts.get(name))
        raise database.DatabaseFailed(f"The rows of {', '.join(wrong)} are not as many as were dumped.")
    say("Bringing the database to this version")
    call_command("migrate", verbosity=0)
    _publish(say)
    return moved


def _publish(say: Callable[[str], None]) -> None:
    """What other machines have to see goes into the model store, if there is one apart."""
    if not apart():
        return
    say(f"Publishing to {settings.MODEL_STORE}")
    try:
        call_command("publish_models", verbosity=0)
    except (CommandError, StoreFault, OSError) as error:
        say(f"Not all is in the model store: {error} Mend it, then give manage.py publish_models.")


def checked(folder: Path, say: Callable[[str], None]) -> Manifest:
    """The backup's manifest, when every file is as it was. Raises BadBackup."""
    found = manifest.read(folder)
    say(f"Checking {len(found.files)} files")
    for _name in manifest.check(folder, found):
        pass
    return found


def check_code(found: Manifest) -> None:
    """Raise CannotRestore if this code is older than the backup: it would not know what it reads."""
    known = MigrationLoader(None).disk_migrations
    strange = [f"{app}.{name}" for app, names in found.migrations.items() for name in names if (app, name) not in known]
    if strange:
        raise CannotRestore(
            f"The backup was made by Storyloop {found.storyloop}, which is newer than this one ({VERSION}): it knows "
            f"{strange[0]}. Install that version or a newer one, then restore."
        )


def _check_server(found: Manifest) -> None:
    if (server := client.server_version()) < found.postgres:
        raise CannotRestore(
            f"The backup comes from PostgreSQL {found.postgres}, and this server is {server}. Use a server of version "
            f"{found.postgres} or newer."
        )


def _check_database(replace: bool) -> None:
    if database.is_used() and not replace:
        raise CannotRestore(
            "The database is not empty. Name an empty one with DATABASE_URL (or STORYLOOP_VAR); or, if all that it "
            "holds may go, say --replace."
        )
    if others := database.others():
        raise CannotRestore(
            f"{others} other sessions use the database. Stop the web server, the workers and the beat, then restore."
        )


def _place_of(name: str, source: str, found: Manifest, folder: Path) -> Path:
    """Where a place's files belong on this machine."""
    if name in (MODELS, EXPORTS):
        return Path(settings.MODEL_DIR if name == MODELS else settings.EXPORT_DIR)
    if all(_is_same(Path(source) / path.relative_to(folder / name), path, found, folder) for path in _of(folder, name)):
        return Path(source)  # the very model is where it was
    tidy = re.sub(r"[^A-Za-z0-9._-]", "-", Path(source).name)
    return Path(settings.MODEL_DIR) / f"restored-{name.removeprefix(ELSEWHERE + '/')}-{tidy}"


def _of(folder: Path, name: str) -> list[Path]:
    return [path for path in (folder / name).rglob("*") if path.is_file()]


def _is_same(there: Path, path: Path, found: Manifest, folder: Path) -> bool:
    entry = found.files[path.relative_to(folder).as_posix()]
    if not there.is_file() or there.stat().st_size != entry.bytes:
        return False
    return manifest.digest_of(there) == entry.sha256


def _check_files(folder: Path, found: Manifest, moved: dict[str, str], replace: bool) -> None:
    """Raise CannotRestore if a file would be written over by another one."""
    for name, source in found.places.items():
        for path in _of(folder, name):
            there = Path(moved[source]) / path.relative_to(folder / name)
            if there.exists() and not replace and not _is_same(there, path, found, folder):
                raise CannotRestore(
                    f"{there} is there already, and is another file than the backup's. Name other folders with "
                    "STORYLOOP_MODEL_DIR and STORYLOOP_EXPORT_DIR; or, if it may go, say --replace."
                )


def _put_files(folder: Path, found: Manifest, name: str, target: Path) -> None:
    for path in _of(folder, name):
        there = target / path.relative_to(folder / name)
        if _is_same(there, path, found, folder):
            continue
        there.parent.mkdir(parents=True, exist_ok=True)
        temporary = there.with_name(f".{there.name}.tmp")
        temporary.unlink(missing_ok=True)
        with path.open("rb") as file:
            entry = files.copy(file, temporary)
        if entry != found.files[path.relative_to(folder).as_posix()]:
            temporary.unlink()
            raise BadBackup(f"{path} changed while it was restored. Use another backup.")
        temporary.replace(there)
