"""Experts in their browsers, who send an answer until it is acknowledged."""

import random
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from config.bench_judging.experts import Browser, Page, Unexpected
from config.trials.people import AGAIN, BROKEN, PATIENCE, Diary, Disturbed, Given

THINK = (0.2, 0.6)  # seconds over a comparison


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
