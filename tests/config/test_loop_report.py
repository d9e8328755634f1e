"""What `make loop` says at its end."""

import copy
from typing import Any

import pytest

from config.loop_report import faults, figures, repetition_change, table
from generation.models import Policy
from tests.factories import judge_by_story, make_evaluation, make_expert, make_policy, make_prompt, make_story
from tests.training.test_models import make_round
from training.models import State

MEASURES = {
    "structure": 0.9, "message": 0.8, "hard_words": 0.01, "mean_words": 90.0, "repetition": 0.005, "diversity": 0.5,
}  # fmt: skip
WON = {"rate": 0.7, "low": 0.6, "high": 0.8, "n": 240}
FOUND: dict[str, Any] = {
    "base": MEASURES,
    "rounds": [
        {
            "round": 1, "pairs": 500, "loss": 0.3, "reward_accuracy": 0.9, "kl": 3.0, **MEASURES,
            "repetition_change": {"mean": 0.0, "low": -0.001, "high": 0.001},
            "win_rate_previous": WON, "win_rate_base": WON,
        }
    ],
}  # fmt: skip


def changed(**values: Any) -> dict[str, Any]:
    found = copy.deepcopy(FOUND)
    found["rounds"][0] |= values
    return found


def test_the_table_has_a_row_for_the_base_and_each_round() -> None:
    lines = table(FOUND).splitlines()
    assert lines[-2].split()[0] == "base"
    assert lines[-1].split()[0] == "1"


def test_the_table_says_first_that_the_experts_are_simulated() -> None:
    assert table(FOUND).strip().startswith("All experts are simulated.")


def test_the_table_shows_win_rates_with_interval_and_n() -> None:
    assert "70 % [60, 80]" in table(FOUND)
    assert table(FOUND).rstrip().endswith("240")


def test_without_judgements_the_table_says_so() -> None:
    nothing = {"rate": None, "low": None, "high": None, "n": 0}
    assert "no judgements" in table(changed(win_rate_base=nothing))


def test_a_clear_win_without_more_repetition_is_no_fault() -> None:
    assert faults(FOUND) == []


def test_an_interval_that_reaches_a_half_is_a_fault() -> None:
    assert "does not win clearly" in faults(changed(win_rate_base={**WON, "low": 0.5}))[0]


def test_clearly_more_repetition_than_the_base_has_is_a_fault() -> None:
    more = {"mean": 0.02, "low": 0.01, "high": 0.03}
    assert "repeats itself more" in faults(changed(repetition_change=more))[0]


def test_a_difference_that_chance_explains_is_no_fault() -> None:
    assert faults(changed(repetition_change={"mean": 0.0002, "low": -0.001, "high": 0.001})) == []


@pytest.mark.django_db
@pytest.mark.parametrize(("repeating", "clear"), [(12, True), (0, False)])
def test_the_change_of_repetition_is_compared_prompt_by_prompt(repeating: int, clear: bool) -> None:
    base, policy = make_policy(), make_policy()
    for number in range(12):
        prompt = make_prompt()
        make_story(base, prompt, text="The fox went home and slept until the sun came up.")
        again = "The fox went home. " * (4 if number < repeating else 1)
        make_story(policy, prompt, text=again + "It slept until the sun came up.")
    assert (repetition_change(base, policy)["low"] > 0) is clear


@pytest.mark.django_db
def test_the_figures_have_the_keys_that_the_docs_name() -> None:
    base = make_policy("base", current=True)
    shown = make_round(policy=base, state=State.JUDGING, result=make_policy("round-1", parent=base))
    judge_one(shown.result, base)
    found = figures(base, [shown], seed=3)
    assert set(MEASURES) == set(found["base"])
    assert {*FOUND["rounds"][0], "steps"} == set(found["rounds"][0])
    assert {"seed", "command", "commit", "versions", "simulated_experts"} < set(found)
    assert found["rounds"][0]["win_rate_previous"]["n"] == 1


def judge_one(new: Policy, old: Policy) -> None:
    blind = make_evaluation(new, old)  # a story of each policy on the same prompt
    judge_by_story(make_expert(), list(blind.stories.all()))
    make_story(new, make_prompt(), text="Once upon a time there was a fox. The fox came home.")
