"""What goes wrong with the model store, in words and with a code that a round's end can say (training/ends.py)."""

import hashlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.conf import settings
from django.core.files.storage import Storage
from django.utils.translation import gettext_lazy as _

from generation.engines.values import EngineError
from generation.local_cache import cache as local_cache
from generation.stores.places import is_in_haste

log = logging.getLogger(__name__)

SILENT, TRY_AGAIN = "model-store-silent", 30  # seconds until pages ask again that had no answer

UNREACHABLE = "store_unreachable"
REFUSED = "store_refused"
MISSING = "store_missing"
DAMAGED = "store_damaged"
UNMOUNTED = "store_unmounted"
BUSY = "store_busy"
ABSENT = (UNREACHABLE, REFUSED, UNMOUNTED)  # of the whole store; the others: of a file in it

WORDS = {
    UNREACHABLE: _(
        "The model store %(store)s does not answer (%(error)s). Check the network and STORYLOOP_S3_ENDPOINT."
    ),
    REFUSED: _(
        "The model store %(store)s refuses this machine (%(error)s). Check STORYLOOP_MODEL_STORE and the key of "
        "STORYLOOP_S3_ACCESS_KEY: it must be allowed to read, write, list and delete there."
    ),
    MISSING: _(
        "The model store %(store)s has no whole %(key)s. Put it back there (manage.py publish_models, on a machine "
        "that has it)."
    ),
    DAMAGED: _(
        "%(file)s of the model store %(store)s is not what was stored: its SHA-256 differs. Put it back (manage.py "
        "publish_models --again, on a machine that has it whole)."
    ),
    BUSY: _(
        "Another process on this machine uses another copy of %(key)s than the model store %(store)s has. End it (a "
        "run, vLLM), then try again."
    ),
    UNMOUNTED: _(
        "The model store %(store)s is not mounted on this machine: the folder has no file %(mark)s. Mount it. If it is "
        "a new one, manage.py publish_models makes it a store."
    ),
}  # fmt: skip


class StoreFault(EngineError):
    """values: what JSON can hold, `store` among them."""

    def __init__(self, code: str, **values: Any) -> None:
        self.code, self.values = code, {"store": settings.MODEL_STORE, **values}
        super().__init__(str(WORDS[code]) % self.values)


def is_silent(what: object = "") -> bool:
    """Whether a person waits, and the store has not answered lately, or not as to `what`: then nobody asks it."""
    return is_in_haste() and bool(local_cache.get_many([SILENT, _key(what)]))


@contextmanager
def tolerated(what: object) -> Iterator[None]:
    """The store's faults are logged, and its caller does without; where a person waits, for a while without asking."""
    try:
        yield
    except (EngineError, OSError) as error:
        log.warning("%s: %s", what, error)
        if is_in_haste():
            absent = isinstance(error, StoreFault) and error.code in ABSENT
            local_cache.set(SILENT if absent else _key(what), True, TRY_AGAIN)


def _key(what: object) -> str:
    return f"{SILENT}-{hashlib.sha256(str(what).encode()).hexdigest()}"


@contextmanager
def told(store: Storage) -> Iterator[None]:
    """StoreFault for what the store's library raises. A full disk here stays an OSError."""
    fault_of = getattr(store, "fault_of", None)
    try:
        yield
    except StoreFault:
        raise
    except Exception as error:
        code = fault_of(error) if fault_of else None
        if code is None:
            raise
        raise StoreFault(code, error=f"{type(error).__name__}: {error}"[:300], key="", file="") from error
