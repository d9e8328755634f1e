"""What a worker of this machine claims, and why; what it needs for it. Nothing here imports torch."""

import importlib.util
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings
from django.db import OperationalError, connection
from django.db.migrations.executor import MigrationExecutor

from config import readiness
from generation.engines.opening import TRANSFORMERS, VLLM, VLLM_SERVER
from generation.queues import DEFAULT, GENERATION, QUEUES, TRAINING

DOCS = "docs/workers.md"


class CannotWork(ValueError):
    """A worker cannot be started so; the message says what to do."""


@dataclass(frozen=True)
class Claim:
    """Whether a queue is claimed. reason: in words."""

    queue: str
    claimed: bool
    reason: str

    def __str__(self) -> str:
        return f"{self.queue}: {'claimed' if self.claimed else 'left to others'}, {self.reason}"


def claims(told: Sequence[str] = ()) -> list[Claim]:
    """A claim for each queue: what was told, or what this machine has the hardware for.

    Raises CannotWork for an unknown queue, and for one that it was told and cannot work on.
    """
    for name in told:
        if name not in QUEUES:
            raise CannotWork(f"There is no queue {name!r}: say --queues with {', '.join(QUEUES)}, or some of them.")
    if not told:
        found = [Claim(DEFAULT, True, "any machine does it"), _generation(), _training()]
    else:
        found = [Claim(name, name in told, "as told" if name in told else "not told") for name in QUEUES]
    for claim in found:
        if claim.claimed:
            _check(claim.queue)
    return found


def _generation() -> Claim:
    if settings.ENGINE == VLLM_SERVER:
        return Claim(GENERATION, True, f"its servers are {', '.join(settings.VLLM_URLS)}")
    if lacks := _lacks(GENERATION):
        return Claim(GENERATION, False, lacks)
    if settings.ENGINE == VLLM and not has_gpu():
        return Claim(GENERATION, False, "no GPU is here (vLLM for the CPU: say --queues)")
    return Claim(GENERATION, True, f"the engine {settings.ENGINE} is here")


def _training() -> Claim:
    lacks = _lacks(TRAINING)
    if lacks or not has_gpu():
        return Claim(TRAINING, False, lacks or "no GPU is here (to train on the CPU: say --queues)")
    return Claim(TRAINING, True, "torch and a GPU are here")


def _lacks(queue: str) -> str:
    """The software that this machine lacks for the queue; "" if none."""
    if queue == TRAINING or (queue == GENERATION and settings.ENGINE == TRANSFORMERS):
        return "" if importlib.util.find_spec("torch") else "torch is not installed here"
    if queue == GENERATION and settings.ENGINE == VLLM:
        python = Path(settings.VLLM_PYTHON)
        return "" if os.access(python, os.X_OK) else f"vLLM's Python is not here ({python})"
    return ""


def _check(queue: str) -> None:
    """Raise CannotWork if this machine lacks what the queue needs."""
    if lacks := _lacks(queue):
        advice = "make install-vllm, or set STORYLOOP_VLLM_PYTHON" if settings.ENGINE == VLLM else "make install"
        raise CannotWork(
            f"This machine cannot work on the queue {queue}: {lacks}. Install it ({advice}), or leave {queue} out of "
            f"--queues (STORYLOOP_QUEUES). See {DOCS}."
        )
    if queue != DEFAULT:
        _check_folder("STORYLOOP_MODEL_DIR", Path(settings.MODEL_DIR))
        _check_folder("STORYLOOP_EXPORT_DIR", Path(settings.EXPORT_DIR))


def _check_folder(name: str, folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        list(folder.iterdir())
        if not os.access(folder, os.W_OK):
            raise PermissionError(13, "Permission denied", str(folder))
    except OSError as error:
        raise CannotWork(
            f"{folder} ({name}) cannot be read and written here: {error.strerror}. Mount the folder that all machines "
            f"share, or give this user the right to it. See {DOCS}."
        ) from error


def has_gpu() -> bool:
    """Whether the machine shows this process a GPU. Device files and drivers are asked, not torch."""
    if os.environ.get("CUDA_VISIBLE_DEVICES", "all").strip() in ("", "-1"):
        return False
    if any(Path("/dev").glob("nvidia[0-9]*")) or Path("/dev/kfd").exists():
        return True
    program = shutil.which("nvidia-smi")  # without a device file, as in WSL
    if not program:
        return False
    try:
        said = subprocess.run([program, "-L"], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return said.stdout.startswith("GPU ")


def concurrency(queue: str, told: int = 0) -> int:
    """How many of the queue's tasks run at once. One for what loads a model of its own onto the GPU: two are too much
    for its memory. Of rounds there is one at a time in any case.
    """
    if queue == TRAINING:
        return 1
    if told:
        return told
    return 1 if queue == GENERATION and settings.ENGINE != VLLM_SERVER and has_gpu() else 2


def check_database() -> None:
    """Raise CannotWork unless the database answers, and knows the same migrations as this code."""
    try:
        executor = MigrationExecutor(connection)
    except OperationalError as error:
        raise CannotWork(f"The database does not answer ({error}). Start it, or correct DATABASE_URL.") from error
    if newer := readiness.newer():
        raise CannotWork(
            f"The database is newer than the Storyloop of this machine: it has {newer[-1]}, which is not known here. "
            f"Update Storyloop on this machine to the version of the web server. See {DOCS}."
        )
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    missing = [f"{step.app_label}.{step.name}" for step, _ in plan]
    if missing:
        raise CannotWork(
            f"The database is older than the Storyloop of this machine: it lacks {missing[-1]}. Update the web server "
            f"and run manage.py migrate once (make demo does it by itself). See {DOCS}."
        )


def unseen_policy() -> Iterator[str]:
    """A warning, if the policy in use lies where this machine does not see it."""
    from generation.models import Policy

    current = Policy.objects.current()
    if current and not current.weights_deleted_at and not current.directory.is_dir():
        yield f"The policy in use, {current.name}, lies in {current.path}: this machine does not see it. See {DOCS}."
