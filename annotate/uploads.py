"""Uploaded files between their check and their import: a day, under a name that only the page knows."""

import time
import uuid
from pathlib import Path

from django.conf import settings
from django.core.files.uploadedfile import UploadedFile

from generation.stores import single
from generation.stores.faults import ABSENT, StoreFault

KEPT = 24 * 60 * 60  # seconds


def keep(file: UploadedFile) -> uuid.UUID:
    """Store the upload and return its key. Uploads that nobody imported are cleared away."""
    directory = Path(settings.IMPORT_DIR)
    directory.mkdir(parents=True, exist_ok=True)
    for old in directory.iterdir():
        if old.stat().st_mtime < time.time() - KEPT:
            old.unlink(missing_ok=True)
    key = uuid.uuid4()
    with _path(key, file.name or "").open("xb") as kept:
        for part in file.chunks():
            kept.write(part)
    single.put(_path(key, file.name or ""))
    single.drop_older(directory, KEPT)
    return key


def path_of(key: uuid.UUID, file_name: str) -> Path:
    """Where the upload lies, fetched if another machine took it: of the name it came with, only the ending counts.
    StoreFault if the store does not answer; there is nothing at the path if it is not there either.
    """
    try:
        return single.get(_path(key, file_name))
    except StoreFault as error:
        if error.code in ABSENT:
            raise
        return _path(key, file_name)


def drop(key: uuid.UUID, file_name: str) -> None:
    """It is imported, or worth nothing; what a silent store keeps of it goes a day later."""
    single.drop(_path(key, file_name))


def _path(key: uuid.UUID, file_name: str) -> Path:
    return Path(settings.IMPORT_DIR) / f"{key}{Path(file_name).suffix.lower()}"
