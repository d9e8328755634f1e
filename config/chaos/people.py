"""Who uses the installation meanwhile: experts in their browsers, and an admin by the API."""

import json
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from http.client import HTTPConnection, HTTPException
from typing import Any, TypeVar

from django.db import InterfaceError, OperationalError, connection

from config.bench_judging.experts import Browser, Page, Unexpected

PATIENCE = 180.0  # seconds until somebody who gets no answer gives up
AGAIN = 0.3  # seconds
Found = TypeVar("Found")
THINK = (0.2, 0.6)  # seconds over a comparison
BROKEN = (OSError, HTTPException)  # the server is gone, or went away in the middle


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


class ExpertThread(threading.Thread):
    """One expert, who judges until the end, and sends an answer until it is acknowledged."""

    def __init__(self, port: int, name: str, password: str, seed: int, diary: Diary) -> None:
        super().__init__(daemon=True, name=name)
        self.login = (name, password)
        self.chance = random.Random(seed)
        self.browser = Browser(port, seed)
        self.browser.connection.timeout = 10
        self.diary = diary

    def run(self) -> None:
        while not self.diary.closing.is_set():
            try:
                self._insist(lambda: self.browser.log_in(*self.login))
                break
            except (Disturbed, Unexpected) as error:
                self.diary.errors.append(f"{self.name}: {error}")
        while not self.diary.closing.is_set():
            try:
                page = self._page()
                if page:
                    self._answer(page)
            except (Disturbed, Unexpected) as error:
                self.diary.errors.append(f"{self.name}: {error}")
            self.diary.closing.wait(self.chance.uniform(*THINK))

    def _page(self) -> Page | None:
        """The next comparison; None if there is none, or no time is left."""
        answer, path = None, "/judge/"
        for _ in range(4):
            answer = self._insist(partial(self.browser.send, "GET", path))
            if answer is None or answer.status != 302:
                break
            path = answer.location
        if answer is None or 'id="judgement"' not in answer.body:
            return None
        return Page.read(answer.body)

    def _answer(self, page: Page) -> None:
        form = page.answered(self.chance)
        best = int(dict(part.split("=") for part in form.split("&"))["best"])
        answer = self._insist(lambda: self.browser.send("POST", page.action, form))
        if answer is None:
            return
        if answer.status != 302 or "/log-in/" in answer.location:
            raise Disturbed(f"{answer.status} for an answer to {page.action}: {answer.location}")
        self.diary.given.append(Given(page.action.rstrip("/").split("/")[-2], page.hidden["page"], best))

    def _insist(self, act: Callable[[], Any]) -> Any:
        """`act` until the server answers it; None when the run ends meanwhile. Raises Disturbed."""
        deadline = time.monotonic() + PATIENCE
        while not self.diary.closing.is_set():
            try:
                answer = act()
                if answer is None or answer.status < 500:
                    return answer
            except BROKEN:
                self.browser.connection.close()
            except Unexpected:  # no log-in page at all
                if time.monotonic() > deadline:
                    raise
            self.diary.refusals += 1
            if time.monotonic() > deadline:
                raise Disturbed(f"no answer for {PATIENCE:.0f} s")
            time.sleep(AGAIN)
        return None


class Admin:
    """Launches, resumes and promotes rounds by the API, and asks again whatever gets no answer."""

    def __init__(self, port: int, token: str, diary: Diary) -> None:
        self.port = port
        self.headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
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
