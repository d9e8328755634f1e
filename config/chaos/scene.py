"""What is going on just now, and whether anything is done twice: seen from outside."""

import threading
import time
from collections import defaultdict

import psycopg
from django.conf import settings

from config import postgres
from config.chaos.plan import Phase
from config.trials import house

STATE = "SELECT number, state FROM training_round ORDER BY number DESC LIMIT 1"
PHASES = {
    "freezing": Phase.FREEZING,
    "training": Phase.TRAINING,
    "writing": Phase.GENERATING,
    "judging": Phase.COLLECTING,
    "promoted": Phase.COLLECTING,
    "rejected": Phase.COLLECTING,
}
SHORT, LONG = 0.004, 0.05  # seconds between looks: freezing takes some hundredths
WITNESS_EACH = 0.3  # seconds; a killed process may take some hundredths to be gone


class Scene(threading.Thread):
    """Follows the newest round's state. `promoting` is set by the one who promotes."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.promoting = threading.Event()
        self.closing = threading.Event()
        self.state = ""
        self.number = 0

    @property
    def phase(self) -> Phase | None:
        """None while a round waits for a worker or has failed, and while the database is away."""
        if self.promoting.is_set():
            return Phase.PROMOTING
        return PHASES.get(self.state) if self.number else Phase.COLLECTING

    def run(self) -> None:
        while not self.closing.is_set():
            try:
                with psycopg.connect(postgres.url(settings.POSTGRES_DIR), autocommit=True, connect_timeout=5) as link:
                    self._follow(link)
            except psycopg.OperationalError:
                self.state = "away"
                time.sleep(LONG)

    def _follow(self, link: psycopg.Connection) -> None:
        while not self.closing.is_set():
            found = link.execute(STATE).fetchone()
            self.number, self.state = found if found else (0, "")
            self.closing.wait(SHORT if self.state in ("queued", "freezing") else LONG)


class Witness(threading.Thread):
    """Looks whether two trainers ever work on one round."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.closing = threading.Event()
        self.doubled: set[str] = set()  # folders of rounds

    def run(self) -> None:
        before: dict[str, set[int]] = {}
        while not self.closing.wait(WITNESS_EACH):
            now = self._look()
            # the same two at two looks: none of them is only on its way out
            self.doubled |= {folder for folder, pids in now.items() if len(pids & before.get(folder, set())) > 1}
            before = now

    def _look(self) -> dict[str, set[int]]:
        found = defaultdict(set)
        for pid in house.trainers():
            line = house.command_line(pid)
            if "--out" in line:
                found[line[line.index("--out") + 1]].add(pid)
        return found
