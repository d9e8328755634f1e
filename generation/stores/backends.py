"""The two kinds of store, behind Django's storage API, each with what that API lacks: reading from a place on."""

import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from django.core.files.base import ContentFile
from django.core.files.storage import FileSystemStorage

from generation.stores.faults import UNMOUNTED, UNREACHABLE, StoreFault
from generation.stores.places import ALIAS, IN_HASTE

CHUNK = 1 << 20
FOLDER = "generation.stores.backends.FolderStore"
S3 = "generation.stores.s3.S3Store"
BROKEN = (errno.ESTALE, errno.EIO, errno.ENOTCONN, errno.EHOSTDOWN, errno.ETIMEDOUT)  # of a mount
MARK = "storyloop-store.txt"
MARKED = b"Here Storyloop keeps what its machines share (STORYLOOP_MODEL_STORE). It stores nothing without this file.\n"


class Streams(Protocol):
    def stream(self, name: str, start: int = 0) -> Iterator[bytes]:
        """The file's bytes from `start`. FileNotFoundError."""
        ...


def backends(url: str, model_dir: Path, s3: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The entries of STORAGES for STORYLOOP_MODEL_STORE: "" (the model directory itself), file:///folder or
    s3://bucket/prefix. ValueError for another. s3: endpoint, region and keys.
    """
    found = _backend(url, model_dir, s3)
    hasty = {"in_haste": True} if found["BACKEND"] == S3 else {}
    return {ALIAS: found, IN_HASTE: {**found, "OPTIONS": {**found["OPTIONS"], **hasty}}}


def _backend(url: str, model_dir: Path, s3: dict[str, Any]) -> dict[str, Any]:
    parts = urlsplit(url)
    place = unquote(parts.path)
    odd = parts.query or parts.fragment or parts.username
    if not url:
        return {"BACKEND": FOLDER, "OPTIONS": {"location": str(model_dir)}}
    if parts.scheme == "file" and not parts.netloc and place.strip("/") and not odd:
        return {"BACKEND": FOLDER, "OPTIONS": {"location": place, "shared": True}}
    if parts.scheme == "s3" and parts.hostname and not odd:
        return {"BACKEND": S3, "OPTIONS": {"bucket_name": parts.netloc, "location": place.strip("/"), **s3}}
    raise ValueError("say s3://bucket/prefix, or file:///folder that all machines see")


class FolderStore(FileSystemStorage):
    """A folder, on a disk of this machine or, `shared`, on one that machines share.

    A shared one has a file that says so. Without it the disk is not mounted: what was written then would lie on this
    machine alone, and be hidden by the mounting.
    """

    def __init__(self, *, shared: bool = False, **options: Any) -> None:
        super().__init__(allow_overwrite=True, **options)
        self.shared = shared

    def begin(self) -> None:
        """This is the folder, and it is mounted. OSError."""
        if self.shared and not self._is_marked():
            self.save(MARK, ContentFile(MARKED))

    def path(self, name: str) -> str:
        """All that reads or writes asks for it. StoreFault without the disk."""
        if self.shared and name != MARK and not self._is_marked():
            raise StoreFault(UNMOUNTED, mark=MARK)
        return str(super().path(name))

    def _is_marked(self) -> bool:
        try:
            return Path(self.location, MARK).exists()
        except OSError:  # a mount that is broken
            return False

    def stream(self, name: str, start: int = 0) -> Iterator[bytes]:
        with self.open(name) as file:
            file.seek(start)
            while chunk := file.read(CHUNK):
                yield chunk

    def fault_of(self, error: Exception) -> str | None:
        """What the fault is called, if it is the store's and not this machine's."""
        if not isinstance(error, OSError):
            return None
        try:
            return UNREACHABLE if error.errno in BROKEN or not Path(self.location).is_dir() else None
        except OSError:
            return UNREACHABLE
