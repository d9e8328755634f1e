"""Who is at work, and how the database's triggers are told.

Each statement that a trigger looks at has its own words sent ahead, for its transaction alone: a setting of the session
would stay behind with the next person on a pooled connection, and one before each statement would cost every page.
"""

import getpass
import json
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from django.http import HttpRequest

from config import logs
from config.audit.watched import concerns
from config.models_audit import Source

SETTING = "storyloop.audit"
PROGRAMS = ("manage.py", "storyloop", "django-admin")


def who(request: HttpRequest | None = None) -> dict[str, Any]:
    """{actor, source, through, request_id}, as entries keep them: of the request, else the task, else the command."""
    known = logs.current.get({})
    request = request or known.get("request")
    facts = logs.facts()
    said = {"actor": facts.get("user_id"), "request_id": facts.get("request_id", "")}
    if request is not None:
        match = request.resolver_match
        token = getattr(request, "auth", None)
        through = match.url_name if match and match.url_name else ""
        if token is not None:
            through = f"{through} (token {token.pk})"
        return {**said, "source": Source.API if token is not None else Source.WEB, "through": through}
    if "task" in facts:
        return {**said, "source": Source.TASK, "through": facts["task"]}
    return {**said, "source": Source.COMMAND, "through": command()}


@cache
def command() -> str:
    """The command that this process is, and who has given it: "launch_round (deploy)"."""
    path = Path(sys.argv[0] or "python")
    program = path.parent.name if path.name == "__main__.py" else path.name
    name = sys.argv[1] if program in PROGRAMS and len(sys.argv) > 1 else program
    try:
        return f"{name} ({getpass.getuser()})"
    except (KeyError, OSError):  # a user without a name, as containers have them
        return name


def connect() -> None:
    connection_created.connect(_attend, dispatch_uid="config.audit")


def _attend(connection: BaseDatabaseWrapper, **_: Any) -> None:
    if tell not in connection.execute_wrappers:
        connection.execute_wrappers.append(tell)


def tell(execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: dict[str, Any]) -> Any:
    """A wrapper of Django's execute(): says ahead of a statement that a trigger looks at who sends it."""
    connection = context["connection"]
    if not concerns(sql if isinstance(sql, str) else str(sql)):
        return execute(sql, params, many, context)
    if connection.in_atomic_block:
        _say(connection)
        return execute(sql, params, many, context)
    with transaction.atomic(using=connection.alias):
        _say(connection)
        return execute(sql, params, many, context)


def _say(connection: Any) -> None:
    if not connection.needs_rollback:  # or the statement is refused by itself
        with connection.wrap_database_errors:
            connection.connection.execute("SELECT set_config(%s, %s, true)", [SETTING, json.dumps(who())])
