"""The model store, tried: a small file is written, read and deleted there."""

import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from django.conf import settings
from django.core.files.base import ContentFile

from config.doctor import Finding, fault, ok, warning
from generation.engines.values import EngineError
from generation.models import Policy
from generation.stores import manifest
from generation.stores.faults import UNMOUNTED, StoreFault, told
from generation.stores.places import apart, is_kept, key_of, store

TRIED = b"manage.py doctor wrote this, and deletes it again"


def tried() -> Iterator[Finding]:
    if not apart():
        yield ok("model store", f"{settings.MODEL_DIR}: with several machines, all must see this folder")
        return
    name, began = f"doctor/{uuid.uuid4().hex}", time.monotonic()
    try:
        with told(store()):
            store().save(name, ContentFile(TRIED))
            found = b"".join(store().stream(name))
            store().delete(name)
            left = store().exists(name)
    except (StoreFault, OSError) as error:
        what, _dot, todo = str(error).partition(". " if getattr(error, "code", "") == UNMOUNTED else "). ")
        end = "." if getattr(error, "code", "") == UNMOUNTED else ")."
        todo = todo or "Give this user the right to it, or name another one with STORYLOOP_MODEL_STORE."
        yield fault("model store", " ".join(f"{what}{end}".split()), todo)
        return
    if found != TRIED or left:
        todo = "Let this machine's key read, write, list and delete there, or name another store."
        yield fault("model store", f"{settings.MODEL_STORE} does not give back, or delete, what was stored.", todo)
        return
    yield ok("model store", f"{settings.MODEL_STORE}: written, read and deleted in {time.monotonic() - began:.2f} s")
    yield from _shared_secret()


def _shared_secret() -> Iterator[Finding]:
    """Machines that each made a key of their own refuse each other's sessions and links."""
    path = Path(settings.VAR_DIR) / "secret_key"
    if path.exists() and path.read_text().strip() == settings.SECRET_KEY:
        todo = "With several web machines set STORYLOOP_SECRET_KEY, the same on all."
        yield warning("model store", f"The secret key was made on this machine ({path}).", todo)


def policies() -> Iterator[Finding]:
    """Those that other machines could not fetch."""
    if not apart():
        return
    try:
        for policy in Policy.objects.with_weights():
            lacking = [path for path in filter(None, (policy.path, policy.adapter_path)) if not _is_there(path)]
            if lacking:
                said = f"{policy.name} is not whole in {settings.MODEL_STORE}: other machines cannot use it."
                yield fault("model store", said, "Give manage.py publish_models on the machine that has it.")
    except EngineError as error:
        yield fault("model store", " ".join(str(error).split()), "Mend the store first.")


def _is_there(path: str) -> bool:
    return is_kept(path) and manifest.read(key_of(path)) is not None
