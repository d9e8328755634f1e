"""Checkpoints: all that a run needs to go on to the same result. Written whole or not at all."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from training.dpo.distributed import Processes, whole


class BadCheckpoint(RuntimeError):
    """The checkpoint cannot be used; the message says what to do."""


@dataclass(frozen=True)
class Position:
    """Where a run stands: `step` optimizer steps are done; `run` identifies model, data and settings.

    best_loss: the lowest of the evaluations, and how many came after it (waited). stopped: why the
    run ends here, if it does.
    """

    step: int
    run: str
    tokens: int = 0
    best_loss: float | None = None
    waited: int = 0
    stopped: str = ""


def save(
    directory: Path,
    model: Any,
    optimizer: torch.optim.Optimizer,
    position: Position,
    processes: Processes | None = None,
) -> None:
    """Replace the checkpoint in `directory` by one at `position`. Every process must call it; the first writes."""
    names = {id(p): name for name, p in model.named_parameters()}
    first = processes is None or processes.first
    tensors = {f"weight.{name}": value for name, value in trained_weights(model, keep=first).items()}
    for parameter, state in optimizer.state.items():
        for key, value in state.items():
            found = whole(value.detach())
            if first:
                tensors[f"{key}.{names[id(parameter)]}"] = found.cpu().contiguous()
    if not first:
        return
    new, old = directory.with_name(directory.name + ".new"), directory.with_name(directory.name + ".old")
    with _whole(new):
        new.mkdir(parents=True)
        save_file(tensors, new / "state.safetensors")
        (new / "position.json").write_text(json.dumps(asdict(position)))
        sync(new)
    shutil.rmtree(old, ignore_errors=True)
    if directory.exists():
        directory.rename(old)
    new.rename(directory)
    shutil.rmtree(old, ignore_errors=True)


def position_of(directory: Path, run: str) -> Position:
    """Where the checkpoint in `directory` stands; step 0 if there is none. BadCheckpoint if it is of another
    run, or broken."""
    old = directory.with_name(directory.name + ".old")
    if not directory.exists() and old.exists():  # killed between the two renames of save()
        with suppress(FileNotFoundError):  # another process of the run was quicker
            old.rename(directory)
    if not directory.exists():
        return Position(0, run)
    try:
        position = Position(**json.loads((directory / "position.json").read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise BadCheckpoint(f"The checkpoint in {directory} is broken ({error}). Delete it to start anew.") from error
    if position.run != run:
        raise BadCheckpoint(
            f"The checkpoint in {directory} is of another model, data or settings. Use another output directory."
        )
    return position


def load(directory: Path, model: Any, optimizer: torch.optim.Optimizer, run: str) -> Position:
    """Put the checkpoint back into model and optimizer; return its position, step 0 if there is none."""
    position = position_of(directory, run)
    if not directory.exists():
        return position
    try:
        tensors = load_file(directory / "state.safetensors")
        put_back(model, {name.removeprefix("weight."): t for name, t in tensors.items() if name.startswith("weight.")})
        _put_back_state(tensors, model, optimizer)
    except (OSError, KeyError, RuntimeError, SafetensorError) as error:
        raise BadCheckpoint(f"The checkpoint in {directory} is broken ({error}). Delete it to start anew.") from error
    return position


def trained_weights(model: Any, *, keep: bool = True) -> dict[str, torch.Tensor]:
    """The weights that are trained, whole, on the CPU, by name. Every process must ask, one tensor at a time
    is gathered; those that do not keep get none."""
    kept = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            found = whole(parameter.detach())
            if keep:
                kept[name] = found.cpu().contiguous()
    return kept


@torch.no_grad()
def put_back(model: Any, weights: dict[str, torch.Tensor]) -> None:
    """Give the trained weights of `model` these values. KeyError if one is lacking."""
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            parameter.copy_(_as(parameter, weights[name]))


def _put_back_state(tensors: dict[str, torch.Tensor], model: Any, optimizer: torch.optim.Optimizer) -> None:
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad or f"step.{name}" not in tensors:
            continue  # frozen, or a weight that had no gradient yet
        averages = {key: _as(parameter, tensors[f"{key}.{name}"]) for key in ("exp_avg", "exp_avg_sq")}
        optimizer.state[parameter] = {"step": tensors[f"step.{name}"].to(parameter.device), **averages}


def _as(parameter: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """`value` where `parameter` lies: on its device, and in its shards."""
    value = value.to(parameter.device)
    if not hasattr(parameter, "full_tensor"):
        return value
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value, parameter.device_mesh, parameter.placements)  # type: ignore[attr-defined]


def remove(directory: Path) -> None:
    """Take the checkpoint away, and what a save that was killed has left beside it."""
    for suffix in ("", ".old", ".new"):
        shutil.rmtree(directory.with_name(directory.name + suffix), ignore_errors=True)


@contextmanager
def replacing(directory: Path) -> Iterator[Path]:
    """A directory to write into; it takes the place of `directory` at the end, whole or not at all."""
    temporary = directory.with_name(directory.name + ".new")
    with _whole(temporary):
        yield temporary
        sync(temporary)
    shutil.rmtree(directory, ignore_errors=True)
    temporary.rename(directory)


@contextmanager
def _whole(temporary: Path) -> Iterator[None]:
    """Begin without `temporary`, and take it away if it is not finished: on a full disk it would be in the way."""
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        yield
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def sync(directory: Path) -> None:
    """Have the files of `directory` on the disk before it is renamed."""
    for path in (*directory.iterdir(), directory):
        sync_file(path)


def sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
