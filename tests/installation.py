"""Machines of one installation, each with folders of its own: processes as in production, and a person's browser."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import requests

from config import postgres
from config.services import free_port, web_command
from tests.environment import ROOT, VAR

Processes = dict[str, "subprocess.Popen[str]"]


class Machine:
    """A folder, and the environment that its processes have. Nothing of it is another machine's."""

    def __init__(self, folder: Path, database: str, shared: Mapping[str, str]) -> None:
        self.var = folder
        folder.mkdir()
        kept = {name: value for name, value in os.environ.items() if not name.startswith("STORYLOOP_")}
        self.environment = {
            **kept,
            "STORYLOOP_SECOND_FACTOR": "none",
            "STORYLOOP_MAX_STORY_TOKENS": "96",
            "STORYLOOP_STORIES_PER_PROMPT": "3",
            "DATABASE_URL": postgres.url(VAR / "postgres", database),
            "STORYLOOP_SECRET_KEY": "the same on all machines, " * 3,
            **shared,
            "STORYLOOP_VAR": str(folder),
        }

    def start(self, command: list[str]) -> "subprocess.Popen[str]":
        with (self.var / "log").open("w") as log:
            return subprocess.Popen(
                command,
                cwd=ROOT,
                env=self.environment,
                stdout=log,
                stderr=log,
                text=True,
                start_new_session=True,
            )

    def worker(self, queue: str) -> "subprocess.Popen[str]":
        return self.start([sys.executable, "manage.py", "worker", "--queues", queue, "--concurrency", "1"])

    def collect_static(self, like: "Machine | None" = None) -> None:
        if like:
            shutil.copytree(like.var / "static", self.var / "static")
            return
        command = [sys.executable, "manage.py", "collectstatic", "--noinput", "-v0"]
        subprocess.run(command, cwd=ROOT, env=self.environment, check=True)

    def web(self) -> "tuple[subprocess.Popen[str], str]":
        """Granian as in production, with one process for the pages; and its address."""
        port = free_port()
        command = web_command(port)
        command[command.index("--workers") + 1] = "1"
        return self.start(command), f"http://127.0.0.1:{port}"

    def log(self) -> str:
        return (self.var / "log").read_text()[-3000:]


@contextmanager
def ended_with(started: Processes) -> Iterator[None]:
    """All of them killed at the end, with what they have started."""
    try:
        yield
    finally:
        for process in started.values():
            kill(process)


def kill(process: "subprocess.Popen[str]") -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


class Browser:
    """A person's, with one session for all web machines, as behind a load balancer."""

    def __init__(self) -> None:
        self.session = requests.Session()

    def wait_for(self, address: str, machine: Machine, seconds: float = 120) -> None:
        deadline = time.monotonic() + seconds
        while True:
            with suppress(requests.ConnectionError):
                if self.session.get(f"{address}/readyz", timeout=30).status_code == 200:
                    return
            assert time.monotonic() < deadline, machine.log()
            time.sleep(0.2)

    def get(self, url: str, **headers: str) -> requests.Response:
        return self.session.get(url, headers=headers, timeout=60)

    def post(self, url: str, page: str = "", files: Mapping[str, object] | None = None, **fields: str) -> str:
        """Send the form that stands on `page`; the page that follows."""
        shown = self.get(page or url).text
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', shown)
        assert token, shown
        sent = {"csrfmiddlewaretoken": token[1], **fields}
        answer = self.session.post(url, data=sent, files=files, headers={"Referer": url}, timeout=60)
        assert answer.ok, (answer.status_code, answer.text)
        return answer.text
