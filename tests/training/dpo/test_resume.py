"""A run that was killed goes on from its checkpoint, to the result of an unbroken run."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.models import make_tiny_model
from tests.training.dpo.helpers import Killed, killed_after, largest_difference, pair, run, weights
from tests.training.dpo.naive import tied_model
from training.dpo.checkpoint import BadCheckpoint
from training.dpo.run import Run as TrainerRun
from training.dpo.settings import DPOSettings
from training.dpo.trainer import Callbacks, train

ROWS = [pair(i) for i in range(10)]
METHODS = pytest.mark.parametrize("method", ["full", "lora"])

SIX_STEPS = {"batch_pairs": 5, "epochs": 3, "checkpoint_steps": 2, "learning_rate": 1e-3}


def broken_off(model: Path, out: Path, after: int = 5, **settings: Any) -> None:
    with pytest.raises(Killed):
        run(model, out, ROWS, on_step=killed_after(after), **{**SIX_STEPS, **settings})


@METHODS
def test_a_run_that_was_killed_goes_on_to_the_same_weights_bit_for_bit(tiny_model: Path, tmp_path: Path, method: str):
    unbroken = run(tiny_model, tmp_path / "unbroken", ROWS, method=method, **SIX_STEPS)
    broken_off(tiny_model, tmp_path / "broken", method=method)
    resumed = run(tiny_model, tmp_path / "broken", ROWS, method=method, **SIX_STEPS)
    assert largest_difference(weights(resumed.result.directory), weights(unbroken.result.directory)) == 0


def test_a_run_of_a_tied_model_goes_on_to_the_same_weights(tiny_model: Path, tmp_path: Path):
    tied = tied_model(tiny_model, tmp_path / "tied")
    unbroken = run(tied, tmp_path / "unbroken", ROWS, **SIX_STEPS)
    broken_off(tied, tmp_path / "broken")
    resumed = run(tied, tmp_path / "broken", ROWS, **SIX_STEPS)
    assert largest_difference(weights(resumed.result.directory), weights(unbroken.result.directory)) == 0


def test_a_run_goes_on_after_its_last_checkpoint_with_the_same_figures(tiny_model: Path, tmp_path: Path):
    unbroken = run(tiny_model, tmp_path / "unbroken", ROWS, **SIX_STEPS)
    broken_off(tiny_model, tmp_path / "broken")
    assert run(tiny_model, tmp_path / "broken", ROWS, **SIX_STEPS).metrics == unbroken.metrics[4:]


def test_a_run_that_was_killed_twice_goes_on_to_the_same_weights(tiny_model: Path, tmp_path: Path):
    unbroken = run(tiny_model, tmp_path / "unbroken", ROWS, **SIX_STEPS)
    broken_off(tiny_model, tmp_path / "broken", after=3)
    broken_off(tiny_model, tmp_path / "broken", after=5)
    resumed = run(tiny_model, tmp_path / "broken", ROWS, **SIX_STEPS)
    assert largest_difference(weights(resumed.result.directory), weights(unbroken.result.directory)) == 0


def test_a_killed_run_has_no_result(tiny_model: Path, tmp_path: Path):
    broken_off(tiny_model, tmp_path / "out")
    assert not (tmp_path / "out" / "policy").exists()


def test_the_start_is_told_how_many_steps_are_done(tiny_model: Path, tmp_path: Path):
    broken_off(tiny_model, tmp_path / "out")
    told: list[tuple[int, int]] = []
    again = TrainerRun(tiny_model, tmp_path / "out.jsonl", tmp_path / "out", DPOSettings(**SIX_STEPS))
    train(again, Callbacks(on_start=lambda dataset, done: told.append((dataset.pairs, done))))
    assert told == [(10, 4)]


def test_a_checkpoint_of_other_data_is_refused(tiny_model: Path, tmp_path: Path):
    broken_off(tiny_model, tmp_path / "out")
    with pytest.raises(BadCheckpoint, match="another model, data or settings"):
        run(tiny_model, tmp_path / "out", ROWS[1:], **SIX_STEPS)


@pytest.mark.parametrize("changed", [{"beta": 0.1}, {"seed": 1}, {"method": "lora"}, {"learning_rate": 1e-4}])
def test_a_checkpoint_of_other_settings_is_refused(tiny_model: Path, tmp_path: Path, changed: dict[str, Any]):
    broken_off(tiny_model, tmp_path / "out")
    with pytest.raises(BadCheckpoint, match="another model, data or settings"):
        run(tiny_model, tmp_path / "out", ROWS, **{**SIX_STEPS, **changed})


def test_a_checkpoint_of_another_model_is_refused(tiny_model: Path, tmp_path: Path):
    broken_off(tiny_model, tmp_path / "out")
    with pytest.raises(BadCheckpoint, match="another model, data or settings"):
        run(make_tiny_model(tmp_path / "other", seed=2), tmp_path / "out", ROWS, **SIX_STEPS)


def test_a_run_that_was_out_of_memory_goes_on_with_smaller_micro_batches(tiny_model: Path, tmp_path: Path):
    """That is what the command line advises."""
    broken_off(tiny_model, tmp_path / "out")
    found = run(tiny_model, tmp_path / "out", ROWS, micro_batch_tokens=32, **SIX_STEPS)
    assert [step.step for step in found.metrics] == [5, 6]


def test_a_broken_checkpoint_is_refused_with_advice(tiny_model: Path, tmp_path: Path):
    broken_off(tiny_model, tmp_path / "out")
    (tmp_path / "out" / "checkpoint" / "state.safetensors").write_bytes(b"half")
    with pytest.raises(BadCheckpoint, match="is broken .*Delete it to start anew"):
        run(tiny_model, tmp_path / "out", ROWS, **SIX_STEPS)


def test_a_run_goes_on_from_the_checkpoint_before_if_the_last_was_not_in_place(tiny_model: Path, tmp_path: Path):
    unbroken = run(tiny_model, tmp_path / "unbroken", ROWS, **SIX_STEPS)
    broken_off(tiny_model, tmp_path / "broken")
    (tmp_path / "broken" / "checkpoint").rename(tmp_path / "broken" / "checkpoint.old")
    resumed = run(tiny_model, tmp_path / "broken", ROWS, **SIX_STEPS)
    assert largest_difference(weights(resumed.result.directory), weights(unbroken.result.directory)) == 0


def test_a_finished_run_leaves_no_older_checkpoint_behind(tiny_model: Path, tmp_path: Path):
    """A save that was killed before it took the older checkpoint away, at the last checkpoint of the run."""
    broken_off(tiny_model, tmp_path / "out", checkpoint_steps=4)
    (tmp_path / "out" / "checkpoint.old").mkdir()
    run(tiny_model, tmp_path / "out", ROWS, **{**SIX_STEPS, "checkpoint_steps": 4})
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["policy", "run.json"]


def test_a_result_is_replaced_by_that_of_the_next_run(tiny_model: Path, tmp_path: Path):
    run(tiny_model, tmp_path / "out", ROWS, method="lora", epochs=1)
    again = run(tiny_model, tmp_path / "out", ROWS, method="full", epochs=1).result.directory
    assert {file.name for file in again.glob("*.safetensors")} == {"model.safetensors"}


@pytest.mark.parametrize("changed", [{"checkpoint_steps": 1}, {"gradient_checkpointing": True}])
def test_a_run_goes_on_though_a_setting_changed_that_does_not_change_the_result(
    tiny_model: Path, tmp_path: Path, changed: dict[str, Any]
):
    """Both are what a person changes between two tries: the second is the command line's advice
    after running out of memory."""
    broken_off(tiny_model, tmp_path / "out")
    found = run(tiny_model, tmp_path / "out", ROWS, **{**SIX_STEPS, **changed})
    assert [step.step for step in found.metrics] == [5, 6]


@METHODS
def test_gradient_checkpointing_does_not_change_the_result(tiny_model: Path, tmp_path: Path, method: str):
    settings = {**SIX_STEPS, "method": method}
    off = run(tiny_model, tmp_path / "off", ROWS, **settings)
    on = run(tiny_model, tmp_path / "on", ROWS, gradient_checkpointing=True, **settings)
    assert largest_difference(weights(on.result.directory), weights(off.result.directory)) < 1e-6


def test_a_run_that_is_resumed_computes_the_reference_again_if_its_file_is_broken(tiny_model: Path, tmp_path: Path):
    unbroken = run(tiny_model, tmp_path / "unbroken", ROWS, **SIX_STEPS)
    broken_off(tiny_model, tmp_path / "broken")
    (file,) = (tmp_path / "broken").glob("reference-*.safetensors")
    file.write_bytes(file.read_bytes()[:100])
    resumed = run(tiny_model, tmp_path / "broken", ROWS, **SIX_STEPS)
    assert largest_difference(weights(resumed.result.directory), weights(unbroken.result.directory)) == 0


def test_the_tokens_so_far_go_on_where_they_were(tiny_model: Path, tmp_path: Path):
    unbroken = run(tiny_model, tmp_path / "unbroken", ROWS, **SIX_STEPS)
    broken_off(tiny_model, tmp_path / "broken")
    resumed = run(tiny_model, tmp_path / "broken", ROWS, **SIX_STEPS)
    assert resumed.metrics[-1].num_tokens == unbroken.metrics[-1].num_tokens > 0


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_a_checkpoint_of_a_model_that_is_read_in_another_way_is_refused(tiny_model: Path, tmp_path: Path, name: str):
    """The weights are the same, but positions or tokens may mean something else."""
    model = tmp_path / "model"
    shutil.copytree(tiny_model, model)
    broken_off(model, tmp_path / "out")
    (model / name).write_text((model / name).read_text() + " ")
    with pytest.raises(BadCheckpoint, match="another model, data or settings"):
        run(model, tmp_path / "out", ROWS, **SIX_STEPS)
