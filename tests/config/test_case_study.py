"""The seed chapter's case study: its recipe, and what `make case-study` says at its end."""

import copy
import json
import os
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from config import case_study
from config.case_study_report import faults, figures, table
from generation.models import Language, Policy, Prompt, SamplingRow, Split
from generation.prompts import import_prompts
from tests.environment import ROOT
from tests.factories import make_evaluation, make_policy, make_prompt, make_story
from tests.training.test_models import make_round
from training.models import Round, State

OPENING = "The experts of this case study are simulated (annotate/simulated.py): no person has judged."
BASE = {
    "structure": 0.78, "message": 0.62, "hard_words": 0.03, "mean_words": 120.0, "repetition": 0.008,
    "diversity": 0.7, "broken": 0.01, "grade": 4.0, "words_per_sentence": 11.0, "characters_per_sentence": 13.0,
}  # fmt: skip
AFTER = BASE | {
    "structure": 0.96, "message": 0.95, "hard_words": 0.01, "words_per_sentence": 10.5, "characters_per_sentence": 12.5,
    "repetition": 0.004,
}  # fmt: skip
UNCHANGED = {name: {"mean": 0.0, "low": -0.02, "high": 0.02} for name in BASE}
WON = {"rate": 0.75, "low": 0.7, "high": 0.8, "n": 600}
EVEN = {"rate": 0.5, "low": 0.46, "high": 0.54, "n": 600}
FOUND: dict[str, Any] = {
    "base": BASE,
    "held_out_prompts": 100,
    "rounds": [
        AFTER
        | {
            "round": number, "pairs": 560, "win_rate_base": WON, "win_rate_previous": WON if number == 1 else EVEN,
            "change_from_previous": UNCHANGED, "change_from_base": UNCHANGED,
        }
        for number in (1, 2, 3)
    ],
}  # fmt: skip


def changed(number: int, **values: Any) -> dict[str, Any]:
    """FOUND, with other values in round `number`."""
    found = copy.deepcopy(FOUND)
    found["rounds"][number - 1] |= values
    return found


class TestRecipe:
    @pytest.mark.django_db
    def test_a_hundred_prompts_are_trained_on_and_a_hundred_held_out(self) -> None:
        for file in case_study.PROMPT_FILES:
            assert import_prompts(file).known == 0
        found = list(Prompt.objects.values_list("split", "language"))
        assert {(split, language): found.count((split, language)) for split, language in found} == dict.fromkeys(
            product(Split.values, Language.values), 50
        )

    def test_beta_is_the_chapters_and_so_is_the_number_of_epochs(self) -> None:
        assert [case_study.training_of(number, seed=0)["beta"] for number in (1, 2, 3)] == [0.2] * 3
        assert [case_study.training_of(number, seed=0)["epochs"] for number in (1, 2, 3)] == [3] * 3

    def test_another_seed_trains_and_draws_otherwise(self) -> None:
        assert case_study.training_of(1, seed=0) != case_study.training_of(1, seed=1)
        assert {row.seed for row in case_study.plan(seed=3)} == {3}

    def test_the_stories_of_a_prompt_are_drawn_in_different_ways(self) -> None:
        drawn = {(row.temperature, row.min_p) for row in case_study.plan(seed=0)}
        assert len(drawn) == len(case_study.plan(seed=0)) >= 3

    def test_a_round_may_be_launched_with_its_settings(self) -> None:
        known = {field.name for field in Round._meta.get_fields()}
        assert set(case_study.training_of(1, seed=0)) <= known


class TestFaults:
    def test_figures_that_meet_the_chapters_and_do_not_decay_have_none(self) -> None:
        assert faults(FOUND) == []

    @pytest.mark.parametrize(
        ("name", "value", "said"),
        [
            ("structure", 0.929, "clear structure is 92.9 %, the chapter's 93%"),
            ("message", 0.849, "educational message is 84.9 %, the chapter's 85%"),
            ("win_rate_base", WON | {"rate": 0.719}, "preferred to the base is 71.9 %, the chapter's 72%"),
            ("win_rate_base", {"rate": None, "low": None, "high": None, "n": 0}, "is 0.0 %"),
            ("words_per_sentence", 11.0, "English sentences are no less longer"),
            ("characters_per_sentence", 13.1, "Chinese sentences are no less longer"),
            ("hard_words", 0.03, "words are no less harder"),
        ],
    )
    def test_each_figure_of_round_1_is_held_against_the_chapters(self, name: str, value: Any, said: str) -> None:
        found = changed(1, **{name: value})
        assert [fault for fault in faults(found) if fault.startswith(("Round 1", "Its"))] == [faults(found)[0]]
        assert said in faults(found)[0]

    @pytest.mark.parametrize(("name", "label"), [("structure", "clear structure"), ("message", "educational message")])
    def test_a_loss_is_one_if_its_whole_interval_is_below_nothing(self, name: str, label: str) -> None:
        lost = UNCHANGED | {name: {"mean": -0.03, "low": -0.05, "high": -0.01}}
        assert f"Round 3 loses {label}" in faults(changed(3, change_from_previous=lost))[0]
        by_chance = UNCHANGED | {name: {"mean": -0.03, "low": -0.07, "high": 0.01}}
        assert faults(changed(3, change_from_previous=by_chance)) == []

    def test_a_round_that_loses_to_the_one_before_is_named(self) -> None:
        beaten = {"rate": 0.4, "low": 0.33, "high": 0.48, "n": 600}
        assert faults(changed(2, win_rate_previous=beaten)) == ["Round 2 loses against round 1: 40 % [33, 48]."]

    def test_a_round_that_wins_less_often_against_the_base_is_named(self) -> None:
        less = {"rate": 0.69, "low": 0.64, "high": 0.74, "n": 600}
        assert "Round 2 is preferred to the base less often than round 1" in faults(changed(2, win_rate_base=less))[0]

    @pytest.mark.parametrize(
        ("name", "value"), [("diversity", 0.62), ("mean_words", 107.0), ("mean_words", 133.0), ("repetition", 0.0089)]
    )
    def test_decay_of_more_than_a_tenth_after_the_last_round_is_named(self, name: str, value: float) -> None:
        (fault,) = faults(changed(3, **{name: value}))
        assert fault.startswith("After round 3")
        assert "not within 10%" in fault
        assert faults(changed(2, **{name: value})) == []

    @pytest.mark.parametrize(("name", "value"), [("diversity", 0.9), ("repetition", 0.0)])
    def test_more_diversity_and_less_repetition_are_no_decay(self, name: str, value: float) -> None:
        assert faults(changed(3, **{name: value})) == []


class TestTable:
    def test_it_has_the_chapters_figures_beside_ours(self) -> None:
        (line,) = [line for line in table(FOUND).splitlines() if line.startswith("clear structure")]
        assert line.split()[2:] == ["78%", "93%", "78.0", "%", "96.0", "%", "96.0", "%", "96.0", "%"]

    def test_it_says_how_many_prompts_and_that_experts_are_simulated(self) -> None:
        assert "Measured on 100 held-out prompts. All experts are simulated." in table(FOUND)

    def test_it_shows_win_rates_with_their_interval_and_n(self) -> None:
        (line,) = [line for line in table(FOUND).splitlines() if line.startswith("preferred to the base")]
        assert line.split("72%")[1].split("  75 %")[1:] == [" [70, 80]"] * 3
        assert "600" in table(FOUND)


@pytest.mark.django_db
class TestFigures:
    def written(self, text: str, prompts: list[Prompt], **fields: Any) -> Policy:
        policy = make_policy(**fields)
        for prompt in prompts:
            make_story(policy, prompt, text=text)
        return policy

    def test_only_held_out_prompts_are_measured(self) -> None:
        held_out, trained_on = make_prompt(split=Split.EVALUATION), make_prompt()
        base = self.written("A fox ran.", [held_out, trained_on], current=True)
        new = self.written("A fox ran home.", [held_out], parent=base)
        make_story(new, trained_on, text="A fox ran home and slept until the sun came up.")
        make_evaluation(new, base)
        found = figures(base, [make_round(policy=base, state=State.JUDGING, result=new)], seed=0)
        told = found["rounds"][0]
        assert found["held_out_prompts"] == 2  # make_evaluation's is one
        assert told["change_from_base"]["mean_words"]["mean"] == pytest.approx(0.5)
        assert told["change_from_previous"] == told["change_from_base"]

    def test_a_database_with_rounds_is_left_alone(self, capsys: pytest.CaptureFixture[str]) -> None:
        make_round()
        with pytest.raises(CommandError, match="`make case-study`, which begins with an empty one"):
            call_command("case_study")
        assert capsys.readouterr().out.splitlines() == [OPENING]
        assert not SamplingRow.objects.filter(temperature=case_study.DRAWN[-1][0], min_p=0.02).exists()


DRIVER = """
import sys
from pathlib import Path
import manage  # which starts a PostgreSQL of its own
import django
django.setup()
from config import case_study
from config.management.commands import case_study as command
from generation.demo_writer.recipe import DEMO
case_study.PROMPT_FILES, command.CASE_STUDY = (Path(sys.argv[1]),), DEMO
sys.argv[1:] = ["case_study", "--rounds", "1", "--json", sys.argv[2]]
manage.main()
"""


def test_it_runs_from_an_empty_database_to_its_figures(tmp_path: Path) -> None:
    """A round of the real thing, with a worker of its own, on a few prompts and the demo's writer."""
    prompts, wanted = tmp_path / "prompts.jsonl", tmp_path / "figures.json"
    lines = case_study.PROMPT_FILES[0].read_text(encoding="utf-8").splitlines()
    for split, language in product(Split.values, Language.values):
        kept = [line for line in lines if f'"{split}"' in line and f'"{language}"' in line][:2]
        with prompts.open("a", encoding="utf-8") as file:
            file.write("\n".join(kept) + "\n")
    environment = os.environ | {"STORYLOOP_VAR": str(tmp_path / "var"), "DJANGO_SETTINGS_MODULE": "config.settings"}
    del environment["STORYLOOP_DATABASE"]  # the suite's
    environment |= {"STORYLOOP_MODEL_DIR": str(tmp_path / "models"), "STORYLOOP_MAX_STORY_TOKENS": "256"}
    command = [sys.executable, "-c", DRIVER, str(prompts), str(wanted)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    found = json.loads(wanted.read_text()) if wanted.exists() else pytest.fail(done.stdout + done.stderr)
    assert done.stdout.splitlines()[0] == OPENING
    assert "clear structure" in done.stdout
    assert (found["simulated_experts"], found["held_out_prompts"], len(found["rounds"])) == (True, 4, 1)
    assert found["rounds"][0]["win_rate_base"]["n"] > 0
    assert (done.returncode == 0) is (found["faults"] == [])
    assert all(fault in done.stderr for fault in found["faults"])
