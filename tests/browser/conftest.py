"""A real Chromium against what `manage.py demo` starts: PostgreSQL, web, worker, beat, the demo writer."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from config import postgres
from tests.browser import desk
from tests.environment import ROOT

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
# without the background flags Chromium keeps asking hosts that are not there
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-sync"]
FLAGS += ["--no-first-run", "--disable-component-update"]
START_SECONDS = 400  # the writer is trained when it is not in the cache
expect.set_options(timeout=15_000)


@dataclass
class Demo:
    """A running `manage.py demo`."""

    var: Path
    port: int
    process: subprocess.Popen[str]
    output: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    @property
    def logins(self) -> dict[str, str]:
        return json.loads((self.var / "demo-logins.json").read_text())

    def query(self, sql: str, *values: object) -> list[tuple]:
        with psycopg.connect(postgres.url(self.var / "postgres")) as connection:
            return connection.execute(sql, values or None).fetchall()

    def one(self, sql: str, *values: object) -> Any:
        """The first column of the first row."""
        return self.query(sql, *values)[0][0]

    def change(self, sql: str, *values: object) -> None:
        with psycopg.connect(postgres.url(self.var / "postgres")) as connection:
            connection.execute(sql, values or None)

    def wait_for(self, wanted: object, sql: str, *values: object) -> None:
        """Until `sql` says `wanted`: for what a page does behind the user's back."""
        deadline = time.monotonic() + 15
        while (found := self.query(sql, *values)) != [(wanted,)]:
            assert time.monotonic() < deadline, f"{sql} is {found}, not {wanted}"
            time.sleep(0.05)

    def stop(self) -> None:
        """Ctrl-C, as the terminal sends it."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(timeout=60)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start_demo(var: Path, port: int) -> Demo:
    """Start it and return when it has printed its URL."""
    var.mkdir(exist_ok=True)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("STORYLOOP_")}
    environment |= {"STORYLOOP_VAR": str(var), "STORYLOOP_DEMO": "true"}
    output = var / "demo.log"
    with output.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "manage.py", "demo", "--port", str(port)],
            cwd=ROOT, env=environment, stdout=file, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
    demo = Demo(var, port, process, output)
    deadline = time.monotonic() + START_SECONDS
    while "Ctrl-C stops everything" not in output.read_text():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            pytest.fail(f"the demo did not start:\n{output.read_text()[-3000:]}")
        time.sleep(0.2)
    return demo


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    found = start_demo(tmp_path_factory.mktemp("demo") / "var", free_port())
    desk.without_chance(found)
    yield found
    if found.process.poll() is None:
        found.stop()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    if not Path(CHROMIUM).exists():
        pytest.fail(f"There is no Chromium at {CHROMIUM}: apt-get install chromium, or set CHROMIUM.")
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield found
        found.close()


@pytest.fixture(scope="session")
def sessions() -> dict[str, Any]:
    """Cookies by name: logging in takes a second, and is asked for once a person."""
    return {}


@pytest.fixture
def open_page(browser: Browser, demo: Demo, sessions: dict[str, Any]) -> Iterator[Callable[..., Page]]:
    """open_page("educator") is a page of somebody logged in; keywords go to the browser's context.

    Experts are made as they are named ("educator-2" is an educator), have practised, and find
    nothing that an earlier test has begun; with `as_is` they are left as they are.
    """
    contexts = []

    def open_as(name: str, path: str = "/", *, as_is: bool = False, **options: Any) -> Page:
        if name not in demo.logins:
            desk.make_expert(demo, name)
        if name != "admin" and not as_is:
            desk.clear(demo, name)
        context = browser.new_context(base_url=demo.url, storage_state=sessions.get(name), **options)
        contexts.append(context)
        page = context.new_page()
        if name not in sessions:
            log_in(page, demo, name)
            sessions[name] = context.storage_state()
        page.goto(path)
        return page

    yield open_as
    for context in contexts:
        context.close()


def log_in(page: Page, demo: Demo, name: str) -> None:
    page.goto("/log-in/?next=/judge/guidelines/" if name != "admin" else "/log-in/?next=/judging/")
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(demo.logins.get(name) or demo.logins[name.split("-", maxsplit=1)[0]])
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url(lambda url: "/log-in/" not in url)


def go_on(page: Page, act: Callable[[], None]) -> None:
    """Do what leads to the next comparison, and wait for it."""
    key = page.locator("#judgement input[name=page]")
    before = key.input_value()
    act()
    expect(key).not_to_have_value(before)
    page.locator(".htmx-request").wait_for(state="detached")
    page.locator("[data-fresh]").wait_for(state="detached")  # no verdict is taken before anybody can have read


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The loop fills every open place, and the launcher's tests stop the demo: both come last."""
    last = ["test_loop.py", "test_zz_launcher.py"]
    items.sort(key=lambda item: last.index(item.path.name) + 1 if item.path.name in last else 0)
