"""Doing something again and again beside what takes long, so that nobody takes its process for dead."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from django.db import InterfaceError, OperationalError, connection


@contextmanager
def beating(act: Callable[[], object], every: float, *, until: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Call `act` each `every` seconds during the block, in a thread with a database session of its own.

    An exception of `until` ends the beat quietly: the block finds out by itself. A lost connection is made anew.
    """
    over = threading.Event()

    def beat() -> None:
        try:
            with suppress(*until):
                while not over.wait(every):
                    try:
                        act()
                    except (OperationalError, InterfaceError):  # a database that is started anew
                        connection.close()
        finally:
            connection.close()

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
