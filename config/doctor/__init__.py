"""What is wrong with this installation, and how to mend it: `manage.py doctor`."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warning", "fault"]
Check = Callable[[], Iterator["Finding"]]


@dataclass(frozen=True)
class Finding:
    """of: what was looked at. said: what was found, in a line. todo: what to do about it, in a line; "" if ok."""

    level: Level
    of: str
    said: str
    todo: str = ""


def ok(of: str, said: str) -> Finding:
    return Finding("ok", of, said)


def warning(of: str, said: str, todo: str) -> Finding:
    return Finding("warning", of, said, todo)


def fault(of: str, said: str, todo: str) -> Finding:
    return Finding("fault", of, said, todo)
