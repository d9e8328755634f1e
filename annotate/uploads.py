"""Uploaded files between their check and their import: a day, under a name that only the page knows."""

import time
import uuid
from pathlib import Path

from django.conf import settings
from django.core.files.uploadedfile import UploadedFile

KEPT = 24 * 60 * 60  # seconds


def keep(file: UploadedFile) -> uuid.UUID:
    """Store the upload and return its key. Uploads that nobody imported are cleared away."""
    directory = Path(settings.IMPORT_DIR)
    directory.mkdir(parents=True, exist_ok=True)
    for old in directory.iterdir():
        if old.stat().st_mtime < time.time() - KEPT:
            old.unlink(missing_ok=True)
    key = uuid.uuid4()
    with path_of(key, file.name or "").open("xb") as kept:
        for part in file.chunks():
            kept.write(part)
    return key


def path_of(key: uuid.UUID, file_name: str) -> Path:
    """Where the upload lies: of the name it came with, only the ending counts."""
    return Path(settings.IMPORT_DIR) / f"{key}{Path(file_name).suffix.lower()}"
