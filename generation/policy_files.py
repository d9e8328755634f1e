"""The files of policies: how much they take, what of them is taken along, and what may be deleted.

Only what lies in the model directory of this installation (STORYLOOP_MODEL_DIR) is ever deleted: a base
model that was registered from elsewhere belongs to somebody else.
"""

import hashlib
import json
import shutil
import tarfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

from generation.engines.adapters import CONFIG as ADAPTER_CONFIG
from generation.engines.values import EngineError
from generation.models import Policy
from generation.stores.folders import Stored, seen
from generation.stores.manifest import CARD, goes_along, is_notice

CHUNK = 1 << 20


@dataclass(frozen=True)
class Entry:
    """A file of a download: from the disk, from the model store, or `content` made for it. size: bytes."""

    name: str
    size: int
    modified: int
    source: Path | None = None
    content: bytes = b""
    stored: Stored | None = None

    def chunks(self, start: int = 0) -> Iterator[bytes]:
        """Its bytes from `start`. OSError if the file has become shorter meanwhile: what was said cannot be sent."""
        if self.stored:
            yield from self.stored.chunks(start)
            return
        if self.source is None:
            yield self.content[start:]
            return
        left = self.size - start
        with self.source.open("rb") as file:
            file.seek(start)
            while left:
                chunk = file.read(min(CHUNK, left))
                if not chunk:
                    raise OSError(f"{self.source} became shorter while it was read")
                left -= len(chunk)
                yield chunk


def entries(directory: Path, card: str, *, base_name: str = "", origin: Path | None = None) -> list[Entry]:
    """What a download of `directory` holds, with `card` as its README.md. EngineError if there are no weights.

    base_name: what an adapter's settings are to call its base, in the stead of a path of this machine. origin:
    the folder of the model that it all began with, whose license has to go along.
    """
    try:
        files = [path for path in sorted(directory.iterdir()) if path.is_file() and goes_along(path)]
        if origin and origin.is_dir() and not any(map(is_notice, files)):
            files += [path for path in sorted(origin.iterdir()) if path.is_file() and is_notice(path)]
    except OSError as error:
        raise EngineError(f"{directory} cannot be read ({error.strerror}): the weights are not there.") from error
    if not any(path.suffix == ".safetensors" for path in files):
        raise EngineError(f"{directory} holds no .safetensors file: the weights are not there.")
    found = []
    for path in files:
        if path.name == ADAPTER_CONFIG and base_name:
            found.append(_made(path.name, _with_base(path.read_bytes(), base_name), path))
        else:
            status = path.stat()
            found.append(Entry(path.name, status.st_size, int(status.st_mtime), path))
    # behind the weights: where a win rate in it has changed, a download of these can still be continued
    return [*found, _made(CARD, card.encode(), directory)]


def stored_entries(
    found: Sequence[Stored], card: str, *, base_name: str = "", origin: Path | None = None
) -> list[Entry]:
    """The same of a folder in the model store: from whatever machine, the same bytes."""
    made = max((one.made for one in found), default=0)
    entries = []
    for one in sorted(found, key=lambda one: one.name):
        if one.name == ADAPTER_CONFIG and base_name:
            content = _with_base(b"".join(one.chunks(0)), base_name)
            entries.append(Entry(one.name, len(content), made, None, content))
        elif goes_along(Path(one.name)):
            entries.append(Entry(one.name, one.size, made, None, b"", one))
    if not any(is_notice(Path(one.name)) for one in found) and origin and origin.is_dir():
        for path in sorted(path for path in origin.iterdir() if is_notice(path)):
            content = path.read_bytes()
            entries.append(Entry(path.name, len(content), made, None, content))
    return [*entries, Entry(CARD, len(card.encode()), made, None, card.encode())]


def _made(name: str, content: bytes, like: Path) -> Entry:
    return Entry(name, len(content), int(like.stat().st_mtime), None, content)


def _with_base(content: bytes, name: str) -> bytes:
    found = json.loads(content)
    return (json.dumps({**found, "base_model_name_or_path": name}, indent=2) + "\n").encode()


class Tar:
    """A .tar of `found` in a folder, made while it is read: nothing of it is written to the disk.

    The same files make the same bytes, and `tag` says which, so that a download that broke off can be continued.
    """

    def __init__(self, folder: str, found: Sequence[Entry]) -> None:
        self._parts: list[tuple[int, Callable[[int], Iterator[bytes]]]] = []  # (bytes, what yields them from a place)
        told = hashlib.sha256()
        for entry in found:
            header = _header(folder, entry)
            told.update(header + entry.content)
            if entry.stored:
                told.update(entry.stored.sha256.encode())
            if entry.source:
                told.update(str(entry.source.stat().st_mtime_ns).encode())
            self._add(header)
            self._parts.append((entry.size, entry.chunks))
            self._add(bytes(_padded(entry.size) - entry.size))
        body = sum(size for size, _ in self._parts)
        end = tarfile.RECORDSIZE - body % tarfile.RECORDSIZE
        self._add(bytes(end + (tarfile.RECORDSIZE if end < 2 * tarfile.BLOCKSIZE else 0)))
        self.size = sum(size for size, _ in self._parts)  # bytes, known before the first is sent
        self.tag = told.hexdigest()[:32]

    def _add(self, content: bytes) -> None:
        self._parts.append((len(content), lambda start: iter((content[start:],))))

    def __iter__(self) -> Iterator[bytes]:
        return self.part(0, self.size)

    def part(self, start: int, end: int) -> Iterator[bytes]:
        """Its bytes from `start` up to `end`, without reading what lies before."""
        begins = 0
        for size, chunks in self._parts:
            first = max(start - begins, 0)
            left = min(end - begins, size) - first
            if left > 0:
                for chunk in chunks(first):
                    yield chunk[:left]
                    left -= len(chunk)
                    if left <= 0:
                        break
            begins += size


def _header(folder: str, entry: Entry) -> bytes:
    info = tarfile.TarInfo(f"{folder}/{entry.name}")
    info.size, info.mtime, info.mode = entry.size, entry.modified, 0o644
    return info.tobuf(tarfile.PAX_FORMAT)  # any size, any name


def _padded(size: int) -> int:
    return -(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE


def require_empty(directory: Path) -> None:
    """Raise EngineError if something is there already: nothing is written over."""
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise EngineError(f"{directory} is there already, and is not an empty folder. Name another one.")


def write_to(directory: Path, found: Sequence[Entry]) -> None:
    """Write the files into `directory`, which appears whole or not at all. EngineError if it is there already."""
    require_empty(directory)
    directory.parent.mkdir(parents=True, exist_ok=True)
    temporary = directory.with_name(f".{directory.name}.new")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        for entry in found:
            with (temporary / entry.name).open("wb") as file:
                for chunk in entry.chunks():
                    file.write(chunk)
        temporary.replace(directory)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


# -- what may be deleted


def folders(policy: Policy) -> list[Path]:
    """Of the full weights and of the adapter, if any."""
    return [Path(path) for path in (policy.path, policy.adapter_path) if path]


def size_of(policy: Policy) -> int:
    """Bytes of its files, wherever they lie; 0 if they are not there."""
    find = Path if policy.weights_deleted_at else seen  # no outline of what is gone
    return sum(size_of_folder(find(folder)) for folder in folders(policy))


def size_of_folder(path: Path | str) -> int:
    return sum(file.stat().st_size for file in _files(Path(path))) if path else 0


def bytes_in(paths: Iterable[Path]) -> int:
    """What deleting would free: each path counts once, and links nothing."""
    return sum(file.stat().st_size for path in set(paths) for file in _files(path) if not file.is_symlink())


def _files(path: Path) -> list[Path]:
    return [file for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file()]


def is_ours(path: Path) -> bool:
    """Whether `path` lies in the model directory, wherever links lead."""
    root = Path(settings.MODEL_DIR).resolve()
    found = path.resolve()
    return found != root and found.is_relative_to(root)


def outside(paths: Iterable[Path]) -> list[Path]:
    """Those that are never deleted."""
    return [path for path in paths if not is_ours(path)]


def delete(paths: Iterable[Path]) -> int:
    """Delete files and folders; those that are not there are passed over, so that it can be done again.

    Returns the bytes that were freed. ValueError if one lies outside: then nothing is deleted.
    """
    paths = sorted(set(paths))
    if strangers := outside(paths):
        raise ValueError(f"{strangers[0]} does not lie in {settings.MODEL_DIR}")
    before = bytes_in(paths)
    for path in paths:
        if path.is_symlink() or path.is_file():
            path.unlink(missing_ok=True)
        elif path.exists():
            shutil.rmtree(path)
    return before
