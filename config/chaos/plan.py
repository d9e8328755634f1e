"""What is killed while what is going on: drawn beforehand from a seed. Knows no Django."""

import random
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum


class Phase(StrEnum):
    """What the installation is doing. People judge through all of it."""

    COLLECTING = "collecting"
    FREEZING = "freezing"
    TRAINING = "training"
    GENERATING = "generating"
    PROMOTING = "promoting"


class Target(StrEnum):
    """What gets a signal 9. BROKER is a worker's connections to the queue and the database, which are cut."""

    WEB = "web"
    WORKER = "worker"
    TRAINER = "trainer"
    WRITER = "writer"
    BEAT = "beat"
    BROKER = "broker"
    DATABASE = "database"


ALWAYS = (Target.WEB, Target.WORKER, Target.BEAT, Target.BROKER, Target.DATABASE)
TARGETS: dict[Phase, tuple[Target, ...]] = {
    Phase.COLLECTING: ALWAYS,
    Phase.FREEZING: ALWAYS,
    Phase.TRAINING: (*ALWAYS, Target.TRAINER, Target.TRAINER),
    Phase.GENERATING: (*ALWAYS, Target.WRITER),
    Phase.PROMOTING: ALWAYS,
}
SHARES = {
    Phase.COLLECTING: 0.2,
    Phase.FREEZING: 0.15,
    Phase.TRAINING: 0.3,
    Phase.GENERATING: 0.2,
    Phase.PROMOTING: 0.15,
}
# of one visit: a phase that is killed without end would come to none
MOST_A_VISIT = {
    Phase.COLLECTING: 2,
    Phase.FREEZING: 1,
    Phase.TRAINING: 3,
    Phase.GENERATING: 2,
    Phase.PROMOTING: 1,
}
# seconds of a phase within which the moment is drawn: about as long as it lasts on two cores
SPREAD = {
    Phase.COLLECTING: 2.0,
    Phase.FREEZING: 0.06,
    Phase.TRAINING: 8.0,
    Phase.GENERATING: 5.0,
    Phase.PROMOTING: 0.12,
}


@dataclass
class Plan:
    """Which kills are still to be done."""

    seed: int
    left: Counter[tuple[Phase, Target]] = field(default_factory=Counter)
    visits: Counter[Phase] = field(default_factory=Counter)  # kills in the present visit
    chance: random.Random = field(default_factory=random.Random)

    @classmethod
    def of(cls, kills: int, seed: int) -> "Plan":
        """`kills` kills: each phase has its share, each target of a phase its turn before any has a second."""
        plan = cls(seed, chance=random.Random(seed))
        for phase, count in _counts(kills).items():
            turns: list[Target] = []
            while len(turns) < count:
                turns += plan.chance.sample(TARGETS[phase], len(TARGETS[phase]))
            plan.left.update((phase, target) for target in turns[:count])
        return plan

    @property
    def over(self) -> bool:
        return not self.left.total()

    def still(self, phase: Phase) -> int:
        return sum(count for (of, _), count in self.left.items() if of == phase)

    def wanted(self, phase: Phase) -> bool:
        """Whether a kill is still to come in this visit to `phase`."""
        return self.still(phase) > 0 and self.visits[phase] < MOST_A_VISIT[phase]

    def next(self, phase: Phase) -> tuple[Target, float] | None:
        """What to kill in this visit to `phase`, and after how many seconds; None if enough was killed."""
        waiting = sorted(target for (of, target), count in self.left.items() if of == phase and count)
        if not waiting or not self.wanted(phase):
            return None
        return self.chance.choice(waiting), self.chance.uniform(0, SPREAD[phase])

    def killed(self, phase: Phase, target: Target) -> None:
        """A kill may meet another phase than it was meant for: it counts where it hit, if it was wanted there."""
        self.visits[phase] += 1
        if self.left[phase, target]:
            self.left[phase, target] -= 1

    def enter(self, phase: Phase) -> None:
        """Another visit: it may be killed anew."""
        self.visits[phase] = 0


def _counts(kills: int) -> dict[Phase, int]:
    """Of each phase, at least one; the rest of the rounding goes to training."""
    counts = {phase: max(int(kills * share), 1) for phase, share in SHARES.items()}
    counts[Phase.TRAINING] += max(kills - sum(counts.values()), 0)
    return counts
