"""How a run that could not go on ends: an exit status, and a line that says what to do."""

import argparse
from pathlib import Path
from typing import Any

from generation.engines.faults import DISK_FULL, free_in, fullest, is_disk_full, is_out_of_memory
from training.dpo.settings import OUT_OF_MEMORY, BadSettings

BAD_INPUT, FAILED = 2, 3


def explained(error: Exception, arguments: argparse.Namespace) -> tuple[int, str] | None:
    """(exit status, words) for `error`; None for one that nobody foresaw: it is a fault of ours."""
    from safetensors import SafetensorError

    from generation.engines.values import EngineError
    from training.dpo.checkpoint import BadCheckpoint
    from training.dpo.data import BadData
    from training.dpo.interrupt import INTERRUPTED, Interrupted
    from training.dpo.trainer import TrainingFailed

    if is_disk_full(error):
        return DISK_FULL, disk_full(arguments.out, arguments.cache)
    if is_out_of_memory(error):
        return OUT_OF_MEMORY, f"Out of memory. {_advice(arguments)}"
    if isinstance(error, OSError):
        return BAD_INPUT, f"{error}. Mend it, or name another folder."
    for kinds, status in (
        ((BadData, BadSettings, BadCheckpoint, EngineError, SafetensorError), BAD_INPUT),
        ((TrainingFailed,), FAILED),
        ((Interrupted,), INTERRUPTED),
    ):
        if isinstance(error, kinds):
            return status, str(error)
    return None


def disk_full(*folders: Path | None) -> str:
    """With how much is free now: what was half-written has been taken away."""
    folder = fullest(filter(None, folders))
    return (
        f"The disk of {folder} is full: {free_in(folder)} are free, and what was to be written did not fit. Free "
        "some space, or name another folder; the same command goes on from the last checkpoint."
    )


def _advice(arguments: Any) -> str:
    """For the stage that was under way."""
    from training.dpo.estimate import what_would_fit

    current = getattr(arguments, "current", None)
    if current is None:
        return "It was not enough to begin with."
    device = current.processes.device()
    return what_would_fit(current.model, current.settings, current.micro_batch_tokens(), device)
