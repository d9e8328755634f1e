import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from training.dpo import checkpoint
from training.dpo.checkpoint import BadCheckpoint, Position
from training.dpo.distributed import Processes

KEY = "model, data and settings"


def parts(seed: int = 0, **where: str) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(seed)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4, **where), torch.nn.Linear(4, 2, **where))
    return model, torch.optim.AdamW(model.parameters(), lr=0.1)


def step(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    model(torch.ones(1, 3)).square().sum().backward()
    optimizer.step()


def save(directory: Path, *, steps: int) -> Path:
    """Train so many steps and save a checkpoint to `directory`."""
    model, optimizer = parts()
    for _ in range(steps):
        step(model, optimizer)
    checkpoint.save(directory, model, optimizer, Position(steps, KEY))
    return directory


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A checkpoint after two steps."""
    return save(tmp_path / "checkpoint", steps=2)


def test_no_checkpoint_means_no_step_is_done(tmp_path: Path):
    assert checkpoint.load(tmp_path / "checkpoint", *parts(), KEY) == Position(0, KEY)


def test_load_returns_the_position_that_was_saved(tmp_path: Path):
    position = Position(7, KEY, tokens=99, best_loss=0.25, waited=2, stopped="kl was 9.0")
    checkpoint.save(tmp_path / "checkpoint", *parts(), position)
    assert checkpoint.load(tmp_path / "checkpoint", *parts(), KEY) == position


def test_a_position_without_its_later_fields_has_their_defaults(saved: Path):
    """As an earlier version of the trainer wrote it."""
    (saved / "position.json").write_text(json.dumps({"step": 2, "run": KEY}))
    assert checkpoint.load(saved, *parts(), KEY) == Position(2, KEY)


def test_the_position_is_read_without_a_model(saved: Path):
    assert checkpoint.position_of(saved, KEY) == Position(2, KEY)


def test_the_position_is_that_of_the_checkpoint_before_if_the_last_is_not_in_place(saved: Path):
    saved.rename(saved.with_name("checkpoint.old"))
    assert checkpoint.position_of(saved, KEY).step == 2


def test_the_position_of_another_run_is_refused(saved: Path):
    with pytest.raises(BadCheckpoint, match="another model, data or settings"):
        checkpoint.position_of(saved, "another key")


@pytest.mark.parametrize("text", ["", "[]", "2", '{"step": 2}', '{"ste'])
def test_a_position_that_cannot_be_read_is_refused(saved: Path, text: str):
    (saved / "position.json").write_text(text)
    with pytest.raises(BadCheckpoint, match="is broken .*Delete it to start anew"):
        checkpoint.position_of(saved, KEY)


def test_only_the_first_process_writes(tmp_path: Path):
    checkpoint.save(tmp_path / "checkpoint", *parts(), Position(1, KEY), Processes(rank=1, count=2))
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_that_is_removed_leaves_nothing_beside_it(saved: Path):
    for suffix in (".old", ".new"):
        saved.with_name(saved.name + suffix).mkdir()
    checkpoint.remove(saved)
    assert list(saved.parent.iterdir()) == []


def test_load_returns_the_steps_done(saved: Path):
    assert checkpoint.load(saved, *parts(), KEY).step == 2


def test_a_loaded_run_goes_on_to_the_same_weights(saved: Path):
    model, optimizer = parts()
    for _ in range(5):
        step(model, optimizer)
    other, its_optimizer = parts(seed=9)
    checkpoint.load(saved, other, its_optimizer, KEY)
    for _ in range(3):
        step(other, its_optimizer)
    assert all(torch.equal(one, two) for one, two in zip(model.parameters(), other.parameters(), strict=True))


def test_weights_that_are_not_trained_are_not_saved(tmp_path: Path):
    model, optimizer = parts()
    model[0].requires_grad_(False)
    checkpoint.save(tmp_path / "checkpoint", model, optimizer, Position(1, KEY))
    assert set(load_file(tmp_path / "checkpoint" / "state.safetensors")) == {"weight.1.weight", "weight.1.bias"}


def test_a_weight_that_never_had_a_gradient_does_not_stop_a_run_going_on(tmp_path: Path):
    model, optimizer = parts()
    model.unused = torch.nn.Parameter(torch.ones(1))
    model[0](torch.ones(1, 3)).sum().backward()
    optimizer.step()
    checkpoint.save(tmp_path / "checkpoint", model, optimizer, Position(1, KEY))
    assert checkpoint.load(tmp_path / "checkpoint", model, optimizer, KEY).step == 1


def test_the_optimizers_averages_come_back_on_their_weights_device(saved: Path):
    """The device "meta" stands for a GPU: a device other than the CPU, on every machine."""
    model, optimizer = parts(device="meta")
    checkpoint.load(saved, model, optimizer, KEY)
    assert {state["exp_avg"].device.type for state in optimizer.state.values()} == {"meta"}


def test_a_checkpoint_replaces_the_one_before(saved: Path):
    save(saved, steps=3)
    assert checkpoint.load(saved, *parts(), KEY).step == 3


def test_nothing_lies_beside_a_checkpoint(saved: Path):
    save(saved, steps=3)
    assert list(saved.parent.iterdir()) == [saved]


def test_a_save_that_was_killed_between_its_renames_leaves_the_checkpoint_before(saved: Path):
    saved.rename(saved.with_name("checkpoint.old"))
    assert checkpoint.load(saved, *parts(), KEY).step == 2


def test_a_checkpoint_taken_back_is_in_its_place_again(saved: Path):
    saved.rename(saved.with_name("checkpoint.old"))
    checkpoint.load(saved, *parts(), KEY)
    assert list(saved.parent.iterdir()) == [saved]


def test_the_newer_checkpoint_is_taken_if_the_one_before_is_still_there(saved: Path):
    saved.rename(saved.with_name("checkpoint.old"))
    save(saved.with_name("newer"), steps=3).rename(saved)
    assert checkpoint.load(saved, *parts(), KEY).step == 3


def test_a_half_written_checkpoint_is_not_taken(saved: Path):
    half = saved.with_name("checkpoint.new")
    half.mkdir()
    (half / "position.json").write_text(json.dumps({"step": 99, "run": KEY}))
    assert checkpoint.load(saved, *parts(), KEY).step == 2


def test_a_half_written_checkpoint_does_not_stop_the_next(saved: Path):
    half = saved.with_name("checkpoint.new")
    half.mkdir()
    (half / "state.safetensors").write_bytes(b"half")
    save(saved, steps=3)
    assert checkpoint.load(saved, *parts(), KEY).step == 3


def test_a_checkpoint_of_another_run_is_refused_with_advice(saved: Path):
    with pytest.raises(BadCheckpoint, match="another model, data or settings. Use another output directory"):
        checkpoint.load(saved, *parts(), "another key")


def test_a_refused_checkpoint_changes_no_weight(saved: Path):
    model, optimizer = parts(seed=9)
    before = [parameter.clone() for parameter in model.parameters()]
    with pytest.raises(BadCheckpoint):
        checkpoint.load(saved, model, optimizer, "another key")
    assert all(torch.equal(one, two) for one, two in zip(before, model.parameters(), strict=True))


def cut_weights(directory: Path) -> None:
    path = directory / "state.safetensors"
    path.write_bytes(path.read_bytes()[:-8])


def empty_weights(directory: Path) -> None:
    (directory / "state.safetensors").write_bytes(b"")


def no_weights(directory: Path) -> None:
    (directory / "state.safetensors").unlink()


def cut_position(directory: Path) -> None:
    (directory / "position.json").write_text('{"step": 2, "ru')


def position_of_another_shape(directory: Path) -> None:
    (directory / "position.json").write_text('{"epoch": 2}')


def position_of_no_names(directory: Path) -> None:
    (directory / "position.json").write_text("[2]")


def half_of_the_weights(directory: Path) -> None:
    path = directory / "state.safetensors"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def no_averages(directory: Path) -> None:
    """A step without its averages."""
    path = directory / "state.safetensors"
    tensors = load_file(path)
    save_file({name: t for name, t in tensors.items() if not name.startswith("exp_avg.")}, path)


def weights_of_another_shape(directory: Path) -> None:
    path = directory / "state.safetensors"
    save_file({**load_file(path), "weight.0.weight": torch.ones(9, 9)}, path)


def no_position(directory: Path) -> None:
    (directory / "position.json").unlink()


def position_is_not_text(directory: Path) -> None:
    (directory / "position.json").write_bytes(b"\xff\x00\xff")


@pytest.mark.parametrize(
    "harm",
    [
        cut_weights,
        empty_weights,
        no_weights,
        cut_position,
        position_of_another_shape,
        no_position,
        position_of_no_names,
        half_of_the_weights,
        no_averages,
        weights_of_another_shape,
        position_is_not_text,
        pytest.param(
            lambda directory: save_file({"weight.other": torch.ones(1)}, directory / "state.safetensors"),
            id="other_weights",
        ),
    ],
)
def test_a_broken_checkpoint_is_refused_with_advice(saved: Path, harm: Callable[[Path], None]):
    harm(saved)
    with pytest.raises(BadCheckpoint, match="is broken .*Delete it to start anew"):
        checkpoint.load(saved, *parts(), KEY)
