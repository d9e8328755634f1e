"""The processes of an installation, each started again when it dies, as systemd would."""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from subprocess import Popen

import psutil
from django.conf import settings

from config import postgres, services
from generation.engines import processes

LOOK = 0.1  # seconds
RESTART_AFTER = 0.5  # seconds that the dead lie, as with systemd's RestartSec
HEALTH = "/healthz"


class House:
    """Web, worker and beat on a PostgreSQL of their own; each is known to it as storyloop-NAME."""

    def __init__(
        self,
        port: int,
        commands: Mapping[str, list[str]] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.port = port
        self.commands = commands or {
            "web": services.web_command(port),
            "worker": services.worker_command(),
            "beat": services.beat_command(),
        }
        self.environment = environment or {}
        self.started: dict[str, Popen[str]] = {}
        self.restarts = 0
        self.closing = threading.Event()
        self.locked = threading.Lock()

    @contextmanager
    def kept(self) -> Iterator["House"]:
        """All of it up, and kept up until the end."""
        keeper = threading.Thread(target=self._keep, daemon=True)
        try:
            for name in self.commands:
                self._start(name)
            services.wait_for_web(f"http://127.0.0.1:{self.port}{HEALTH}", self.started)
            keeper.start()
            yield self
        finally:
            self.closing.set()
            with self.locked:
                for process in reversed(self.started.values()):
                    processes.stop(process, grace=services.STOP_SECONDS)

    def well(self) -> bool:
        """Whether all of it runs."""
        return bool(postmaster()) and all(process.poll() is None for process in self.started.values())

    def start_database(self) -> None:
        time.sleep(RESTART_AFTER)
        with postgres.running(settings.POSTGRES_DIR):
            pass  # the command's own hold on it keeps it up

    def _keep(self) -> None:
        while not self.closing.wait(LOOK):
            for name, process in list(self.started.items()):
                if process.poll() is not None and not self.closing.wait(RESTART_AFTER):
                    processes.stop(process, grace=0)  # what is left of its group goes with it, as with systemd
                    self._start(name)
                    self.restarts += 1

    def _start(self, name: str) -> None:
        with self.locked:
            if self.closing.is_set():
                return
            self.started[name] = processes.start(
                self.commands[name],
                log=services.log_of(name),
                directory=settings.BASE_DIR,
                environment={**self.environment, "PGAPPNAME": f"storyloop-{name}"},
            )


def postmaster() -> int:
    """0 if there is none."""
    try:
        pid = int((settings.POSTGRES_DIR / "data" / "postmaster.pid").read_text().split()[0])
        return pid if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE else 0
    except (OSError, ValueError, IndexError, psutil.NoSuchProcess):
        return 0


def family(pid: int) -> list[int]:
    """A service's process and those below it that are its own: not the trainer, nor the writer."""
    try:
        parent = psutil.Process(pid)
        if parent.status() == psutil.STATUS_ZOMBIE:
            return []
        below = parent.children(recursive=True)
        return [pid, *(child.pid for child in below if not _is(child, "training.dpo", "write_stories"))]
    except psutil.NoSuchProcess:
        return []


def trainers() -> list[int]:
    """The trainers of rounds: not the unbroken runs that they are compared with."""
    words = ("training.dpo", str(Path(settings.MODEL_DIR)))
    # all processes, not those below this one: an orphan is just what must not be
    return [process.pid for process in psutil.process_iter() if _is_all(process, words)]


def running(*words: str) -> list[int]:
    """Ids of living processes of this installation in whose command line all of `words` stand."""
    return [process.pid for process in psutil.Process().children(recursive=True) if _is_all(process, words)]


def command_line(pid: int) -> list[str]:
    try:
        return psutil.Process(pid).cmdline()
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return []


def _is(process: psutil.Process, *words: str) -> bool:
    return any(_is_all(process, (word,)) for word in words)


def _is_all(process: psutil.Process, words: tuple[str, ...]) -> bool:
    line = " ".join(command_line(process.pid))
    return bool(line) and all(word in line for word in words)
