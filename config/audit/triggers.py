"""Whether the log's triggers are as the migrations made them: who owns the tables can take them away."""

from collections.abc import Iterator

from django.db import connection

from config.audit.watched import TABLES

EVENTS = {"insert": 4, "update": 16, "delete": 8, "truncate": 32}  # bits of pg_trigger.tgtype
LOG = "config_auditentry"
FOUND = """
    SELECT c.relname, bit_or(t.tgtype) FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
    WHERE t.tgname LIKE 'audit\\_%' AND t.tgenabled IN ('O', 'A') AND c.relnamespace = 'public'::regnamespace
    GROUP BY c.relname
"""


def missing() -> Iterator[str]:
    """ "update of auth_user": each kind of statement that leaves no entry though it should. Of the log itself: that is
    not refused."""
    with connection.cursor() as cursor:
        cursor.execute(FOUND)
        there = dict(cursor.fetchall())
    for table, watched in TABLES.items():
        wanted = {"insert": watched.insert, "update": bool(watched.update), "delete": watched.delete}
        if table == LOG:
            wanted |= {"update": True, "truncate": True}
        for event, is_wanted in wanted.items():
            if is_wanted and not there.get(table, 0) & EVENTS[event]:
                yield f"{event} of {table}"
