"""What a folder in the store holds. Written last and deleted first: without it a folder there is nothing."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.core.files.base import ContentFile

from generation.stores.faults import MISSING, StoreFault, told
from generation.stores.places import store

NAME = "storyloop-manifest.json"
# what transformers, peft and vLLM read; no code and nothing that is unpickled
SUFFIXES = {".safetensors", ".json", ".jinja", ".txt", ".model", ".tiktoken"}
NOTICES = ("LICENSE", "NOTICE", "COPYING")
CARD = "README.md"


@dataclass(frozen=True)
class Kept:
    """A file of the folder. size: bytes."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """The files by their names, and when they were made (seconds since 1970)."""

    made: int = field(compare=False)  # a copy is as good as what it was made from
    files: dict[str, Kept]

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files.values())

    def as_json(self) -> str:
        files = {name: {"bytes": file.size, "sha256": file.sha256} for name, file in sorted(self.files.items())}
        made = datetime.fromtimestamp(self.made, UTC).isoformat()
        return json.dumps({"made": made, "files": files}, indent=1) + "\n"


def is_notice(path: Path) -> bool:
    return path.name.upper().startswith(NOTICES)


def goes_along(path: Path) -> bool:
    """Whether the file belongs to the model: its weights, its settings, its license."""
    return (path.suffix in SUFFIXES or is_notice(path)) and path.name != NAME


def of_folder(folder: Path) -> Manifest:
    """Read from the disk, every byte. OSError."""
    found: dict[str, Kept] = {}
    made = 0
    for path in sorted(folder.iterdir()):
        if path.is_file() and (goes_along(path) or path.name == CARD):
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            status = path.stat()
            found[path.name] = Kept(status.st_size, digest)
            made = max(made, int(status.st_mtime))
    return Manifest(made, found)


def read(key: str) -> Manifest | None:
    """Of the store's folder; None if there is none, or a torn one. StoreFault."""
    with told(store()):
        try:
            content = b"".join(store().stream(f"{key}/{NAME}"))
        except FileNotFoundError:
            return None
    return parse(content)


def parse(content: bytes) -> Manifest | None:
    try:
        found: dict[str, Any] = json.loads(content)
        made = int(datetime.fromisoformat(found["made"]).timestamp())
        files = {name: Kept(int(one["bytes"]), str(one["sha256"])) for name, one in found["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return Manifest(made, files) if all(Path(name).name == name for name in files) else None


def require(key: str) -> Manifest:
    """StoreFault without one."""
    found = read(key)
    if found is None:
        raise StoreFault(MISSING, key=key)
    return found


def write(key: str, found: Manifest) -> None:
    store().save(f"{key}/{NAME}", ContentFile(found.as_json().encode()))


def delete(key: str) -> None:
    store().delete(f"{key}/{NAME}")


def names_in(key: str) -> Iterator[str]:
    """What lies in the store's folder, whole or not."""
    try:
        _folders, files = store().listdir(key)
    except FileNotFoundError:
        return
    yield from (name for name in files if name)
