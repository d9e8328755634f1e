from typing import Any

from config import loop_report, setup
from config.turns import SimulatedRounds
from generation.models import Policy
from training import schedule


class Command(SimulatedRounds):
    help = (
        "The whole loop without a browser: the writer writes, SIMULATED experts judge, rounds of DPO run in a "
        "real worker, and a table says what came of it."
    )
    opening = "Experts in this run are simulated (annotate/simulated.py)."
    target = "loop"
    rounds = 2
    report = loop_report

    def prepare(self, seed: int) -> Policy:
        return setup.prepare(self.say)

    def settings_of(self, number: int, seed: int) -> dict[str, Any]:
        return schedule.DEFAULTS
