"""A run that is asked to end does so after the step that it is in, with a checkpoint."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

INTERRUPTED = 143  # exit status: 128 + SIGTERM, as of a process that it ends


class Interrupted(RuntimeError):
    """The run was asked to end, and did; the message says how it goes on."""


@contextmanager
def asked_to_end(processes: int = 1) -> Iterator[Callable[[], bool]]:
    """In the block SIGTERM ends nothing; what is yielded says whether it came.

    Several processes would not agree on the step, and other threads get no signals: there it ends them at once.
    """
    if processes > 1 or threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    asked: list[int] = []

    def note(number: int, frame: Any) -> None:
        asked.append(number)

    before = signal.signal(signal.SIGTERM, note)
    try:
        yield lambda: bool(asked)
    finally:
        signal.signal(signal.SIGTERM, before)
