"""Many at once, each on a database connection of its own."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

from django.db import connection


def at_once(count: int, act: Callable[[int], object]) -> list:
    """The results of `act(0)` to `act(count - 1)`, begun together."""
    barrier = Barrier(count)

    def run(index: int) -> object:
        try:
            barrier.wait()
            return act(index)
        finally:
            connection.close()

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))
