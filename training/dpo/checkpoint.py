"""Checkpoints: all that a run needs to go on to the same result. Written whole or not at all."""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file


class BadCheckpoint(RuntimeError):
    """The checkpoint cannot be used; the message says what to do."""


@dataclass(frozen=True)
class Position:
    """Where a run stands: `step` optimizer steps are done; `run` identifies model, data and settings."""

    step: int
    run: str


def save(directory: Path, model: Any, optimizer: torch.optim.Optimizer, position: Position) -> None:
    """Replace the checkpoint in `directory` by one at `position`."""
    names = {id(p): name for name, p in model.named_parameters()}
    tensors = {f"weight.{n}": p.detach().contiguous() for n, p in model.named_parameters() if p.requires_grad}
    for parameter, state in optimizer.state.items():
        for key, value in state.items():
            tensors[f"{key}.{names[id(parameter)]}"] = value.detach().contiguous()
    new, old = directory.with_name(directory.name + ".new"), directory.with_name(directory.name + ".old")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    save_file(tensors, new / "state.safetensors")
    (new / "position.json").write_text(json.dumps(vars(position)))
    sync(new)
    shutil.rmtree(old, ignore_errors=True)
    if directory.exists():
        directory.rename(old)
    new.rename(directory)
    shutil.rmtree(old, ignore_errors=True)


def load(directory: Path, model: Any, optimizer: torch.optim.Optimizer, run: str) -> int:
    """Put the checkpoint back into model and optimizer; return the steps done, 0 if there is none."""
    old = directory.with_name(directory.name + ".old")
    if not directory.exists() and old.exists():  # killed between the two renames of save()
        old.rename(directory)
    if not directory.exists():
        return 0
    try:
        position = Position(**json.loads((directory / "position.json").read_text()))
        tensors = load_file(directory / "state.safetensors")
    except (OSError, ValueError, TypeError, SafetensorError) as error:
        raise BadCheckpoint(f"The checkpoint in {directory} is broken ({error}). Delete it to start anew.") from error
    if position.run != run:
        raise BadCheckpoint(
            f"The checkpoint in {directory} is of another model, data or settings. Use another output directory."
        )
    try:
        _put_back(tensors, model, optimizer)
    except KeyError as error:
        raise BadCheckpoint(
            f"The checkpoint in {directory} is broken (no {error}). Delete it to start anew."
        ) from error
    return position.step


@torch.no_grad()
def _put_back(tensors: dict[str, torch.Tensor], model: Any, optimizer: torch.optim.Optimizer) -> None:
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        parameter.copy_(tensors[f"weight.{name}"])
        if f"step.{name}" not in tensors:
            continue  # a weight that had no gradient yet
        averages = {key: tensors[f"{key}.{name}"].to(parameter.device) for key in ("exp_avg", "exp_avg_sq")}
        optimizer.state[parameter] = {"step": tensors[f"step.{name}"].clone(), **averages}


def remove(directory: Path) -> None:
    """Take the checkpoint away, and what a save that was killed has left beside it."""
    for suffix in ("", ".old", ".new"):
        shutil.rmtree(directory.with_name(directory.name + suffix), ignore_errors=True)


def sync(directory: Path) -> None:
    """Have the files of `directory` on the disk before it is renamed."""
    for path in (*directory.iterdir(), directory):
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
