"""What goes wrong with the model store, in words and with a code that a round's end can say (training/ends.py)."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.conf import settings
from django.core.files.storage import Storage
from django.utils.translation import gettext_lazy as _

from generation.engines.values import EngineError
from generation.local_cache import cache as local_cache
from generation.stores.places import in_haste

log = logging.getLogger(__name__)

SILENT, TRY_AGAIN = "model-store-silent", 30  # seconds until pages ask a store again that did not answer

UNREACHABLE = "store_unreachable"
REFUSED = "store_refused"
MISSING = "store_missing"
DAMAGED = "store_damaged"
UNMOUNTED = "store_unmounted"
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


def hush() -> None:
    """Nobody who is waited for asks the store for a while."""
    local_cache.set(SILENT, True, TRY_AGAIN)


def is_silent() -> bool:
    return bool(local_cache.get(SILENT))


@contextmanager
def waited_for(what: object) -> Iterator[None]:
    """For pages: the store is given little time, its faults are logged, and one that does not answer is left alone.

    Ask is_silent() before. What the block has not done then, its caller does without.
    """
    try:
        with in_haste():
            yield
    except (EngineError, OSError) as error:
        log.warning("%s: %s", what, error)
        if isinstance(error, StoreFault) and error.code in ABSENT:
            hush()


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
