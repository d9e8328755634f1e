"""What a backup holds: told in manifest.json, the file that is written last."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

NAME = "manifest.json"
FORMAT = 1
DATABASE = "database.dump"
MODELS, EXPORTS, ELSEWHERE = "models", "exports", "elsewhere"


class BadBackup(RuntimeError):
    """The folder is no backup, or not as it was when it was made; the message says where and what to do."""


@dataclass(frozen=True)
class Entry:
    """A file: its bytes, counted and hashed while they were copied."""

    bytes: int
    sha256: str


@dataclass
class Manifest:
    """postgres: major version of the server that was dumped. counts: rows by table, in the same moment.

    places: where things lay on that machine: models, exports, and elsewhere/0 and so on, folders of models outside
    of the model directory. missing: what the database names and the disk no longer had. at_work: numbers of the
    rounds that were under way.
    """

    storyloop: str
    made_at: str
    postgres: int
    migrations: dict[str, list[str]]
    counts: dict[str, int]
    places: dict[str, str]
    at_work: list[int] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    files: dict[str, Entry] = field(default_factory=dict)
    format: int = FORMAT

    def write(self, folder: Path) -> None:
        told = asdict(self)
        (folder / NAME).write_text(json.dumps({**told, "sha256": _digest(told)}, indent=1) + "\n")


def read(folder: Path) -> Manifest:
    """Raises BadBackup."""
    try:
        told = json.loads((folder / NAME).read_text())
        said = told.pop("sha256")
    except FileNotFoundError as error:
        raise BadBackup(f"{folder} is no backup: it has no {NAME}. One that was interrupted has none.") from error
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise BadBackup(f"{folder / NAME} cannot be read ({error}). Use another backup.") from error
    if told.get("format") != FORMAT:
        raise BadBackup(f"{folder} has format {told.get('format')!r}; this version reads {FORMAT}. Use a newer one.")
    if said != _digest(told):
        raise BadBackup(f"{folder / NAME} was changed since the backup was made. Use another backup.")
    manifest = Manifest(**{**told, "files": {name: Entry(**entry) for name, entry in told["files"].items()}})
    if unsafe := [name for name in manifest.files if not _is_inside(name)]:
        raise BadBackup(f"{folder / NAME} names a file outside of the backup: {unsafe[0]!r}. Nothing is restored.")
    return manifest


def check(folder: Path, manifest: Manifest) -> Iterator[str]:
    """Hash every file anew, telling each file's name. Raises BadBackup at the first that is not as it was."""
    there = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()}
    if strangers := sorted(there - set(manifest.files) - {NAME}):
        raise BadBackup(f"{folder / strangers[0]} is not in the manifest: the backup was changed. Use another backup.")
    for name, entry in manifest.files.items():
        yield name
        path = folder / name
        if name not in there or path.is_symlink():
            raise BadBackup(f"{path} is missing: the backup is not whole. Use another backup.")
        if digest_of(path) != entry.sha256 or path.stat().st_size != entry.bytes:
            raise BadBackup(f"{path} is not as it was when the backup was made. Use another backup.")


def digest_of(path: Path) -> str:
    """SHA-256, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest(told: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def _is_inside(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return name == DATABASE or (len(parts) > 1 and parts[0] in (MODELS, EXPORTS, ELSEWHERE) and ".." not in parts)
