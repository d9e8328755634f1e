"""The command line: what a run says, what it leaves, and that it can be interrupted."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest

from generation.engines.values import weights_hash
from tests.training.dpo.cli import command, lines_of, start
from tests.training.dpo.helpers import Run, largest_difference, pair, weights, write_pairs
from training.dpo.__main__ import main
from training.dpo.settings import LOSSES, DPOSettings

KEYS = [
    "loss", "rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies", "logps/chosen",
    "logps/rejected", "logps/change", "lengths/chosen", "lengths/rejected", "kl", "step", "total_steps", "epoch",
    "learning_rate", "grad_norm", "num_tokens", "pairs_per_second", "tokens_per_second", "memory_resident",
    "memory_cuda", "stage",
]  # fmt: skip
HEAVY = {"django", "celery", "kombu", "psycopg", "config", "annotate", "vllm", "trl"}
SLOW_RUN = ["--epochs", "12", "--batch-pairs", "1", "--checkpoint-steps", "3"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_pairs(tmp_path / "pairs.jsonl", [pair(i) for i in range(10)])


@pytest.fixture(scope="module")
def help_text() -> str:
    out, _ = (process := start("-m", "training.dpo", "--help")).communicate(timeout=60)
    assert process.returncode == 0
    return out


# -- in a process of its own


@pytest.mark.parametrize(
    "words",
    [
        '{"prompt": "...", "chosen": "...", "rejected": "..."}',
        '"completions": ["best", "second", "worst"]',
        '"chosen_ids", "rejected_ids"',
        "Exit status: 0 done, 2 bad input, 3 training failed, 86 out of memory, 87 disk full, 143 ended by",
        "--config run.toml",
        "accelerate launch",
        "OUT/policy is the result",
    ],
)
def test_help_describes_data_stages_and_results(help_text: str, words: str):
    assert words in " ".join(help_text.split()) or words in help_text


@pytest.mark.parametrize("option", [f.name for f in dataclasses.fields(DPOSettings)])
def test_help_names_every_setting_with_its_default(help_text: str, option: str):
    name = f"--{option.replace('_', '-')}"
    after = help_text.split("\nsettings:")[1].partition(f"\n  {name}")[2]
    default = getattr(DPOSettings(), option)
    said = " ".join(after.split("\n  --")[0].split())
    assert f"default {default if default != '' else 'none'})" in said


@pytest.mark.parametrize("loss", LOSSES)
def test_help_describes_every_loss(help_text: str, loss: str):
    assert re.search(rf"^  (\w+, )?{loss}\b", help_text.split("\nLOSSES")[1], re.MULTILINE)


def test_the_trainer_imports_nothing_of_the_rest_of_the_project():
    code = "import sys, training.dpo.trainer, training.dpo.merge, training.dpo.__main__; print(*sys.modules)"
    out, _ = start("-c", code).communicate(timeout=60)
    modules = set(out.split())
    assert "training.dpo.trainer" in modules
    assert {name.partition(".")[0] for name in modules} & HEAVY == set()


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


# -- what a run prints


def test_a_run_prints_its_steps_as_json_and_nothing_else(
    tiny_model: Path, data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    assert main(command(tiny_model, data, tmp_path / "out", "--json", "--epochs", "1", "--batch-pairs", "4")) == 0
    assert [list(json.loads(line)) for line in capfd.readouterr().out.splitlines()] == [KEYS] * 3


def test_the_printed_lines_are_those_of_the_file(
    tiny_model: Path, data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    main(command(tiny_model, data, tmp_path / "out", "--json", "--eval-share", "0.2"))
    printed = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert printed == lines_of(tmp_path / "out" / "metrics.jsonl")


def test_a_person_reads_the_figures_of_each_step(
    tiny_model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    main(command(tiny_model, data, tmp_path / "out", "--epochs", "1", "--batch-pairs", "5"))
    first, second = capsys.readouterr().out.splitlines()
    figures = r"rewards/accuracies \d\.\d\d  rewards/margins -?0\.00  kl -?0\.00  \d+\.\d pairs/s"
    assert re.fullmatch(rf"step 1/2  loss 0\.6931  {figures}", first)
    assert second.startswith("step 2/2  loss 0.")


def test_a_person_reads_the_figures_of_each_evaluation(
    tiny_model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    main(command(tiny_model, data, tmp_path / "out", "--epochs", "1", "--batch-pairs", "5", "--eval-share", "0.3"))
    *_, last = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"after step 2, held out:  loss \d\.\d{4}  rewards/accuracies \d\.\d\d  kl -?\d+\.\d\d", last)


def test_the_start_says_how_much_there_is_and_what_is_left_out(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    rows = [pair(0), pair(0, rejected="other"), pair(1), pair(2, chosen="fox " * 3000)]
    main(command(tiny_model, write_pairs(tmp_path / "p.jsonl", rows), tmp_path / "out"))
    assert "3 pairs of 2 prompts; 1 too long left out" in capsys.readouterr().err.splitlines()


def test_the_start_says_what_the_run_wants(
    tiny_model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    main(command(tiny_model, data, tmp_path / "out"))
    said = capsys.readouterr().err
    assert re.search(r"^about 0\.5 GB of memory on cpu; \d+\.\d GB are free$", said, re.MULTILINE)
    assert re.search(r"^3 steps, about (\d+ min )?\d+ s$", said, re.MULTILINE)


def test_the_end_says_where_the_result_is(
    tiny_model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    main(command(tiny_model, data, tmp_path / "out"))
    assert capsys.readouterr().err.splitlines()[-1] == f"3 steps on 10 pairs: {tmp_path / 'out' / 'policy'}"


def test_the_end_says_why_a_run_stopped_early(
    tiny_model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    options = ["--max-kl", "1", "--loss", "apo_down", "--learning-rate", "1e-2", "--epochs", "9"]
    assert main(command(tiny_model, data, tmp_path / "out", *options)) == 0
    last = capsys.readouterr().err.splitlines()[-1]
    assert re.match(r"\d steps on 10 pairs, stopped early: kl was \d+\.\d nats a story at step \d; max_kl is 1: ", last)


# -- what a run leaves


def test_a_run_leaves_policy_figures_and_how_it_was_made(tiny_model: Path, data: Path, tmp_path: Path):
    assert main(command(tiny_model, data, tmp_path / "out", "--checkpoint-steps", "1")) == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"policy", "metrics.jsonl", "run.json"}


def test_the_record_says_how_the_result_was_made(tiny_model: Path, lora_run: Run, data: Path, tmp_path: Path):
    adapter = lora_run.result.directory
    options = ["--adapter", str(adapter), "--method", "lora", "--epochs", "2", "--beta", "0.3"]
    main(command(tiny_model, data, tmp_path / "out", *options))
    found = json.loads((tmp_path / "out" / "run.json").read_text())
    assert found["weights"] == weights_hash(tmp_path / "out" / "policy")
    assert (found["model"], found["adapter"], found["data"]) == (str(tiny_model), str(adapter), str(data))
    assert (found["steps"], found["pairs"], found["too_long"], found["stopped"]) == (2, 10, 0, "")
    assert DPOSettings(**found["settings"]) == DPOSettings(method="lora", epochs=2, beta=0.3)


def test_metrics_have_a_line_for_each_step_under_trls_names(tiny_model: Path, data: Path, tmp_path: Path):
    main(command(tiny_model, data, tmp_path / "out", "--epochs", "2", "--batch-pairs", "5"))
    found = lines_of(tmp_path / "out" / "metrics.jsonl")
    assert [line["step"] for line in found] == [1, 2, 3, 4]
    assert [list(line) for line in found] == [KEYS] * 4


def test_lines_of_evaluations_have_names_of_their_own(tiny_model: Path, data: Path, tmp_path: Path):
    main(command(tiny_model, data, tmp_path / "out", "--epochs", "2", "--eval-share", "0.2"))
    found = lines_of(tmp_path / "out" / "metrics.jsonl")
    assert ["eval_loss" in line for line in found] == [False, True] * 2
    figures = [f"eval_{name}" for name in KEYS[:11]]
    assert list(found[1]) == [*figures, "step", "epoch", "eval_stories", "eval_tokens", "stage"]


def test_metrics_of_a_run_that_begins_anew_are_its_own(tiny_model: Path, data: Path, tmp_path: Path):
    main(command(tiny_model, data, tmp_path / "out", "--epochs", "3", "--batch-pairs", "5"))
    main(command(tiny_model, data, tmp_path / "out", "--epochs", "1", "--batch-pairs", "5"))
    assert [line["step"] for line in lines_of(tmp_path / "out" / "metrics.jsonl")] == [1, 2]


def test_every_setting_is_an_option(tiny_model: Path, data: Path, tmp_path: Path):
    options = ["--method", "lora", "--lora-rank", "2", "--loss", "sigmoid_norm", "--max-tokens", "200", "--seed", "7"]
    assert main(command(tiny_model, data, tmp_path / "out", *options, "--no-shuffle")) == 0
    assert json.loads((tmp_path / "out" / "policy" / "adapter_config.json").read_text())["r"] == 2
    assert json.loads((tmp_path / "out" / "run.json").read_text())["settings"]["shuffle"] is False


def test_the_reference_is_an_option(tiny_model: Path, lora_run: Run, data: Path, tmp_path: Path):
    options = ["--reference", str(tiny_model), "--reference-adapter", str(lora_run.result.directory)]
    main(command(tiny_model, data, tmp_path / "out", *options))
    first, *_ = lines_of(tmp_path / "out" / "metrics.jsonl")
    assert abs(first["loss"] - 0.6931) > 0.05


def test_a_cache_keeps_the_references_figures_for_another_run(tiny_model: Path, data: Path, tmp_path: Path):
    cache = ["--cache", str(tmp_path / "cache")]
    main(command(tiny_model, data, tmp_path / "one", *cache))
    (file,) = (tmp_path / "cache").iterdir()
    before = file.stat().st_mtime_ns
    main(command(tiny_model, data, tmp_path / "two", *cache, "--beta", "0.5"))
    assert [path.stat().st_mtime_ns for path in (tmp_path / "cache").iterdir()] == [before]


def test_tensorboard_reads_the_figures(tiny_model: Path, data: Path, tmp_path: Path):
    main(command(tiny_model, data, tmp_path / "out", "--tensorboard", "--epochs", "2", "--eval-share", "0.2"))
    (file,) = (tmp_path / "out" / "tensorboard").iterdir()
    content = file.read_bytes()
    assert all(tag in content for tag in (b"train/rewards/margins", b"train/loss", b"eval/loss", b"eval/kl"))


# -- a dry run


def test_a_dry_run_says_what_would_be_trained_and_writes_nothing(
    tiny_model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    options = ["--dry-run", "--batch-pairs", "5", "--epochs", "2", "--eval-share", "0.2"]
    before = sorted(tmp_path.rglob("*"))
    assert main(command(tiny_model, data, tmp_path / "out", *options)) == 0
    counts, memory, time = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"10 pairs of 10 prompts; 2 prompts held out; \d+ tokens", counts)
    assert re.fullmatch(r"about 0\.5 GB of memory on cpu; .* GB are free", memory)
    assert time.startswith("4 steps, about ")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_dry_run_tells_of_each_stage(
    tiny_model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "run.toml").write_text('[[stages]]\nname = "a"\n[[stages]]\nname = "b"\ndata = "b.jsonl"\n')
    write_pairs(tmp_path / "b.jsonl", [pair(i) for i in range(4)])
    options = ["--dry-run", "--config", str(tmp_path / "run.toml")]
    assert main(command(tiny_model, data, tmp_path / "out", *options)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("stage a: 10 pairs of 10 prompts; 0 prompts held out")
    assert lines[3].startswith("stage b: 4 pairs of 4 prompts; 0 prompts held out")
    assert not (tmp_path / "out").exists()


def test_a_dry_run_says_the_steps_that_a_run_takes(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """A prompt's pairs stay together: epochs differ in their number of batches."""
    rows = [pair(1), pair(2, rejected="a"), pair(2, rejected="b")]
    arguments: list[Any] = command(tiny_model, write_pairs(tmp_path / "p.jsonl", rows), tmp_path / "out")
    arguments += ["--batch-pairs", "2", "--epochs", "6"]
    main([*arguments, "--dry-run"])
    (said,) = re.findall(r"(\d+) steps, about", capsys.readouterr().out)
    main(arguments)
    assert len(lines_of(tmp_path / "out" / "metrics.jsonl")) == int(said)
