"""Rounds as an admin would run them, through all that happens: collect, launch, watch, resume, promote."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from config.trials.people import Admin, Diary, Disturbed, patient
from training.models import Round, State

COLLECT_SECONDS = 90.0
STUCK_SECONDS = 240.0  # without any change of a round
MOST_RESUMED = 6
LOOK = 0.2
SETTINGS = {"epochs": 2, "batch_pairs": 8, "learning_rate": 4e-5}  # many short steps: some for each checkpoint
DIED = ("its process died each time", "was killed", "not enough memory")  # ends that a kill may bring about


class Stuck(RuntimeError):
    """A round does not go on, or ended as no kill explains; the message says how it stands."""


@dataclass
class Turns:
    """What an admin does. `resumed` counts the rounds that a person had to help."""

    admin: Admin
    diary: Diary
    say: Callable[[str], None]
    name: str  # of this run: two of them launch different rounds
    collected: Callable[[int], bool]  # whether so many judgements, given since the last promotion, are enough
    promoting: threading.Event = field(default_factory=threading.Event)  # set while it is done
    resumed: int = 0

    def take(self, number: int) -> None:
        """One round from its judgements to its promotion. Raises Stuck, Disturbed."""
        self._collect()
        self._launch(number)
        self._watch(number)
        self._promote(number)
        self.say(f"Round {number}: promoted; {len(self.diary.given)} judgements so far")

    def _collect(self) -> None:
        begin, deadline = len(self.diary.given), time.monotonic() + COLLECT_SECONDS
        while time.monotonic() < deadline:
            if self.collected(len(self.diary.given) - begin):
                return
            time.sleep(LOOK)

    def _launch(self, number: int) -> None:
        key = {"Idempotency-Key": f"{self.name}-{number}"}
        status, answer = self.admin.ask("POST", "/rounds", SETTINGS, **key)
        if status not in (200, 201):
            raise Disturbed(f"round {number} cannot be launched: {status} {answer}")

    def _watch(self, number: int) -> None:
        """Until it waits to be judged; what a person would have to resume is resumed."""
        seen: Any = None
        deadline = time.monotonic() + STUCK_SECONDS
        while True:
            current = patient(lambda: Round.objects.get(number=number))
            if current.state == State.JUDGING:
                return
            if current.state == State.FAILED:
                self._resume(current)
            now = (current.state, current.done, current.attempt)
            if now != seen:
                seen, deadline = now, time.monotonic() + STUCK_SECONDS
            if time.monotonic() > deadline:
                raise Stuck(f"Round {number} stays {current.state} ({current.done} of {current.total}).")
            time.sleep(LOOK)

    def _resume(self, current: Round) -> None:
        self.say(f"Round {current.number} ended: {current.message}")
        self.resumed += 1
        if not any(words in current.message for words in DIED) or self.resumed > MOST_RESUMED * current.number:
            raise Stuck(f"Round {current.number} failed: {current.message}")
        status, answer = self.admin.ask("POST", f"/rounds/{current.number}/resume")
        again = patient(lambda: Round.objects.get(pk=current.pk))
        if status != 202 and again.state == State.FAILED:
            raise Stuck(f"Round {current.number} cannot be resumed: {answer}")

    def _promote(self, number: int) -> None:
        self.promoting.set()
        try:
            time.sleep(LOOK / 4)
            status, answer = self.admin.ask("POST", f"/rounds/{number}/promote", {"in_spite_of_alarms": True})
        finally:
            self.promoting.clear()
        # 409 is what the second try hears when the first one had gone through before its answer was lost
        if patient(lambda: Round.objects.get(number=number)).state != State.PROMOTED:
            raise Stuck(f"Round {number} is not promoted: {status} {answer}")
