"""`manage.py migrate` while people judge."""

import threading
import time
from collections.abc import Iterator
from io import StringIO
from types import SimpleNamespace

import psycopg
import pytest
from django.core.management import CommandError, call_command
from django.core.management.commands import migrate as migrate_command
from django.db import OperationalError, connection, migrations, transaction

from annotate.models import Expert
from config.management.commands.migrate import Command

BEFORE = ("annotate", "0007")  # 0008 adds a column to the experts' table
pytestmark = pytest.mark.django_db(transaction=True)


def has_column() -> bool:
    with connection.cursor() as cursor:
        columns = connection.introspection.get_table_description(cursor, Expert._meta.db_table)
    return "adjudicates" in {column.name for column in columns}


def migrate(*target: str, patience: float = 60.0) -> str:
    said = StringIO()
    call_command("migrate", *target, lock_timeout=0.2, patience=patience, stdout=said)
    return said.getvalue()


@pytest.fixture
def before() -> Iterator[None]:
    """The database as it was before the experts' last column, and afterwards as it is today."""
    migrate(*BEFORE)
    yield
    migrate()


@pytest.fixture
def reader(before: None) -> Iterator[SimpleNamespace]:
    """Somebody who reads the experts' table for long, as a backup does."""
    begun, may_end = threading.Event(), threading.Event()

    def read() -> None:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM annotate_expert")
            begun.set()
            may_end.wait(60)
        connection.close()

    thread = threading.Thread(target=read)
    thread.start()
    begun.wait(60)
    yield SimpleNamespace(end=may_end.set)
    may_end.set()
    thread.join()


def in_background(*target: str) -> tuple[threading.Thread, list[str]]:
    said: list[str] = []

    def run() -> None:
        said.append(migrate(*target))
        connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    return thread, said


def waits_for_its_table() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM pg_locks WHERE NOT granted AND relation = 'annotate_expert'::regclass")
        return cursor.fetchone() is not None


def test_experts_are_read_while_a_migration_waits_for_somebody_who_reads_longer(reader: SimpleNamespace) -> None:
    thread, said = in_background()
    deadline = time.monotonic() + 60
    while not waits_for_its_table() and time.monotonic() < deadline:
        time.sleep(0.01)
    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = '20s'")  # without turns it would wait as long as the reader
        cursor.execute("SELECT count(*) FROM annotate_expert")
        cursor.execute("RESET statement_timeout")
    reader.end()
    thread.join(60)
    assert has_column()
    assert "A table is in use" in said[0]


def test_what_cannot_be_had_in_time_is_said_and_leaves_all_as_it_was(reader: SimpleNamespace) -> None:
    with pytest.raises(CommandError, match=r"Another session kept a table for 1 seconds \(open transactions: .*again"):
        migrate(patience=1.0)
    assert not has_column()


def test_who_waited_for_somebody_who_waited_for_them_tries_again(monkeypatch: pytest.MonkeyPatch) -> None:
    faults: list[Exception] = [psycopg.errors.DeadlockDetected("deadlock detected")]
    handle = migrate_command.Command.handle

    def fail_once(*args: object, **options: object) -> None:
        if faults:
            raise OperationalError("deadlock detected") from faults.pop()
        handle(*args, **options)

    monkeypatch.setattr(migrate_command.Command, "handle", fail_once)
    assert "trying again" in migrate()


def test_no_limit_stays_behind(before: None) -> None:
    migrate()
    with connection.cursor() as cursor:
        cursor.execute("SHOW lock_timeout")
        assert cursor.fetchone() == ("0",)


@pytest.mark.parametrize(("atomic", "limit"), [(True, "200ms"), (False, "0")])
def test_an_index_that_is_built_beside_the_work_may_wait_as_long_as_it_needs(atomic: bool, limit: str) -> None:
    command = Command(stdout=StringIO())
    command.verbosity, command._connection, command._turn = 0, connection, "200ms"
    migration = migrations.Migration("0009_index", "annotate")
    migration.atomic = atomic
    command.migration_progress_callback("apply_start", migration)
    with connection.cursor() as cursor:
        cursor.execute("SHOW lock_timeout")
        assert cursor.fetchone() == (limit,)
        cursor.execute("RESET lock_timeout")


@pytest.mark.parametrize("text", ["0", "-1", "soon", "nan"])
def test_nonsense_for_seconds_is_refused(text: str) -> None:
    with pytest.raises(CommandError, match="no number of seconds"):
        call_command("migrate", f"--lock-timeout={text}")
