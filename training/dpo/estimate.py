"""How much memory a run will want, from the shapes of its weights alone."""

import json
import struct
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path

import torch

from generation.engines.values import EngineError
from training.dpo.head import CHUNK
from training.dpo.policy import precision_of
from training.dpo.settings import DPOSettings

FRAMEWORK = 500e6  # torch, transformers and their kernels


@dataclass(frozen=True)
class Shapes:
    """Of a model: parameters, those of its linear layers (rows + columns of each), and its widths."""

    parameters: int
    linear_sides: int
    layers: int
    hidden: int
    intermediate: int
    vocabulary: int


def shapes(model: Path) -> Shapes:
    """Read from the headers of the safetensors files and config.json; nothing is loaded."""
    parameters = sides = 0
    for path in model.glob("*.safetensors"):
        for name, shape in _header(path).items():
            parameters += prod(shape)
            if len(shape) == 2 and "embed" not in name and "lm_head" not in name:  # noqa: PLR2004
                sides += sum(shape)
    config = json.loads((model / "config.json").read_text())
    config = config.get("text_config", config)
    hidden = config.get("hidden_size") or config.get("n_embd") or 1024
    return Shapes(
        parameters,
        sides,
        layers=config.get("num_hidden_layers") or config.get("n_layer") or 24,
        hidden=hidden,
        intermediate=config.get("intermediate_size") or config.get("n_inner") or 4 * hidden,
        vocabulary=config.get("vocab_size") or 50_000,
    )


def _header(path: Path) -> dict[str, list[int]]:
    """Names and shapes of the tensors in a safetensors file. Raises EngineError."""
    try:
        with path.open("rb") as file:
            (size,) = struct.unpack("<Q", file.read(8))
            if size > path.stat().st_size:
                raise ValueError("its header is longer than the file")
            found = json.loads(file.read(size))
        return {
            name: [int(side) for side in tensor["shape"]] for name, tensor in found.items() if name != "__metadata__"
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise EngineError(f"{path} is broken ({error}). Copy it again.") from error


def memory(found: Shapes, settings: DPOSettings, tokens: int, *, bf16: bool) -> float:
    """Bytes at the peak, about: weights, gradients, AdamW's two averages, and activations of `tokens`."""
    lora = settings.method == "lora"
    trained = found.linear_sides * settings.lora_rank if lora else found.parameters
    weights = found.parameters * (2 if lora and bf16 else 4) + (trained * 4 if lora else 0)
    copies = found.parameters * 2 if bf16 and not lora else 0  # what autocast rounds
    a_layer = (14 * found.hidden + 5 * found.intermediate) * (2.5 if bf16 else 4)
    kept = found.hidden * 4 * found.layers + a_layer if settings.gradient_checkpointing else a_layer * found.layers
    logits = 2 * min(tokens * found.vocabulary, CHUNK) * 4
    return FRAMEWORK + weights + copies + trained * 12 + tokens * kept + logits


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


def gigabytes(size: float) -> str:
    return f"{size / 1e9:.1f} GB"


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
