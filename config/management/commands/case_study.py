from typing import Any

from config import case_study, case_study_report, setup
from config.turns import SimulatedRounds
from generation.demo_writer.recipe import CASE_STUDY
from generation.models import Policy
from generation.plan import save_plan


class Command(SimulatedRounds):
    help = (
        "The seed chapter's case study with SIMULATED experts: its recipe, its figures beside ours, and three rounds "
        "in all. Ends with status 1 if something was not reached (docs/case-study.md)."
    )
    opening = "The experts of this case study are simulated (annotate/simulated.py): no person has judged."
    target = "case-study"
    rounds = case_study.ROUNDS
    report = case_study_report

    def prepare(self, seed: int) -> Policy:
        save_plan(rows=case_study.plan(seed=seed))
        return setup.prepare(self.say, recipe=CASE_STUDY, prompts=case_study.PROMPT_FILES)

    def settings_of(self, number: int, seed: int) -> dict[str, Any]:
        return case_study.training_of(number, seed=seed)
