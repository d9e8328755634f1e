"""How much memory a run will want, from the shapes of its weights alone.

Nothing here imports torch: the web process asks, too.
"""

import json
import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path

from generation.engines.values import EngineError
from training.dpo.settings import DPOSettings

CHUNK = 1 << 25  # logits at once: 128 MiB in fp32
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


def gigabytes(size: float) -> str:
    return f"{size / 1e9:.1f} GB"
