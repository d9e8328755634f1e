"""Runs in stages, and the file that describes them."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from generation.engines.loading import load_model
from generation.engines.values import weights_hash
from tests.training.dpo.cli import command, lines_of
from tests.training.dpo.helpers import Killed, Run, largest_difference, pair, weights, write_pairs
from training.dpo.__main__ import main
from training.dpo.run import Run as TrainerRun
from training.dpo.settings import BadSettings, DPOSettings
from training.dpo.stages import Stage, read_config, run_stages
from training.dpo.trainer import Callbacks, train

ROWS = [pair(i) for i in range(6)]
COMMON = {"learning_rate": 1e-3, "batch_pairs": 3, "epochs": 2, "checkpoint_steps": 1}
TWO = [Stage("first", None, DPOSettings(**COMMON)), Stage("second", None, DPOSettings(**COMMON, beta=0.1))]


# -- the file


def config(tmp_path: Path, text: str, name: str = "run.toml") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


TOML = """
beta = 0.3
epochs = 5
[[stages]]
name = "style"
objectives = "style=1"
[[stages]]
name = "value"
data = "value.jsonl"
beta = 0.1
"""
AS_JSON = {
    "beta": 0.3,
    "epochs": 5,
    "stages": [
        {"name": "style", "objectives": "style=1"},
        {"name": "value", "data": "value.jsonl", "beta": 0.1},
    ],
}


@pytest.mark.parametrize(("name", "text"), [("run.toml", TOML), ("run.json", json.dumps(AS_JSON))])
def test_settings_and_stages_are_read(tmp_path: Path, name: str, text: str):
    settings, stages = read_config(config(tmp_path, text, name), {})
    assert settings == DPOSettings(beta=0.3, epochs=5)
    assert stages == [
        Stage("style", None, DPOSettings(beta=0.3, epochs=5, objectives="style=1")),
        Stage("value", tmp_path / "value.jsonl", DPOSettings(beta=0.1, epochs=5)),
    ]


def test_a_file_need_not_have_stages(tmp_path: Path):
    assert read_config(config(tmp_path, "beta = 0.3"), {}) == (DPOSettings(beta=0.3), [])


def test_the_command_line_goes_before_the_file(tmp_path: Path):
    settings, stages = read_config(config(tmp_path, TOML), {"epochs": 2, "seed": 9})
    assert settings == DPOSettings(beta=0.3, epochs=2, seed=9)
    assert {stage.settings.epochs for stage in stages} == {2}


def test_a_stage_goes_before_the_command_line(tmp_path: Path):
    _, stages = read_config(config(tmp_path, TOML), {"beta": 0.7})
    assert [stage.settings.beta for stage in stages] == [0.7, 0.1]


def test_a_stage_without_a_name_is_numbered(tmp_path: Path):
    _, stages = read_config(config(tmp_path, "[[stages]]\n[[stages]]\nbeta = 0.1"), {})
    assert [stage.name for stage in stages] == ["stage-1", "stage-2"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("run.toml", "beta =", "run.toml is not valid TOML"),
        ("run.json", '{"beta":', "run.json is not valid JSON"),
        ("run.json", "[1]", "run.json holds no settings"),
        ("run.toml", "betta = 1", "run.toml: unknown settings betta"),
        ("run.toml", "[[stages]]\nbetta = 1", "run.toml, stage stage-1: unknown settings betta"),
        ("run.toml", "[[stages]]\nbeta = 99", "beta is 99: give 0.01 to 10.0"),
        ("run.toml", 'beta = "0.1"', "beta is '0.1': give a number"),
        ("run.toml", "stages = 3", "run.toml: stages must be a list of tables"),
        ("run.toml", "stages = [3]", "run.toml: stages must be a list of tables"),
        ("run.toml", '[[stages]]\nname = "../up"', "run.toml: stage 1 has the name '../up'"),
        ("run.toml", '[[stages]]\nname = ""', "run.toml: stage 1 has the name ''"),
        ("run.toml", "[[stages]]\nname = 3", "run.toml: stage 1 has the name 3"),
        ("run.toml", "[[stages]]\ndata = 3", "run.toml: stage stage-1 has the data 3"),
        ("run.toml", 'model = "x"', "run.toml: unknown settings model"),
    ],
)
def test_a_file_that_cannot_be_meant_is_refused(tmp_path: Path, name: str, text: str, message: str):
    with pytest.raises(BadSettings, match=message.replace("(", r"\(")):
        read_config(config(tmp_path, text, name), {})


def test_a_file_that_is_not_there_is_refused(tmp_path: Path):
    with pytest.raises(BadSettings, match="absent.toml cannot be read"):
        read_config(tmp_path / "absent.toml", {})


def test_a_file_that_is_not_text_is_refused(tmp_path: Path):
    (tmp_path / "run.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(BadSettings, match="not valid TOML"):
        read_config(tmp_path / "run.toml", {})


# -- stages, one after the other


class Stages:
    """Runs stages as the command line does, and remembers what was trained, and the losses."""

    def __init__(self, model: Path, out: Path, rows: list[dict[str, Any]] = ROWS, **where: Any) -> None:
        data = write_pairs(out.with_name(out.name + ".jsonl"), rows)
        self.whole = TrainerRun(model, data, out, DPOSettings(**COMMON), **where)
        self.steps: dict[str, list[Any]] = {}
        self.dies_in: tuple[str, int] | None = None

    def train(self, run: TrainerRun) -> Any:
        steps = self.steps.setdefault(run.stage, [])

        def on_step(step: Any) -> None:
            if self.dies_in == (run.stage, step.step):
                raise Killed
            steps.append(step)

        return train(run, Callbacks(on_step=on_step))

    def run(self, stages: list[Stage]) -> Any:
        return run_stages(self.whole, stages, self.train)


@pytest.fixture(scope="module")
def two(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Stages, Any]:
    """(out, what was trained, result) of two stages."""
    out = tmp_path_factory.mktemp("two") / "out"
    stages = Stages(tiny_model, out)
    return out, stages, stages.run(TWO)


def test_a_stage_begins_as_its_own_reference(two: tuple[Path, Stages, Any]):
    steps = two[1].steps
    assert [steps[name][0].loss for name in ("first", "second")] == pytest.approx([math.log(2)] * 2, abs=1e-5)


def test_a_stage_goes_on_from_the_weights_of_the_one_before(tiny_model: Path, tmp_path: Path, two):
    """The second stage alone, from the first's result: the same weights."""
    out, _, result = two
    alone = TrainerRun(out / "stages" / "1-first" / "policy", two[1].whole.data, tmp_path / "alone", TWO[1].settings)
    assert largest_difference(weights(train(alone).directory), weights(result.directory)) == 0
    assert largest_difference(weights(out / "stages" / "1-first" / "policy"), weights(result.directory)) > 1e-4


def test_the_result_is_the_last_stages(two: tuple[Path, Stages, Any]):
    out, _, result = two
    assert result.directory == out / "policy"
    files = {path.name: path.read_bytes() for path in (out / "stages" / "2-second" / "policy").iterdir()}
    assert {path.name: path.read_bytes() for path in result.directory.iterdir()} == files


def test_the_result_counts_the_steps_and_pairs_of_all_stages(two: tuple[Path, Stages, Any]):
    assert (two[2].steps, two[2].pairs) == (8, 12)


def test_figures_name_their_stage(two: tuple[Path, Stages, Any]):
    assert {name: {step.stage for step in steps} for name, steps in two[1].steps.items()} == {
        "first": {"first"},
        "second": {"second"},
    }


def test_stages_that_are_done_are_not_trained_again(tiny_model: Path, two: tuple[Path, Stages, Any]):
    out, _, result = two
    again = Stages(tiny_model, out)
    found = again.run(TWO)
    assert (again.steps, found) == ({}, result)


def test_a_stage_whose_settings_changed_is_trained_again(tiny_model: Path, tmp_path: Path):
    Stages(tiny_model, tmp_path / "out").run(TWO)
    again = Stages(tiny_model, tmp_path / "out")
    again.run([TWO[0], Stage("second", None, DPOSettings(**COMMON, beta=0.5))])
    assert set(again.steps) == {"second"}


def test_the_stages_after_one_that_changed_are_trained_again(tiny_model: Path, tmp_path: Path):
    Stages(tiny_model, tmp_path / "out").run(TWO)
    again = Stages(tiny_model, tmp_path / "out")
    again.run([Stage("first", None, DPOSettings(**COMMON, beta=0.5)), TWO[1]])
    assert set(again.steps) == {"first", "second"}


def test_a_stage_whose_weights_were_changed_is_trained_again(tiny_model: Path, tmp_path: Path):
    Stages(tiny_model, tmp_path / "out").run(TWO)
    file = tmp_path / "out" / "stages" / "1-first" / "policy" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\x01")
    again = Stages(tiny_model, tmp_path / "out")
    again.run(TWO)
    assert "first" in again.steps


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "null", '{"key": 1}'])
def test_a_stage_whose_record_is_broken_is_trained_again(tiny_model: Path, tmp_path: Path, text: str):
    one = [Stage("first", None, DPOSettings(**{**COMMON, "epochs": 1}))]
    Stages(tiny_model, tmp_path / "out").run(one)
    (tmp_path / "out" / "stages" / "1-first" / "run.json").write_text(text)
    again = Stages(tiny_model, tmp_path / "out")
    again.run(one)
    assert set(again.steps) == {"first"}


@pytest.mark.parametrize("place", [("first", 3), ("second", 1), ("second", 3)])
def test_a_run_that_was_killed_goes_on_to_the_same_weights(
    tiny_model: Path, tmp_path: Path, two: tuple[Path, Stages, Any], place: tuple[str, int]
):
    killed = Stages(tiny_model, tmp_path / "out")
    killed.dies_in = place
    with pytest.raises(Killed):
        killed.run(TWO)
    assert not (tmp_path / "out" / "policy").exists()
    again = Stages(tiny_model, tmp_path / "out")
    found = again.run(TWO)
    assert largest_difference(weights(found.directory), weights(two[2].directory)) == 0
    assert [step.step for step in again.steps[place[0]]] == list(range(place[1], 5))  # a checkpoint each step
    assert ("first" in again.steps) == (place[0] == "first")


def test_a_stage_can_have_data_and_objectives_of_its_own(tiny_model: Path, tmp_path: Path):
    rows = [pair(i, criterion="style" if i % 2 else "plot") for i in range(6)]
    own = write_pairs(tmp_path / "own.jsonl", [pair(i) for i in range(4)])
    stages = Stages(tiny_model, tmp_path / "out", rows)
    result = stages.run(
        [
            Stage("style", None, DPOSettings(**COMMON, objectives="style=1")),
            Stage("own", own, DPOSettings(**COMMON)),
        ]
    )
    assert result.pairs == 3 + 4
    found = json.loads((tmp_path / "out" / "stages" / "2-own" / "run.json").read_text())
    assert (found["data"], found["pairs"]) == (str(own), 4)


def test_two_stages_of_one_name_have_directories_of_their_own(tiny_model: Path, tmp_path: Path):
    Stages(tiny_model, tmp_path / "out").run([TWO[0], TWO[0]])
    assert {path.name for path in (tmp_path / "out" / "stages").iterdir()} == {"1-first", "2-first"}


def test_only_the_first_stage_is_measured_against_the_named_reference(
    tiny_model: Path, two: tuple[Path, Stages, Any], tmp_path: Path
):
    stages = Stages(tiny_model, tmp_path / "out", reference=two[0] / "policy")
    stages.run(TWO)
    assert abs(stages.steps["first"][0].loss - math.log(2)) > 1e-3
    assert stages.steps["second"][0].loss == pytest.approx(math.log(2), abs=1e-5)


# -- adapters


LORA = {**COMMON, "method": "lora", "lora_rank": 4}


def test_stages_with_lora_continue_one_adapter_on_the_bare_model(tiny_model: Path, tmp_path: Path):
    stages = Stages(tiny_model, tmp_path / "out")
    found = stages.run([Stage("one", None, DPOSettings(**LORA)), Stage("two", None, DPOSettings(**LORA))])
    first = tmp_path / "out" / "stages" / "1-one" / "policy"
    assert json.loads((found.directory / "adapter_config.json").read_text())["base_model_name_or_path"] == str(
        tiny_model
    )
    assert weights(first).keys() == weights(found.directory).keys()
    assert stages.steps["two"][0].loss == pytest.approx(math.log(2), abs=1e-5)
    alone = TrainerRun(tiny_model, stages.whole.data, tmp_path / "alone", DPOSettings(**LORA), adapter=first)
    assert largest_difference(weights(train(alone).directory), weights(found.directory)) == 0


def test_a_full_stage_merges_the_adapter_of_the_one_before(tiny_model: Path, tmp_path: Path):
    still = {**COMMON, "learning_rate": 1e-7, "epochs": 1}
    stages = Stages(tiny_model, tmp_path / "out")
    found = stages.run([Stage("one", None, DPOSettings(**LORA)), Stage("two", None, DPOSettings(**still))])
    merged = load_model(tiny_model, tmp_path / "out" / "stages" / "1-one" / "policy").state_dict()
    assert largest_difference(load_model(found.directory).state_dict(), merged) < 1e-5


def test_stages_begin_with_the_adapter_that_is_given(tiny_model: Path, lora_run: Run, tmp_path: Path):
    stages = Stages(tiny_model, tmp_path / "out", adapter=lora_run.result.directory)
    found = stages.run([Stage("one", None, DPOSettings(**{**LORA, "learning_rate": 1e-7}))])
    assert largest_difference(weights(found.directory), weights(lora_run.result.directory)) < 1e-4


# -- on the command line


def test_stages_are_run_from_a_config(tiny_model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    data, out = write_pairs(tmp_path / "pairs.jsonl", ROWS), tmp_path / "out"
    path = config(tmp_path, 'batch_pairs = 3\nepochs = 1\n[[stages]]\nname = "a"\n[[stages]]\nname = "b"\n')
    assert main(command(tiny_model, data, out, "--config", str(path), "--json")) == 0
    said = capfd.readouterr()
    assert [json.loads(line)["stage"] for line in said.out.splitlines()] == ["a", "a", "b", "b"]
    assert "stage a: 6 pairs of 6 prompts" in said.err.splitlines()
    assert said.err.splitlines()[-1] == f"4 steps on 12 pairs: {out / 'policy'}"
    assert [len(lines_of(out / "stages" / name / "metrics.jsonl")) for name in ("1-a", "2-b")] == [2, 2]
    # the help says of OUT/run.json that it tells how OUT/policy was made
    assert json.loads((out / "run.json").read_text())["weights"] == weights_hash(out / "policy")


def test_the_data_of_a_later_stage_is_looked_for_before_the_first_is_trained(
    tiny_model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    data, out = write_pairs(tmp_path / "pairs.jsonl", ROWS), tmp_path / "out"
    path = config(tmp_path, '[[stages]]\nname = "a"\n[[stages]]\nname = "b"\ndata = "absent.jsonl"\n')
    assert main(command(tiny_model, data, out, "--config", str(path))) == 2
    assert "absent.jsonl" in capfd.readouterr().err.splitlines()[-1]
    assert not (out / "stages" / "1-a" / "policy").exists()


def test_an_adapter_of_the_reference_is_the_first_stages_as_the_reference_is(
    tiny_model: Path, lora_run: Run, tmp_path: Path
):
    stages = Stages(tiny_model, tmp_path / "out", reference=tiny_model, reference_adapter=lora_run.result.directory)
    settings = DPOSettings(**COMMON)
    stages.run([Stage("one", None, settings), Stage("two", None, settings)])
    assert abs(stages.steps["one"][0].loss - math.log(2)) > 0.05
    assert stages.steps["two"][0].loss == pytest.approx(math.log(2), abs=1e-5)
