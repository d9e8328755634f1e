"""Bad input, failed training, no memory: the exit status, one line that says what to do, nothing half-written."""

import json
import re
import shutil
from pathlib import Path

import pytest

from generation.engines.loading import load_model
from tests.models import make_tiny_model
from tests.training.dpo.cli import command, start
from tests.training.dpo.helpers import Killed, changed_model, killed_after, pair, run, write_pairs
from training.dpo.__main__ import main

ROWS = [pair(i) for i in range(10)]
# with so much more address space than it has once its libraries are loaded
LIMITED = """
import resource, sys
import torch, transformers, peft
import transformers.models.llama.modeling_llama
from training.dpo.__main__ import main
room, *arguments = sys.argv[1:]
size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + (int(room) << 20),) * 2)
sys.exit(main(arguments))
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_pairs(tmp_path / "pairs.jsonl", ROWS)


def refused(capfd: pytest.CaptureFixture[str], arguments: list[str], out: Path, status: int = 2) -> str:
    """The one line that a refused command writes."""
    capfd.readouterr()
    assert main(arguments) == status
    said = capfd.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    assert not out.exists()
    return line.removeprefix("training.dpo: ")


# -- bad input: exit status 2, one line that says what is wrong, nothing written


def test_a_data_file_that_is_not_there(tiny_model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    line = refused(capfd, command(tiny_model, tmp_path / "absent.jsonl", tmp_path / "out"), tmp_path / "out")
    assert line == f"There is no data file {tmp_path}/absent.jsonl."


def test_a_broken_line(tiny_model: Path, data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    with data.open("a") as file:
        file.write('{"prompt": "p", "chosen": \n')
    line = refused(capfd, command(tiny_model, data, tmp_path / "out"), tmp_path / "out")
    assert line.startswith("pairs.jsonl, line 11: not valid JSON")


def test_a_line_without_a_rejected_story(
    tiny_model: Path, data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    with data.open("a") as file:
        file.write('{"prompt": "p", "chosen": "c"}\n')
    line = refused(capfd, command(tiny_model, data, tmp_path / "out"), tmp_path / "out")
    assert line.startswith("pairs.jsonl, line 11: ")
    assert "rejected" in line


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--beta", "1000", "beta is 1000.0: give 0.01 to 10.0"),
        ("--beta", "nan", "beta is nan: give 0.01 to 10.0"),
        ("--learning-rate", "3", "learning_rate is 3.0: give 1e-07 to 0.1"),
        ("--epochs", "0", "epochs is 0: give 1 to 20"),
        ("--patience", "2", "patience is 2, but no prompts are held out: give eval_share too"),
        ("--objectives", "a=b", "objectives is 'a=b': give \"criterion=weight,...\", weights above 0"),
    ],
)
def test_a_setting_that_cannot_be_meant(
    tiny_model: Path,
    data: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    option: str,
    value: str,
    message: str,
):
    assert refused(capfd, command(tiny_model, data, tmp_path / "out", option, value), tmp_path / "out") == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("betta = 0.1", "unknown settings betta"),
        ("[[stages]]\nbetta = 0.1", "stage stage-1: unknown settings betta"),
        ("beta = ", "is not valid TOML"),
        ("[stages]\nbeta = 0.1", "stages must be a list of tables"),
    ],
)
def test_a_config_that_cannot_be_meant(
    tiny_model: Path, data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], text: str, message: str
):
    (tmp_path / "run.toml").write_text(text)
    options = ["--config", str(tmp_path / "run.toml")]
    line = refused(capfd, command(tiny_model, data, tmp_path / "out", *options), tmp_path / "out")
    assert line.startswith(f"{tmp_path}/run.toml")
    assert message in line


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--loss", "other"], "invalid choice: 'other'"),
        (["--epochs", "many"], "invalid int value: 'many'"),
        (["--betta", "1"], "unrecognized arguments: --betta"),
        (["--bet", "1"], "unrecognized arguments: --bet"),
    ],
)
def test_an_option_that_is_not_known(
    tiny_model: Path,
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
):
    with pytest.raises(SystemExit) as caught:
        main(command(tiny_model, data, tmp_path / "out", *options))
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_a_model_directory_that_is_not_there(data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    line = refused(capfd, command(tmp_path / "absent", data, tmp_path / "out"), tmp_path / "out")
    assert line.startswith(f"{tmp_path}/absent is not a directory.")


def test_a_model_directory_that_holds_no_model(data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    (tmp_path / "empty").mkdir()
    line = refused(capfd, command(tmp_path / "empty", data, tmp_path / "out"), tmp_path / "out")
    assert line.startswith(f"{tmp_path}/empty is not a model directory")


def test_a_tokenizer_that_is_broken(tiny_model: Path, data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    model = changed_model(tiny_model, tmp_path / "model")
    (model / "tokenizer.json").write_text("{")
    line = refused(capfd, command(model, data, tmp_path / "out"), tmp_path / "out")
    assert f"{tmp_path}/model" in line


def without_token(model: Path, name: str) -> None:
    path = model / "tokenizer_config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in config.items() if key != name}))
    special = model / "special_tokens_map.json"
    if special.exists():
        special.unlink()


def test_a_tokenizer_without_an_end_token(
    tiny_model: Path, data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    model = changed_model(tiny_model, tmp_path / "model")
    without_token(model, "eos_token")
    line = refused(capfd, command(model, data, tmp_path / "out"), tmp_path / "out")
    assert line == f"The tokenizer in {model} has no end-of-sequence token: a story would never end."


def test_a_tokenizer_without_a_padding_token_will_do(tiny_model: Path, data: Path, tmp_path: Path):
    """Nothing is computed from padding."""
    model = changed_model(tiny_model, tmp_path / "model")
    without_token(model, "pad_token")
    for directory, name in ((tiny_model, "usual"), (model, "without")):
        assert main(command(directory, data, tmp_path / name)) == 0
    files = [(tmp_path / name / "policy" / "model.safetensors").read_bytes() for name in ("usual", "without")]
    assert files[0] == files[1]


@pytest.mark.parametrize("content", [b"half", b"<html>404 not found</html>"])
@pytest.mark.parametrize("options", [[], ["--dry-run"]], ids=["run", "dry-run"])
def test_weights_that_are_broken(
    tiny_model: Path,
    data: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    content: bytes,
    options: list[str],
):
    model = changed_model(tiny_model, tmp_path / "model")
    (model / "model.safetensors").write_bytes(content)
    capfd.readouterr()
    assert main(command(model, data, tmp_path / "out", *options)) == 2
    assert f"{tmp_path}/model" in capfd.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_an_adapter_that_is_not_there(tiny_model: Path, data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    options = ["--adapter", str(tmp_path / "absent"), "--method", "lora"]
    capfd.readouterr()
    assert main(command(tiny_model, data, tmp_path / "out", *options)) == 2
    assert f"{tmp_path}/absent holds no .safetensors file" in capfd.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("place", ["file/out", "file"])
def test_an_output_directory_that_cannot_be_made(
    tiny_model: Path, data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], place: str
):
    (tmp_path / "file").write_text("of somebody")
    capfd.readouterr()
    assert main(command(tiny_model, data, tmp_path / place)) == 2
    last = capfd.readouterr().err.splitlines()[-1]
    assert f"{tmp_path}/file" in last
    assert "name another folder" in last
    assert (tmp_path / "file").read_text() == "of somebody"


def test_an_output_directory_where_nothing_may_be_made(tiny_model: Path, data: Path, capfd: pytest.CaptureFixture[str]):
    """/proc takes no folders, not even from root."""
    assert main(command(tiny_model, data, Path("/proc/storyloop/out"))) == 2
    assert "/proc/storyloop" in capfd.readouterr().err.splitlines()[-1]


# -- checkpoints


def interrupted(model: Path, out: Path) -> list[str]:
    """A run that was killed after its checkpoint; the command that goes on with it."""
    with pytest.raises(Killed):
        run(model, out, ROWS, on_step=killed_after(3), checkpoint_steps=2)
    return command(model, out.with_name(out.name + ".jsonl"), out, "--checkpoint-steps", "2")


def test_a_checkpoint_without_its_files(
    tiny_model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "out" / "checkpoint").mkdir(parents=True)
    assert main(command(tiny_model, data, tmp_path / "out")) == 2
    assert "Delete it to start anew." in capsys.readouterr().err.splitlines()[-1]


def test_a_checkpoint_that_was_cut_in_half(tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    arguments = interrupted(tiny_model, tmp_path / "out")
    path = tmp_path / "out" / "checkpoint" / "state.safetensors"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert main(arguments) == 2
    assert re.search(r"checkpoint is broken .*Delete it to start anew\.$", capsys.readouterr().err.splitlines()[-1])
    assert not (tmp_path / "out" / "policy").exists()
    shutil.rmtree(tmp_path / "out" / "checkpoint")
    assert main(arguments) == 0  # as it says


def test_a_checkpoint_of_other_settings(tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    arguments = interrupted(tiny_model, tmp_path / "out")
    assert main([*arguments, "--beta", "0.5"]) == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith("Use another output directory.")
    assert main(arguments) == 0  # nothing of it was harmed


def test_figures_whose_last_line_was_cut_do_not_stop_a_run_going_on(tiny_model: Path, tmp_path: Path):
    """As when the power fails, or the disk is full, in the middle of a line."""
    arguments = interrupted(tiny_model, tmp_path / "out")
    (tmp_path / "out" / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2}\n{"loss": 0.6, "rew')
    assert main(arguments) == 0
    lines = (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3]


# -- training that fails: exit status 3


def test_training_that_fails_has_a_status_of_its_own(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """A model whose weights overflow: its loss is no number from the first step on."""
    model = make_tiny_model(tmp_path / "model")
    broken = load_model(model)
    broken.lm_head.weight.data *= 1e38
    broken.save_pretrained(model)
    assert main(command(model, data, tmp_path / "out")) == 3
    assert "Try a lower learning rate" in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "out" / "policy").exists()
    assert not (tmp_path / "out" / "run.json").exists()


def test_a_reference_that_is_not_the_policys_own_is_noticed(
    tiny_model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """The file of log-probabilities was exchanged for another model's."""
    other = make_tiny_model(tmp_path / "other", seed=5)
    for model in (tiny_model, other):
        assert main(command(model, data, tmp_path / model.name, "--cache", str(tmp_path / f"cache-{model.name}"))) == 0
    (own,), (wrong,) = ((tmp_path / f"cache-{model.name}").iterdir() for model in (tiny_model, other))
    shutil.copy(wrong, own)
    assert main(command(tiny_model, data, tmp_path / "out", "--cache", str(own.parent))) == 3
    assert "differs from its reference" in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "out" / "policy").exists()


# -- no memory: exit status 86


def limited(room: int, *arguments: str) -> tuple[int, str]:
    """(exit status, what it said) of a process that may take so many MiB more."""
    process = start("-c", LIMITED, str(room), *arguments)
    _, said = process.communicate(timeout=100)
    return process.returncode, said


def test_a_step_that_is_out_of_memory_says_what_would_fit_and_leaves_no_result(tiny_model: Path, tmp_path: Path):
    """All pairs in the model at once; a few of them have room enough."""
    data = write_pairs(tmp_path / "pairs.jsonl", [pair(i) for i in range(2500)])
    arguments = command(tiny_model, data, tmp_path / "out", "--epochs", "1", "--batch-pairs", "4096")
    status, said = limited(500, *arguments, "--micro-batch-tokens", str(1 << 24))
    assert status == 86, said
    last = said.splitlines()[-1]
    assert re.match(
        r"training\.dpo: Out of memory\. This run wants about \d+\.\d GB; \d+\.\d GB are free\. What would want less: ",
        last,
    )
    assert re.search(r"--micro-batch-tokens \d+ about \d+\.\d GB", last)
    assert not (tmp_path / "out" / "policy").exists()
    few = write_pairs(tmp_path / "few.jsonl", ROWS)
    assert limited(500, *command(tiny_model, few, tmp_path / "out", "--epochs", "1"))[0] == 0


def test_weights_that_are_too_large_for_the_memory_are_not_bad_input(tmp_path: Path):
    """160 million parameters into 200 MiB."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    model = make_tiny_model(tmp_path / "model")
    config = LlamaConfig.from_pretrained(model)
    config.hidden_size, config.intermediate_size = 2048, 4096
    torch.manual_seed(0)
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(model)
    data = write_pairs(tmp_path / "pairs.jsonl", ROWS)
    status, said = limited(100, *command(model, data, tmp_path / "out"))
    assert status == 86, said


@pytest.mark.parametrize("error", [NotImplementedError, RecursionError])
def test_a_fault_in_the_program_is_not_called_out_of_memory(
    tiny_model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[RuntimeError]
):
    """These are RuntimeErrors, as torch's errors of devices and networks are."""

    def broken(*_: object) -> None:
        raise error("a fault")

    monkeypatch.setattr("training.dpo.trainer.train", broken)
    with pytest.raises(error, match="a fault"):
        main(command(tiny_model, data, tmp_path / "out"))


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("could not create a primitive"),  # what oneDNN says
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: you tried"),
    ],
    ids=["python", "onednn", "torch-cpu"],
)
def test_out_of_memory_is_said_with_figures(
    tiny_model: Path,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
):
    def full(*_: object) -> None:
        raise error

    monkeypatch.setattr("training.dpo.trainer.train", full)
    assert main(command(tiny_model, data, tmp_path / "out")) == 86
    assert re.search(r"This run wants about \d+\.\d GB", capsys.readouterr().err)
