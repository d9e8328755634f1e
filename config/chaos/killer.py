"""Does what the plan says, when its moment has come."""

import random
import threading
import time
from collections import Counter
from dataclasses import dataclass

from config.chaos import targets
from config.chaos.plan import Phase, Plan, Target
from config.chaos.scene import Scene
from config.trials.house import House

LOOK = 0.003  # seconds
BREATH = 1.0  # seconds of peace after each kill
UP_SECONDS = 60.0  # until all of the house must be up again


@dataclass(frozen=True)
class Kill:
    """That it happened, and in which phase it hit."""

    phase: Phase
    target: Target
    round: int
    after: float  # seconds from the beginning


class Killer(threading.Thread):
    """Goes on until the plan is over."""

    def __init__(self, plan: Plan, house: House, scene: Scene) -> None:
        super().__init__(daemon=True)
        self.plan, self.house, self.scene = plan, house, scene
        self.kills: list[Kill] = []
        self.faults: list[str] = []
        self.closing = threading.Event()
        self.chance = random.Random(plan.seed + 1)
        self.began = time.monotonic()

    def run(self) -> None:
        try:
            self._kill_all()
        except Exception as error:  # noqa: BLE001  whatever it is, the run has not done what it should
            self.faults.append(f"The killer has ended: {error!r}")

    def _kill_all(self) -> None:
        seen = None
        while not self.closing.wait(LOOK) and not self.plan.over:
            phase = self.scene.phase
            if phase is None:
                continue
            if phase != seen:
                self.plan.enter(phase)
                seen = phase
            chosen = self.plan.next(phase)
            if chosen and self._strike(phase, *chosen):
                self._rest()

    def counts(self) -> Counter[tuple[Phase, Target]]:
        return Counter((kill.phase, kill.target) for kill in self.kills)

    def _strike(self, phase: Phase, target: Target, delay: float) -> bool:
        if self.closing.wait(delay) or self.scene.phase != phase:
            return False
        pids = targets.find(self.house, target)
        at, number = self.scene.phase, self.scene.number
        if not pids or at is None or not targets.kill(self.house, target, self.chance.choice(pids)):
            return False
        self.plan.killed(at, target)
        self.kills.append(Kill(at, target, number, round(time.monotonic() - self.began, 2)))
        return True

    def _rest(self) -> None:
        deadline = time.monotonic() + UP_SECONDS
        while not self.house.well() and not self.closing.wait(0.05):
            if time.monotonic() > deadline:
                self.faults.append(f"The house was not up {UP_SECONDS:.0f} s after a kill of {self.kills[-1].target}.")
                return
        self.closing.wait(BREATH)
