"""Experts who read, draft and answer, each in a thread. What breaks is sent once more, as a person would."""

import json
import random
import threading
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from urllib.parse import parse_qs

from config.bench_judging.experts import Answer, Browser, Page, Unexpected
from config.soak import front
from config.trials.people import BROKEN, Diary, Given

RETRY_AFTER = 1.0  # seconds; the page's script waits 2 (static/draft.js), a person longer
IDLE = 2.0  # seconds until somebody who found nothing to judge looks again
AT_THE_DOOR = 4  # log in at a time: each costs a password hash
WITHOUT_SCRIPT = 4  # one in so many has no JavaScript: no drafts, and a redirect to the next page
STAGES = ("arrive", "soak", "peak", "over")


@dataclass
class Log:
    """What all of them have seen. stage: what the present requests count for; think: seconds, lowest and highest."""

    think: tuple[float, float]
    stage: str = STAGES[0]
    times: dict[str, dict[str, list[float]]] = field(default_factory=lambda: {stage: {} for stage in STAGES})
    given: Counter[str] = field(default_factory=Counter)  # acknowledged judgements of each stage
    retried: Counter[str] = field(default_factory=Counter)  # requests that were answered when sent again
    failed: list[str] = field(default_factory=list)  # that were not
    idle: int = 0  # times that somebody found nothing to judge
    diary: Diary = field(default_factory=Diary)
    doors: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(AT_THE_DOOR))
    arrived: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    begin: threading.Event = field(default_factory=threading.Event)

    def took(self, kind: str, began: float) -> None:
        """In milliseconds, the wait before a second try among them."""
        self.times[self.stage].setdefault(kind, []).append(1000 * (time.perf_counter() - began))


class Expert(threading.Thread):
    """Judges until the diary is closed."""

    def __init__(self, port: int, number: int, login: tuple[str, str], log: Log, seed: int) -> None:
        super().__init__(daemon=True, name=login[0])
        self.login, self.log, self.closing = login, log, log.diary.closing
        self.chance = random.Random(seed * 10_000 + number)
        self.browser = Browser(port, number, front.ORIGIN, front.headers(number))
        self.has_script = number % WITHOUT_SCRIPT > 0

    def run(self) -> None:
        with self.log.doors:
            self._log_in()
        self.log.arrived.release()
        self.log.begin.wait()
        self._rest(self.chance.uniform(0, 1))  # nobody begins in the same moment
        page: Page | None = None
        while not self.closing.is_set():
            try:
                page = self._turn(page or self._next("/judge/"))
            except Exception as error:  # noqa: BLE001  whatever it is, nobody should see it
                self.log.diary.errors.append(f"{self.name}: {type(error).__name__}: {error}")
                page = None
                self.closing.wait(IDLE)

    def _log_in(self) -> None:
        began = time.perf_counter()
        try:
            self.browser.log_in(*self.login)
            self.log.took("log in", began)
        except (Unexpected, *BROKEN) as error:
            self.log.diary.errors.append(f"{self.name} cannot log in: {error}")

    def _rest(self, share: float) -> None:
        self.closing.wait(share * self.chance.uniform(*self.log.think))

    def _turn(self, page: Page | None) -> Page | None:
        """Read, keep a draft half-way, answer. Returns the next page, if the answer has brought it."""
        if page is None:
            self.closing.wait(IDLE)
            return None
        form = page.answered(self.chance)
        self._rest(0.5)
        if self.has_script:
            page = self._draft(page, form)
            form = _with_version(form, page)
        self._rest(0.5)
        return None if self.closing.is_set() else self._submit(page, form)

    def _next(self, path: str) -> Page | None:
        """None if there is nothing to judge, or no answer."""
        answer = self._ask("next", "GET", path)
        if answer is None:
            return None
        if answer.status != 200:
            raise Unexpected(f"{answer.status} for {path}: {answer.location}")
        return self._read(answer)

    def _read(self, answer: Answer) -> Page | None:
        if 'id="judgement"' in answer.body:
            return Page.read(answer.body)
        self.log.idle += 1
        return None

    def _draft(self, page: Page, form: str) -> Page:
        answer = self._ask("draft", "POST", page.draft, form, self.browser.htmx_headers(page))
        if answer is None:
            return page
        if answer.status != 200:
            raise Unexpected(f"{answer.status} for a draft")
        return replace(page, hidden={**page.hidden, "version": str(json.loads(answer.body)["version"])})

    def _submit(self, page: Page, form: str) -> Page | None:
        kind = "submit + next" if self.has_script else "submit"
        answer = self._ask(kind, "POST", page.action, form, self.browser.htmx_headers(page) if self.has_script else {})
        if answer is None:
            return None
        if answer.status != (200 if self.has_script else 302) or "/log-in/" in answer.location:
            raise Unexpected(f"{answer.status} for an answer: {answer.location}")
        following = self._read(answer) if self.has_script else None
        if following and following.action == page.action:
            raise Unexpected("the same comparison again")
        sent = parse_qs(form)
        key = page.action.rstrip("/").split("/")[-2]
        self.log.diary.given.append(Given(key, sent["page"][0], int(sent["best"][0])))
        self.log.given[self.log.stage] += 1
        return following if self.has_script else self._next(answer.location)

    def _ask(
        self, kind: str, method: str, path: str, form: str | None = None, headers: dict[str, str] | None = None
    ) -> Answer | None:
        """The answer to the first or second try; None if both have failed."""
        began, said = time.perf_counter(), ""
        for again in (False, True):
            try:
                answer = self.browser.send(method, path, form, headers)
                if answer.status < 500:
                    self.log.took(kind, began)
                    self.log.retried[kind] += again
                    return answer
                said = f"{said} {answer.status}"
            except BROKEN as error:  # nginx would answer 502
                self.browser.connection.close()
                said = f"{said} {type(error).__name__}"
            if not again:
                self.log.diary.refusals += 1
                time.sleep(RETRY_AFTER)
        self.log.failed.append(f"{kind}:{said}")
        return None


def _with_version(form: str, page: Page) -> str:
    """The page's script puts the draft's version into the form."""
    parts = [part for part in form.split("&") if not part.startswith("version=")]
    return "&".join([*parts, f"version={page.hidden['version']}"])
