"""The database's half of a backup: one moment of it, dumped; and put back, whole or not at all."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import connection
from django.db.backends.utils import CursorWrapper
from psycopg import sql

from config.backups import client

# who is logged in, and what a cache holds, is nobody's to take along; the queue is only a bell, its rows are elsewhere
PASSING = ("django_session", "config_cacheentry", "config_process")
LEFT_OUT = ["--exclude-schema=pgmq", *(f"--exclude-table-data={table}" for table in PASSING)]
TABLES = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1"
CLEAR = b"SET client_min_messages = warning; "
CLEAR += b"DROP SCHEMA IF EXISTS pgmq CASCADE; DROP SCHEMA IF EXISTS public CASCADE; CREATE SCHEMA public;\n"
POLICIES = "generation_policy"
PATHS = {POLICIES: ("path", "adapter_path"), "training_round": ("export_path",)}


class DatabaseFailed(RuntimeError):
    """What PostgreSQL's programs said, and what to do."""


@dataclass(frozen=True)
class Snapshot:
    """The database at one moment, for as long as snapshot() lasts. `name` is for pg_dump."""

    name: str
    cursor: CursorWrapper

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        self.cursor.execute(query)
        return self.cursor.fetchall()

    def counts(self) -> dict[str, int]:
        """Rows by table."""
        return {table: self.rows(_count(table))[0][0] for (table,) in self.rows(TABLES) if table not in PASSING}

    def migrations(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for app, name in self.rows("SELECT app, name FROM django_migrations ORDER BY app, name"):
            found.setdefault(app, []).append(name)
        return found

    def policies(self) -> list[dict[str, Any]]:
        """Policies with weights, as they are stored: their columns are not the same in all versions."""
        query = "SELECT to_jsonb(p) FROM generation_policy p WHERE to_jsonb(p)->>'weights_deleted_at' IS NULL"
        found = [json.loads(row) for (row,) in self.rows(query)]
        for row in found:
            row.update({name: _placed(row[name], settings.MODEL_DIR) for name in PATHS[POLICIES] if row.get(name)})
        return found

    def exports(self) -> list[str]:
        """Paths of the pairs that rounds were trained on."""
        rows = self.rows("SELECT export_path FROM training_round WHERE export_path <> ''")
        return [_placed(path, settings.EXPORT_DIR) for (path,) in rows]

    def made_for_people(self) -> list[str]:
        """Paths of the exports that were asked for on the page."""
        if ("annotate_export",) not in self.rows(TABLES):
            return []
        return [_placed(path, settings.EXPORT_DIR) for (path,) in self.rows("SELECT path FROM annotate_export") if path]

    def at_work(self) -> list[int]:
        """Numbers of the rounds under way."""
        query = "SELECT number FROM training_round WHERE state IN ('queued', 'freezing', 'training', 'writing')"
        return [number for (number,) in self.rows(query)]

    def dump(self, target: Path) -> None:
        """Raises DatabaseFailed, NoClient."""
        command = [client.program("pg_dump", client.server_version()), "--format=custom", "--no-owner"]
        command += ["--no-privileges", f"--snapshot={self.name}", f"--file={target}", *LEFT_OUT]
        done = subprocess.run(command, env=client.environment(), capture_output=True, text=True, check=False)
        if done.returncode:
            raise DatabaseFailed(f"The database could not be dumped: {done.stderr.strip()}")


@contextmanager
def snapshot() -> Iterator[Snapshot]:
    """The database as it is now, whatever is written meanwhile. Nobody waits for it."""
    own = connection.copy()
    try:
        with own.cursor() as cursor:
            cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            cursor.execute("SELECT pg_export_snapshot()")
            yield Snapshot(cursor.fetchone()[0], cursor)
    finally:
        own.close()


def is_used() -> bool:
    """Whether anything has been stored: a person, a prompt, a policy. DatabaseFailed if it is not Storyloop's."""
    with connection.cursor() as cursor:
        cursor.execute(TABLES)
        tables = {table for (table,) in cursor.fetchall()}
        if tables and not {"django_migrations", "generation_policy"} <= tables:
            raise DatabaseFailed(
                f"The database {connection.settings_dict['NAME']} holds tables that are not Storyloop's. "
                "Name an empty one with DATABASE_URL."
            )
        kept = tables & {"auth_user", "generation_prompt", "generation_policy"}
        return any(_has_rows(cursor, table) for table in kept)


def others() -> int:
    """Sessions of other processes with this database."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid() AND usename IS NOT NULL"
        )
        return int(cursor.fetchone()[0])


def restore(dump: Path, moved: dict[str, str]) -> None:
    """Put the dump in the place of all that the database holds, in one transaction.

    moved: old folder -> new one, for the paths that rows name. Raises DatabaseFailed, NoClient.
    """
    server, environment = client.server_version(), client.environment()
    connection.close()
    psql = [client.program("psql", server), "--no-psqlrc", "--quiet", "--single-transaction"]
    psql += ["--set=ON_ERROR_STOP=1", "--output=/dev/null"]
    reader = [client.program("pg_restore", server), "--no-owner", "--no-privileges", "--file=-", str(dump)]
    with (
        subprocess.Popen(psql, env=environment, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as into,
        subprocess.Popen(reader, env=environment, stdout=subprocess.PIPE) as out_of,
    ):
        assert into.stdin
        assert out_of.stdout
        try:
            into.stdin.write(CLEAR)
            while chunk := out_of.stdout.read(1 << 20):
                into.stdin.write(chunk)
            if out_of.wait():
                into.kill()  # before the end of its input, at which it would commit what came
                with suppress(BrokenPipeError):
                    into.stdin.close()
                raise DatabaseFailed(f"{dump} could not be read. The database is as it was.")
            into.stdin.write(_move(moved).encode())
        except BrokenPipeError:
            out_of.kill()
        _stdout, said = into.communicate()
    if into.returncode:
        raise DatabaseFailed(f"The database is as it was: {said.decode(errors='replace').strip()}")


def counts() -> dict[str, int]:
    """Rows by table, now."""
    with snapshot() as now:
        return now.counts()


def _placed(path: str, folder: Path) -> str:
    """A path of the database on this machine: those below the installation's folders are stored without them."""
    return str(Path(folder) / path)


def _count(table: str) -> str:
    return f'SELECT count(*) FROM "{table}"'  # noqa: S608  a name from the catalogue


def _has_rows(cursor: CursorWrapper, table: str) -> bool:
    cursor.execute(f'SELECT EXISTS (SELECT FROM "{table}")')  # noqa: S608  one of three names above
    return bool(cursor.fetchone()[0])


def _move(moved: dict[str, str]) -> str:
    """SQL that puts the new folders into the rows that name the old ones."""
    changed = {old: new for old, new in moved.items() if old != new}
    if not changed:
        return ""
    statements = []
    for table, columns in PATHS.items():
        for column in columns:
            name = sql.Identifier(column)
            cases = [_case(name, old, changed[old]) for old in sorted(changed, key=len, reverse=True)]
            statement = sql.SQL("UPDATE public.{table} SET {name} = CASE {cases} ELSE {name} END;\n").format(
                table=sql.Identifier(table), name=name, cases=sql.SQL(" ").join(cases)
            )
            statements.append(statement.as_string(None))
    return "\n" + "".join(statements)


def _case(name: sql.Identifier, old: str, new: str) -> sql.Composed:
    return sql.SQL(
        "WHEN {name} = {old} OR starts_with({name}, {below}) THEN {new} || substr({name}, {behind})"
    ).format(
        name=name, old=sql.Literal(old), below=sql.Literal(old + "/"), new=sql.Literal(new),
        behind=sql.Literal(len(old) + 1),
    )  # fmt: skip
