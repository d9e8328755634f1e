"""A disk that is really full while the trainer writes: a stated end, nothing half-written, the same result after."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from generation.engines.faults import DISK_FULL
from tests.disks import fill, free, small_disk
from tests.training.dpo.cli import command, start
from tests.training.dpo.helpers import largest_difference, pair, weights, write_pairs
from training.dpo import merge
from training.dpo.__main__ import main

KB = 1 << 10


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk") as found:
        yield found


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_pairs(tmp_path / "pairs.jsonl", [pair(i) for i in range(10)])


@pytest.mark.parametrize(("steps", "what"), [("1", "checkpoint"), ("100", "policy")])
def test_what_did_not_fit_leaves_nothing_and_the_same_command_goes_on(
    tiny_model: Path, data: Path, disk: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], steps: str, what: str
):
    fill(disk, leaving=96 * KB)  # for figures and the reference, not for weights of 160 KB
    arguments = command(tiny_model, data, disk / "out", "--checkpoint-steps", steps)
    assert main(arguments) == DISK_FULL
    said = capfd.readouterr().err.splitlines()[-1]
    assert said.startswith(f"training.dpo: The disk of {disk}/out is full: 0.")
    assert "the same command goes on from the last checkpoint" in said
    assert not [path for path in (disk / "out").iterdir() if path.name.startswith(("checkpoint", "policy", "run"))]
    free(disk)
    assert main(arguments) == 0
    assert main(command(tiny_model, data, tmp_path / "unbroken")) == 0
    assert largest_difference(weights(disk / "out" / "policy"), weights(tmp_path / "unbroken" / "policy")) == 0


def test_a_checkpoint_that_does_not_fit_leaves_the_one_before(
    tiny_model: Path, data: Path, disk: Path, capfd: pytest.CaptureFixture[str]
):
    """Two lie side by side for a moment: one fits, and stays, when the next does not."""
    fill(disk, leaving=800 * KB)
    arguments = command(tiny_model, data, disk / "out", "--checkpoint-steps", "1")
    assert main(arguments) == DISK_FULL
    assert {path.name for path in (disk / "out").iterdir() if path.is_dir()} == {"checkpoint"}
    capfd.readouterr()
    free(disk)
    assert main(arguments) == 0
    assert "going on after step 1" in capfd.readouterr().err


def test_a_merge_that_does_not_fit_leaves_nothing(
    tiny_model: Path, data: Path, disk: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    adapter = tmp_path / "lora" / "policy"
    assert main(command(tiny_model, data, tmp_path / "lora", "--method", "lora", "--epochs", "1")) == 0
    fill(disk, leaving=96 * KB)
    arguments = [str(tiny_model), str(adapter), str(disk / "merged")]
    assert merge.main(arguments) == DISK_FULL
    assert f"The disk of {disk}/merged is full" in capfd.readouterr().err
    assert not list(disk.glob("merged*"))
    free(disk)
    assert merge.main(arguments) == 0
    assert (disk / "merged" / "model.safetensors").exists()


def test_a_log_on_a_full_disk_ends_nothing(tiny_model: Path, data: Path, disk: Path, tmp_path: Path):
    """Only the log lies there: training goes to its end, and says so by its exit status."""
    fill(disk)
    with (disk / "trainer.log").open("w") as log:
        process = start("-m", "training.dpo", *command(tiny_model, data, tmp_path / "out"), stderr=log)
        output, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    assert "step 1/" in output
    assert (tmp_path / "out" / "policy").exists()
    assert (disk / "trainer.log").stat().st_size == 0
