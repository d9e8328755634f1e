import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.models import make_tiny_model
from tests.training.dpo.helpers import Run, largest_difference, pair, weights, write_pairs
from training.dpo.__main__ import main
from training.dpo.trainer import StepMetrics

ROOT = Path(__file__).resolve().parents[3]
KEYS = [field.name for field in dataclasses.fields(StepMetrics)]
HEAVY = {"django", "celery", "kombu", "psycopg", "config", "annotate", "vllm", "trl"}
SLOW_RUN = ["--epochs", "12", "--batch-pairs", "1", "--checkpoint-steps", "3"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_pairs(tmp_path / "pairs.jsonl", [pair(i) for i in range(10)])


def command(model: Path, data: Path, out: Path, *options: str) -> list[str]:
    return ["--model", str(model), "--data", str(data), "--out", str(out), *options]


def start(*arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


# -- in a process of its own


def test_help_describes_the_data_format():
    out, _ = (process := start("-m", "training.dpo", "--help")).communicate(timeout=60)
    assert process.returncode == 0
    assert 'one {"prompt", "chosen", "rejected"} a line' in out
    assert '"chosen_ids" and "rejected_ids"' in out


def test_the_trainer_imports_nothing_of_the_rest_of_the_project():
    code = "import sys, training.dpo.trainer, training.dpo.merge, training.dpo.__main__; print(*sys.modules)"
    out, _ = start("-c", code).communicate(timeout=60)
    modules = set(out.split())
    assert "training.dpo.trainer" in modules
    assert {name.partition(".")[0] for name in modules} & HEAVY == set()


def test_a_run_prints_its_steps_as_json_and_nothing_else(tiny_model: Path, data: Path, tmp_path: Path):
    process = start(
        "-m",
        "training.dpo",
        *command(tiny_model, data, tmp_path / "out", "--json", "--epochs", "1", "--batch-pairs", "4"),
    )
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert [list(json.loads(line)) for line in out.splitlines()] == [KEYS] * 3


def test_a_run_that_was_killed_goes_on_when_the_command_is_given_again(tiny_model: Path, data: Path, tmp_path: Path):
    """SIGKILL after a few of 120 steps: one line for each step, and the weights of an unbroken run."""
    broken, unbroken = (command(tiny_model, data, tmp_path / name, *SLOW_RUN) for name in ("broken", "unbroken"))
    process = start("-m", "training.dpo", "--json", *broken)
    while json.loads(process.stdout.readline())["step"] < 5:
        pass
    process.kill()
    process.communicate(timeout=60)
    assert (tmp_path / "broken" / "checkpoint").exists()
    assert main(broken) == main(unbroken) == 0
    assert [line["step"] for line in lines_of(tmp_path / "broken" / "metrics.jsonl")] == list(range(1, 121))
    results = weights(tmp_path / "broken" / "policy"), weights(tmp_path / "unbroken" / "policy")
    assert largest_difference(*results) == 0


# -- what a run leaves


def test_a_run_leaves_policy_and_metrics(tiny_model: Path, data: Path, tmp_path: Path):
    assert main(command(tiny_model, data, tmp_path / "out", "--checkpoint-steps", "1")) == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"policy", "metrics.jsonl"}


def test_metrics_have_a_line_for_each_step(tiny_model: Path, data: Path, tmp_path: Path):
    main(command(tiny_model, data, tmp_path / "out", "--epochs", "2", "--batch-pairs", "5"))
    found = lines_of(tmp_path / "out" / "metrics.jsonl")
    assert [line["step"] for line in found] == [1, 2, 3, 4]
    assert [list(line) for line in found] == [KEYS] * 4


def test_metrics_of_a_run_that_begins_anew_are_its_own(tiny_model: Path, data: Path, tmp_path: Path):
    main(command(tiny_model, data, tmp_path / "out", "--epochs", "3", "--batch-pairs", "5"))
    main(command(tiny_model, data, tmp_path / "out", "--epochs", "1", "--batch-pairs", "5"))
    assert [line["step"] for line in lines_of(tmp_path / "out" / "metrics.jsonl")] == [1, 2]


def test_a_person_reads_the_figures_of_each_step(
    tiny_model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    main(command(tiny_model, data, tmp_path / "out", "--epochs", "1", "--batch-pairs", "5"))
    first, second = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"step 1/2  loss 0.6931  rewards/accuracies .\...  rewards/margins -?0.00  kl -?0.00", first)
    assert second.startswith("step 2/2  loss 0.")


def test_the_start_says_how_much_there_is_and_what_is_left_out(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    rows = [pair(0), pair(0, rejected="other"), pair(1), pair(2, chosen="fox " * 3000)]
    main(command(tiny_model, write_pairs(tmp_path / "p.jsonl", rows), tmp_path / "out"))
    assert "3 pairs of 2 prompts, 1 too long and left out" in capsys.readouterr().err.splitlines()


def test_every_setting_is_an_option(tiny_model: Path, data: Path, tmp_path: Path):
    options = ["--method", "lora", "--lora-rank", "2", "--loss", "sigmoid_norm", "--max-tokens", "200", "--seed", "7"]
    assert main(command(tiny_model, data, tmp_path / "out", *options)) == 0
    assert json.loads((tmp_path / "out" / "policy" / "adapter_config.json").read_text())["r"] == 2


def test_an_adapter_can_be_where_the_policy_begins(tiny_model: Path, lora_run: Run, data: Path, tmp_path: Path):
    options = ["--adapter", str(lora_run.result.directory), "--method", "lora", "--epochs", "1"]
    assert main(command(tiny_model, data, tmp_path / "out", *options)) == 0


# -- bad input: exit status 2, one line that says what is wrong, nothing written


def refused(capfd: pytest.CaptureFixture[str], arguments: list[str], out: Path, status: int = 2) -> str:
    """The one line that a refused command writes."""
    capfd.readouterr()
    assert main(arguments) == status
    said = capfd.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    assert not out.exists()
    return line.removeprefix("training.dpo: ")


def test_a_data_file_that_is_not_there(tiny_model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    line = refused(capfd, command(tiny_model, tmp_path / "absent.jsonl", tmp_path / "out"), tmp_path / "out")
    assert line == f"There is no data file {tmp_path}/absent.jsonl."


def test_a_broken_line(tiny_model: Path, data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    with data.open("a") as file:
        file.write('{"prompt": "p", "chosen": \n')
    line = refused(capfd, command(tiny_model, data, tmp_path / "out"), tmp_path / "out")
    assert line.startswith("pairs.jsonl, line 11: not valid JSON")


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--beta", "1000", "beta is 1000.0: give 0.01 to 10.0"),
        ("--beta", "nan", "beta is nan: give 0.01 to 10.0"),
        ("--learning-rate", "3", "learning_rate is 3.0: give 1e-07 to 0.1"),
        ("--epochs", "0", "epochs is 0: give 1 to 20"),
    ],
)
def test_a_setting_out_of_its_range(
    tiny_model: Path,
    data: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    option: str,
    value: str,
    message: str,
):
    assert refused(capfd, command(tiny_model, data, tmp_path / "out", option, value), tmp_path / "out") == message


def test_an_unknown_loss(tiny_model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as caught:
        main(command(tiny_model, data, tmp_path / "out", "--loss", "ipo"))
    assert caught.value.code == 2
    assert "invalid choice: 'ipo'" in capsys.readouterr().err


def test_a_model_directory_that_is_not_there(data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    line = refused(capfd, command(tmp_path / "absent", data, tmp_path / "out"), tmp_path / "out")
    assert line.startswith(f"{tmp_path}/absent is not a directory.")


def test_a_model_directory_that_holds_no_model(data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    (tmp_path / "empty").mkdir()
    line = refused(capfd, command(tmp_path / "empty", data, tmp_path / "out"), tmp_path / "out")
    assert line.startswith(f"{tmp_path}/empty is not a model directory")


def test_a_model_of_a_broken_tokenizer(data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    model = make_tiny_model(tmp_path / "model")
    (model / "tokenizer.json").write_text("{")
    line = refused(capfd, command(model, data, tmp_path / "out"), tmp_path / "out")
    assert f"{tmp_path}/model" in line


def test_a_model_of_broken_weights(data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    model = make_tiny_model(tmp_path / "model")
    (model / "model.safetensors").write_bytes(b"half")
    line = refused(capfd, command(model, data, tmp_path / "out"), tmp_path / "out")
    assert f"{tmp_path}/model" in line


def test_an_output_directory_that_is_a_file(
    tiny_model: Path, data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    (tmp_path / "file").write_text("")
    line = refused(capfd, command(tiny_model, data, tmp_path / "file" / "out"), tmp_path / "file" / "out")
    assert f"{tmp_path}/file" in line


def test_a_checkpoint_of_another_run(tiny_model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "out" / "checkpoint").mkdir(parents=True)
    assert main(command(tiny_model, data, tmp_path / "out")) == 2
    assert "Delete it to start anew." in capsys.readouterr().err.splitlines()[-1]


def test_training_that_fails_has_a_status_of_its_own(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """A model whose weights overflow: its loss is no number from the first step on."""
    from generation.engines.loading import load_model

    model = make_tiny_model(tmp_path / "model")
    broken = load_model(model)
    broken.lm_head.weight.data *= 1e38
    broken.save_pretrained(model)
    assert main(command(model, data, tmp_path / "out")) == 3
    assert "Try a lower learning rate" in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "out" / "policy").exists()
