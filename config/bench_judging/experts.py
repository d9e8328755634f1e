"""One expert's browser without its screen: asks for comparisons, answers them, and takes the times.

A script of its own that knows no Django: python experts.py reads a line of JSON for each thing to do
(`Browser.go`), and writes a line of JSON with what it measured (`Times`). Ends with its input.
"""

import html
import json
import random
import re
import resource
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from http.client import HTTPConnection
from urllib.parse import urlencode

FORM = re.compile(r'<form\b([^>]*\bid="judgement"[^>]*)>(.*?)</form>', re.DOTALL)
INPUT = re.compile(r'<input\b[^>]*\btype="hidden"[^>]*>')
ATTRIBUTE = re.compile(r'([\w-]+)="([^"]*)"')
BEST = re.compile(r'<input\b[^>]*\bname="best"')
REASON = "The ending follows from what the hero did, and the words fit the age."
TOO_MANY_ERRORS = 20
REDIRECTS = 3
HEADERS = {
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "Accept-Language": "en-US,en;q=0.5",
    "Accept-Encoding": "gzip, deflate",
}


class Unexpected(RuntimeError):
    """The server answered what no expert should see; the message says what."""


@dataclass(frozen=True)
class Answer:
    status: int
    location: str
    body: str


@dataclass(frozen=True)
class Page:
    """What is needed of a judging page to answer it."""

    action: str
    hidden: Mapping[str, str]
    count: int
    draft: str = ""  # where what is entered so far is kept

    @classmethod
    def read(cls, body: str) -> "Page":
        found = FORM.search(body)
        if not found:
            raise Unexpected("a page without a comparison: " + " ".join(re.sub("<[^>]*>", " ", body).split())[-200:])
        inputs = [dict(ATTRIBUTE.findall(tag)) for tag in INPUT.findall(found[2])]
        hidden = {given["name"]: html.unescape(given.get("value", "")) for given in inputs if "name" in given}
        said = {name: html.unescape(value) for name, value in ATTRIBUTE.findall(found[1])}
        return cls(said["action"], hidden, len(BEST.findall(found[2])), said.get("data-draft", ""))

    def answered(self, chance: random.Random) -> str:
        best, worst = chance.sample(range(1, self.count + 1), 2)
        reason = REASON if chance.random() < 1 / 3 else ""
        given = {"best": best, "worst": worst, "reason": reason, "seconds": 93.5, "verdict": "ranked"}
        return urlencode({**self.hidden, **given})


@dataclass
class Times:
    """Of one run of one expert; milliseconds as the browser waits."""

    next_ms: list[float] = field(default_factory=list)
    submit_ms: list[float] = field(default_factory=list)
    acknowledged: int = 0
    errors: int = 0
    said: list[str] = field(default_factory=list)  # of the first errors
    page_bytes: int = 0  # of the last page
    seconds: float = 0.0
    cpu_seconds: float = 0.0  # this process's own


class Browser:
    """Cookies, one connection that is kept open, and a page at a time.

    origin, headers: of a proxy in front of the server: how the browser knows it, and what it adds.
    """

    def __init__(self, port: int, seed: int, origin: str = "", headers: Mapping[str, str] | None = None) -> None:
        self.origin = origin or f"http://127.0.0.1:{port}"
        self.headers = {**HEADERS, **(headers or {})}
        self.connection = HTTPConnection("127.0.0.1", port, timeout=60)
        self.cookies: dict[str, str] = {}
        self.chance = random.Random(seed)

    def log_in(self, name: str, password: str) -> None:
        form = self.send("GET", "/log-in/").body
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', form)
        fields = {"username": name, "password": password, "csrfmiddlewaretoken": token[1] if token else "", "next": ""}
        answer = self.send("POST", "/log-in/", urlencode(fields))
        if answer.status != 302 or not any(cookie.endswith("sessionid") for cookie in self.cookies):
            raise Unexpected(f"{name} cannot log in: {answer.status}")

    def go(self, mode: str, seconds: float) -> Times:
        """Judge without pause. `form`: a form's POST and then a GET; `htmx`: one POST for both; `look`: no POST."""
        times = Times()
        began, cpu = time.perf_counter(), _cpu_seconds()
        page = None
        while time.perf_counter() < began + seconds and times.errors < TOO_MANY_ERRORS:
            try:
                page = self._turn(mode, page, times)
            except (Unexpected, OSError, ValueError) as error:
                times.errors += 1
                times.said = [*times.said, f"{type(error).__name__}: {error}"][:3]
                self.connection.close()  # the next request opens it again
                page = None
        times.seconds, times.cpu_seconds = time.perf_counter() - began, _cpu_seconds() - cpu
        return times

    def _turn(self, mode: str, page: Page | None, times: Times) -> Page | None:
        if page is None or mode == "look":
            return self._next("/judge/", times)
        form = page.answered(self.chance)
        began = time.perf_counter()
        if mode == "htmx":
            body = self._submit_htmx(page, form)
            times.submit_ms.append(1000 * (time.perf_counter() - began))
            times.page_bytes = len(body.encode())
            following = Page.read(body)
            if following.action == page.action:
                raise Unexpected("the same comparison again")
            times.acknowledged += 1
            return following
        answer = self.send("POST", page.action, form)
        times.submit_ms.append(1000 * (time.perf_counter() - began))
        if answer.status != 302 or "/log-in/" in answer.location:
            raise Unexpected(f"{answer.status} for an answer: {answer.location}")
        times.acknowledged += 1
        return self._next(answer.location, times)

    def _submit_htmx(self, page: Page, form: str) -> str:
        answer = self.send("POST", page.action, form, self.htmx_headers(page))
        if answer.status != 200:
            raise Unexpected(f"{answer.status} for an answer by htmx")
        return answer.body

    def htmx_headers(self, page: Page) -> dict[str, str]:
        """What the page's own script adds to a POST."""
        return {
            "Accept": "*/*",
            "HX-Request": "true",
            "HX-Target": "work",
            "HX-Current-URL": self.origin + page.action.removesuffix("submit/"),
            "X-CSRFToken": page.hidden.get("csrfmiddlewaretoken", ""),
        }

    def _next(self, path: str, times: Times) -> Page:
        """The next comparison's page; its redirects count."""
        began = time.perf_counter()
        answer = self.send("GET", path)
        for _ in range(REDIRECTS):
            if answer.status != 302:
                break
            answer = self.send("GET", answer.location)
        if answer.status != 200:
            raise Unexpected(f"{answer.status} for the next comparison")
        times.next_ms.append(1000 * (time.perf_counter() - began))
        times.page_bytes = len(answer.body.encode())
        return Page.read(answer.body)

    def send(self, method: str, path: str, form: str | None = None, headers: Mapping[str, str] | None = None) -> Answer:
        """One request, read to its end, as a browser sends it."""
        sent = {**self.headers, **(headers or {})}
        if self.cookies:
            sent["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        if form is not None:
            sent |= {"Origin": self.origin, "Content-Type": "application/x-www-form-urlencoded"}
        self.connection.request(method, path, body=form, headers=sent)
        answer = self.connection.getresponse()
        body = answer.read().decode()
        for line in answer.headers.get_all("Set-Cookie") or []:
            self._keep(line)
        return Answer(answer.status, answer.headers.get("Location", ""), body)

    def _keep(self, line: str) -> None:
        cookie, _, rest = line.partition(";")
        name, _, value = cookie.partition("=")
        if "max-age=0" in rest.lower():
            self.cookies.pop(name, None)
        else:
            self.cookies[name] = value


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    who = json.loads(sys.stdin.readline())
    browser = Browser(who["port"], who["seed"])
    browser.log_in(who["name"], who["password"])
    print(json.dumps("logged in"), flush=True)
    for line in sys.stdin:
        print(json.dumps(asdict(browser.go(**json.loads(line)))), flush=True)


if __name__ == "__main__":
    main()
