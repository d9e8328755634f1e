"""Locks of a database session: PostgreSQL gives them back the moment their holder is gone."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from django.db import Error, connection

NAMESPACE = 0x4A6F6273  # "Jobs"; the prompts that are being written have another one (runs.py)
CHECK = 0  # above it: the ids of writing runs
READ = 2**31 - 1  # a judge model reads stories; no run will ever have this id


def of_run(run_id: int) -> int:
    """The key of the job that works on a run."""
    return run_id % 2**31


@contextmanager
def held(key: int, *, namespace: int = NAMESPACE) -> Iterator[bool]:
    """Try to take the lock for the block; False if another session has it."""
    mine = ask("pg_try_advisory_lock", key, namespace=namespace)
    try:
        yield mine
    finally:
        if mine:
            with suppress(Error):  # with a session that was lost the lock is gone, too
                ask("pg_advisory_unlock", key, namespace=namespace)


@contextmanager
def shared(key: int, *, namespace: int = NAMESPACE) -> Iterator[None]:
    """Hold the lock for the block, with others that share it."""
    ask("pg_try_advisory_lock_shared", key, namespace=namespace)
    try:
        yield
    finally:
        with suppress(Error):
            ask("pg_advisory_unlock_shared", key, namespace=namespace)


def is_held(key: int) -> bool:
    """Whether any session has the lock."""
    return holders(key) > 0


def holders(key: int, *, namespace: int = NAMESPACE) -> int:
    """How many sessions have the lock."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(DISTINCT pid) FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 2 "
            "AND classid = %s::bigint::oid AND objid = %s::bigint::oid "
            "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
            [namespace, key],
        )
        return int(cursor.fetchone()[0])


def ask(function: str, key: int, *, namespace: int = NAMESPACE) -> bool:
    """What one of PostgreSQL's functions for advisory locks answers."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {function}(%s::int, %s::int)", [namespace, key])  # noqa: S608  names of our own
        return bool(cursor.fetchone()[0])
