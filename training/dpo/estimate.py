"""What a run leaves free, and what would fit better. How much it wants: training/dpo/shapes.py."""

from dataclasses import replace
from pathlib import Path

import torch

from generation.engines.values import EngineError
from training.dpo.policy import precision_of
from training.dpo.settings import DPOSettings
from training.dpo.shapes import gigabytes, memory, shapes


def free_memory(device: torch.device) -> float:
    """Bytes that are free on the device; infinitely many if it does not say."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    meminfo = Path("/proc/meminfo")
    if not meminfo.exists():
        return float("inf")
    lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
    return float(lines["MemAvailable"].split()[0]) * 1024 if "MemAvailable" in lines else float("inf")


def peak_resident() -> int | None:
    """Bytes of this process's memory at their highest. getrusage's figure would begin with that of the process
    which started this one (execve keeps it); the kernel's VmHWM does not."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), None)


def peak_allocated(device: torch.device) -> int | None:
    """Bytes that torch has had allocated on the GPU at their highest; None on a CPU."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None


def what_would_fit(model: Path, settings: DPOSettings, tokens: int, device: torch.device) -> str:
    """Advice after running out of memory, with figures."""
    try:
        found = shapes(model)
    except (OSError, ValueError, EngineError):
        return "Try --method lora, or a smaller model."
    bf16 = precision_of(settings, device) == "bf16"
    small = max(tokens // 4, 256)
    tries = [
        (f"--micro-batch-tokens {small}", settings, small),
        ("--gradient-checkpointing", replace(settings, gradient_checkpointing=True), tokens),
        ("--method lora", replace(settings, method="lora"), tokens),
        (
            f"--method lora --gradient-checkpointing --micro-batch-tokens {small}",
            replace(settings, method="lora", gradient_checkpointing=True),
            small,
        ),
    ]
    wanted = memory(found, settings, tokens, bf16=bf16)
    figures = [(how, memory(found, changed, n, bf16=bf16)) for how, changed, n in tries]
    said = [f"{how} about {gigabytes(figure)}" for how, figure in figures if figure < wanted]
    less = f"What would want less: {'; '.join(said)}." if said else "Only a smaller model would want less."
    return f"This run wants about {gigabytes(wanted)}; {gigabytes(free_memory(device))} are free. {less}"


def keep_freed_memory() -> None:
    """Have glibc keep the memory that torch frees on a CPU instead of giving it back to the kernel,
    which would clear every page again at the next allocation: a fifth of a step's time.
    """
    import ctypes
    from contextlib import suppress

    mmap_threshold, trim_threshold, top_pad = -3, -1, -2  # malloc.h
    with suppress(OSError, AttributeError):  # another C library
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(mmap_threshold, 32 << 20)
        libc.mallopt(trim_threshold, 2**31 - 1)
        libc.mallopt(top_pad, 64 << 20)
