"""The two kinds of store, behind Django's storage API, each with what that API lacks: reading from a place on."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from django.core.files.storage import FileSystemStorage

from generation.stores.faults import UNREACHABLE

CHUNK = 1 << 20
FOLDER = "generation.stores.backends.FolderStore"
S3 = "generation.stores.s3.S3Store"


class Streams(Protocol):
    def stream(self, name: str, start: int = 0) -> Iterator[bytes]:
        """The file's bytes from `start`. FileNotFoundError."""
        ...


def backend(url: str, model_dir: Path, s3: dict[str, Any]) -> dict[str, Any]:
    """The entry of STORAGES for STORYLOOP_MODEL_STORE: "" (the model directory itself), file:///folder or
    s3://bucket/prefix. ValueError for another. s3: endpoint, region and keys.
    """
    parts = urlsplit(url)
    place = unquote(parts.path)
    odd = parts.query or parts.fragment or parts.username
    if not url:
        return {"BACKEND": FOLDER, "OPTIONS": {"location": str(model_dir)}}
    if parts.scheme == "file" and not parts.netloc and place.strip("/") and not odd:
        return {"BACKEND": FOLDER, "OPTIONS": {"location": place}}
    if parts.scheme == "s3" and parts.hostname and not odd:
        return {"BACKEND": S3, "OPTIONS": {"bucket_name": parts.netloc, "location": place.strip("/"), **s3}}
    raise ValueError("say s3://bucket/prefix, or file:///folder that all machines see")


class FolderStore(FileSystemStorage):
    """A folder, on a disk of this machine or one that machines share."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_overwrite=True, **options)

    def stream(self, name: str, start: int = 0) -> Iterator[bytes]:
        with self.open(name) as file:
            file.seek(start)
            while chunk := file.read(CHUNK):
                yield chunk

    def fault_of(self, error: Exception) -> str | None:
        """What the fault is called, if it is the store's and not this machine's."""
        gone = isinstance(error, OSError) and not Path(self.location).is_dir()
        return UNREACHABLE if gone else None
