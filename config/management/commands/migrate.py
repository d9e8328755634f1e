"""Django's own `migrate`, with a limit to how long it makes judging wait.

An ALTER TABLE needs its table alone. While it waits for a long reader (a backup, an export), PostgreSQL lets nobody
else in behind it: one slow reader and one migration together stop every page. So a migration gives its place in
the line up after a moment, and is tried again.
"""

import time
from argparse import ArgumentTypeError
from typing import Any

import psycopg
from django.core.management.base import CommandError, CommandParser
from django.core.management.commands import migrate
from django.db import OperationalError, connections
from django.db.migrations import Migration

LOCK_TIMEOUT, PATIENCE = 2.0, 600.0  # seconds
HOLDERS = """
    SELECT pid, coalesce(nullif(application_name, ''), backend_type), extract(epoch FROM now() - xact_start)::int
    FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start IS NOT NULL
    ORDER BY xact_start LIMIT 3
"""


def seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 < value < 100_000:
        raise ArgumentTypeError(f"{text} is no number of seconds above 0")
    return value


class Command(migrate.Command):
    help = f"{migrate.Command.help} Experts can go on judging: it waits for a table in short turns."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--lock-timeout", type=seconds, default=LOCK_TIMEOUT, metavar="SECONDS",
            help="how long pages may have to wait behind a migration that waits for its table (default 2)",
        )  # fmt: skip
        parser.add_argument(
            "--patience", type=seconds, default=PATIENCE, metavar="SECONDS",
            help="how long to try again before giving up (default 600)",
        )  # fmt: skip

    def handle(self, *args: Any, **options: Any) -> None:
        self._connection = connections[options["database"]]
        self._turn = f"{options['lock_timeout'] * 1000:.0f}ms"
        ends = time.monotonic() + options["patience"]
        try:
            while not self._migrated(*args, **options):
                holders = self._holders()
                if time.monotonic() > ends:
                    raise CommandError(
                        f"Another session kept a table for {options['patience']:.0f} seconds{holders}. What was "
                        "migrated stays; the rest is as it was. Let that session end, and give the command again."
                    )
                self.stdout.write(f"  A table is in use{holders}: trying again", self.style.WARNING)
                time.sleep(options["lock_timeout"])  # those who waited behind it go first
        finally:
            if self._connection.connection is not None:
                self._limit_waits("0")

    def migration_progress_callback(self, action: str, migration: Migration | None = None, fake: bool = False) -> None:
        # CREATE INDEX CONCURRENTLY (not atomic) waits without making others wait; cut short, it leaves a torn index
        if action in ("apply_start", "unapply_start") and migration is not None:
            self._limit_waits(self._turn if migration.atomic else "0")
        super().migration_progress_callback(action, migration, fake)

    def _migrated(self, *args: Any, **options: Any) -> bool:
        """Whether it is done; False if a lock was not given in time, or two waited for each other's.

        Each migration is whole or not there.
        """
        self._limit_waits(self._turn)
        try:
            super().handle(*args, **options)
        except OperationalError as error:
            if not isinstance(error.__cause__, (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected)):
                raise
            return False
        return True

    def _limit_waits(self, limit: str) -> None:
        with self._connection.cursor() as cursor:
            cursor.execute("SELECT set_config('lock_timeout', %s, false)", [limit])

    def _holders(self) -> str:
        with self._connection.cursor() as cursor:
            cursor.execute(HOLDERS)
            found = [f"{name} {pid} for {age} s" for pid, name, age in cursor.fetchall()]
        return f" (open transactions: {', '.join(found)})" if found else ""
