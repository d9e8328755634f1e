"""Log lines that say which request, person and round they belong to, and hold no secret and no story.

A filter and two formatters on the standard library's logging: what the structured loggers on PyPI do besides is not
needed here.
"""

import inspect
import json
import logging
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

ROUND_ID = "STORYLOOP_ROUND_ID"  # in the environment of a round's processes: training/run.py
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
# PostgreSQL tells the whole row that a constraint refused, and with it what a person wrote
DETAIL = re.compile(r"\nDETAIL: .*?(?=\n\nThe above exception|\n\nDuring handling|\Z)", re.DOTALL)
LEFT_OUT = " (detail left out: it may hold what people wrote)"
SAID = re.compile(r"(\n|\\n)DETAIL: .*", re.DOTALL)  # the same in a message, or in an exception's repr
# given by what logs an access line: config/request_log.py
EXTRA = ("method", "route", "status", "ms")

current: ContextVar[dict[str, Any]] = ContextVar("current")


@contextmanager
def about(**facts: Any) -> Iterator[None]:
    """The lines of the block belong to these: request_id, request, round_id, task."""
    token = current.set({**current.get({}), **facts})
    try:
        yield
    finally:
        current.reset(token)


def facts() -> dict[str, str | int]:
    """What a line that is written now belongs to; nothing that is not known."""
    known = current.get({})
    found = {
        "request_id": known.get("request_id"),
        "user_id": _user_id(known.get("request")),
        "round_id": known.get("round_id") or os.environ.get(ROUND_ID),
        "task": known.get("task"),
    }
    return {name: value for name, value in found.items() if value}


def _user_id(request: Any) -> int | None:
    """The id of who is logged in, if somebody has asked already: a log line is no reason for a query."""
    user = vars(request).get("user") if request else None
    if type(user).__name__ == "SimpleLazyObject":  # else a token, or logging in, has put somebody in its place
        user = getattr(request, "_cached_user", None)
    pk = getattr(user, "pk", None)
    return int(pk) if pk else None


class Facts(logging.Filter):
    """Gives each line what it belongs to, and Django's lines the URL's pattern in the place of its path, which may be
    an invitation's. Leaves out Django's line for each 4xx: the access line says it."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.facts = facts()
        if not record.name.startswith("django"):
            return True
        request = getattr(record, "request", None)
        path = getattr(request, "path", None)
        if path and isinstance(record.args, tuple):
            record.args = tuple(route_of(request) if arg == path else arg for arg in record.args)
        return record.name != "django.request" or getattr(record, "status_code", 500) >= 500


def route_of(request: Any) -> str:
    """The pattern that the request's path fits: a path itself may hold a token."""
    match = getattr(request, "resolver_match", None)
    return f"/{match.route}" if match else "(none)"


class Line(logging.Formatter):
    """For people: one line each, then a traceback if there is one, its lines set in."""

    converter = time.gmtime  # type: ignore[assignment]
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def format(self, record: logging.LogRecord) -> str:
        known = {**getattr(record, "facts", {}), **_extra(record)}
        told = "".join(f" {name}={plain(str(value))}" for name, value in known.items())
        text = f"{self.formatTime(record)} {record.levelname} {record.name}: {plain(_message(record))}{told}"
        if exception := _exception(self, record):
            text += "".join(f"\n  | {plain(line)}" for line in exception.split("\n"))
        return text


class Json(logging.Formatter):
    """For programs: one JSON object a line, times in UTC."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        told = {"time": at, "level": record.levelname, "logger": record.name, "message": _message(record)}
        told |= {**getattr(record, "facts", {}), **_extra(record)}
        if exception := _exception(self, record):
            told["exception"] = exception
        return plain(json.dumps(told, ensure_ascii=False, default=str))


def plain(text: str) -> str:
    """With control characters and line ends written out: a value cannot begin a line of its own."""
    return CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def _message(record: logging.LogRecord) -> str:
    return SAID.sub(LEFT_OUT, record.getMessage())


def _extra(record: logging.LogRecord) -> dict[str, Any]:
    return {name: getattr(record, name) for name in EXTRA if hasattr(record, name)}


def _exception(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    """The traceback without what PostgreSQL tells of the row."""
    text = formatter.formatException(record.exc_info) if record.exc_info and record.exc_info[0] else ""
    return DETAIL.sub(LEFT_OUT, text)


# -- tasks


def connect() -> None:
    """Have Celery log as the web does, and its lines know their task, its round, and the request that asked for it."""
    from celery import signals

    signals.setup_logging.connect(_as_it_is, dispatch_uid="config.logs")
    signals.before_task_publish.connect(_publish, dispatch_uid="config.logs")
    signals.task_prerun.connect(_begin, dispatch_uid="config.logs")
    signals.task_postrun.connect(_end, dispatch_uid="config.logs")


def _as_it_is(**_: object) -> None:
    """With a receiver, Celery leaves the logging to Django's settings."""


def _publish(headers: dict[str, Any], **_: object) -> None:
    if (asked_by := facts().get("request_id")) and isinstance(headers, dict):
        headers.setdefault("request_id", asked_by)


def _begin(task: Any, args: tuple[Any, ...], kwargs: dict[str, Any], **_: object) -> None:
    names = list(inspect.signature(task.run).parameters)
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    told = {"task": task.name, "round_id": given.get("round_id"), "request_id": task.request.get("request_id")}
    current.set(told)


def _end(**_: object) -> None:
    current.set({})
