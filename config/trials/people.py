"""Who uses an installation that is put to the test: what they were told, and an admin by the API."""

import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from typing import Any, TypeVar

from django.db import InterfaceError, OperationalError, connection

PATIENCE = 180.0  # seconds until somebody who gets no answer gives up
AGAIN = 0.3  # seconds
BROKEN = (OSError, HTTPException)  # the server is gone, or went away in the middle
Found = TypeVar("Found")


class Disturbed(RuntimeError):
    """An answer that is no answer to a kill; the message says which."""


@dataclass(frozen=True)
class Given:
    """A judgement for which somebody has read that it is kept. `assignment` and `page` are keys."""

    assignment: str
    page: str
    best: int


@dataclass
class Diary:
    """What people know of the house: shared by their threads."""

    given: list[Given] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    refusals: int = 0  # tries that met a dead server
    closing: threading.Event = field(default_factory=threading.Event)


class Admin:
    """Launches, resumes and promotes rounds by the API, and asks again whatever gets no answer."""

    def __init__(self, port: int, token: str, diary: Diary, headers: Mapping[str, str] | None = None) -> None:
        self.port = port
        sent = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        self.headers = {**sent, **(headers or {})}
        self.diary = diary

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """(status, what was answered). Raises Disturbed when there is no answer for PATIENCE."""
        deadline = time.monotonic() + PATIENCE
        sent = json.dumps(body) if body is not None else None
        while True:
            here = HTTPConnection("127.0.0.1", self.port, timeout=30)
            try:
                here.request(method, f"/api/v1{path}", sent, {**self.headers, **headers})
                answer = here.getresponse()
                text = answer.read()
                if answer.status < 500:
                    return answer.status, json.loads(text)
            except (*BROKEN, json.JSONDecodeError):
                pass
            finally:
                here.close()
            self.diary.refusals += 1
            if time.monotonic() > deadline:
                raise Disturbed(f"{method} {path}: no answer for {PATIENCE:.0f} s")
            time.sleep(AGAIN)


def patient(read: Callable[[], Found]) -> Found:
    """What the database says, also when it was killed a moment ago."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return read()
        except (OperationalError, InterfaceError):
            connection.close()
            if time.monotonic() > deadline:
                raise
            time.sleep(AGAIN)
