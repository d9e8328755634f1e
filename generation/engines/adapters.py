"""PEFT LoRA adapters as files: several that follow each other as one, and one that changes nothing.

A round trains its adapter on the weights of the round before, and a server that runs holds the
base's. Low-rank updates add up: with B = [s1 B1, s2 B2, ...] and A = [A1; A2; ...] the product
B A is the sum of the rounds' s_i B_i A_i (Hu et al., 2021, equation 3), so one adapter of the ranks'
sum on the base is the last round's policy.
"""

import json
import math
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, deserialize, safe_open
from safetensors.numpy import save_file

from generation.engines.values import EngineError

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
A, B = ".lora_A.weight", ".lora_B.weight"
USUAL = ("q_proj", "o_proj", "qkv_proj", "query_key_value", "gate_up_proj", "down_proj")
KINDS = {"F32": np.float32, "F16": np.float16, "F64": np.float64}
# what makes an adapter more than a sum of low-rank updates
UNSTACKABLE = ("use_dora", "rank_pattern", "alpha_pattern", "modules_to_save", "layer_replication", "lora_bias")

Arrays = dict[str, np.ndarray]


def stack_adapters(adapters: Sequence[Path], into: Path) -> Path:
    """One adapter in `into` that does what `adapters`, one after the other, do; `into` appears whole.

    One adapter alone is used as it is. EngineError if one cannot be added to others.
    """
    if len(adapters) == 1:
        return adapters[0]
    if (into / WEIGHTS).exists():
        return into
    configs = [read_config(directory) for directory in adapters]
    parts = [_scaled(directory, config) for directory, config in zip(adapters, configs, strict=True)]
    ranks = [config["r"] for config in configs]
    modules = sorted({name[: -len(A)] for part in parts for name in part if name.endswith(A)})
    arrays: Arrays = {}
    for module in modules:
        rows = [_pair(part, module, rank, parts) for part, rank in zip(parts, ranks, strict=True)]
        arrays[module + A] = np.concatenate([a for a, _ in rows], 0)
        arrays[module + B] = np.concatenate([b for _, b in rows], 1)
    # from the names, whatever way the adapters chose their modules
    targets = sorted({module.rsplit(".", 1)[-1] for module in modules})
    base = configs[0].get("base_model_name_or_path")
    one = {"r": sum(ranks), "lora_alpha": sum(ranks), "target_modules": targets, "base_model_name_or_path": base}
    return _save(into, arrays, one)


def zero_adapter(base: Path, into: Path, *, rank: int = 8) -> Path:
    """An adapter in `into` that leaves the model in `base` as it is: one module, all of its B zero.

    EngineError if the model has no module that adapters usually change.
    """
    if (into / WEIGHTS).exists():
        return into
    for path in sorted(base.glob("*.safetensors")):
        with safe_open(path, "numpy") as held:
            for name in sorted(held.keys()):
                module = name.removesuffix(".weight")
                if module.rsplit(".", 1)[-1] in USUAL:
                    out, width = held.get_slice(name).get_shape()
                    arrays = {
                        f"base_model.model.{module}{A}": np.ones((rank, width), np.float32),
                        f"base_model.model.{module}{B}": np.zeros((out, rank), np.float32),
                    }
                    targets = [module.rsplit(".", 1)[-1]]
                    return _save(into, arrays, {"r": rank, "lora_alpha": rank, "target_modules": targets})
    raise EngineError(f"The model in {base} has none of {', '.join(USUAL)}: no adapter can be made for it.")


def read_config(directory: Path) -> dict[str, Any]:
    """The settings of the adapter in `directory`; EngineError if there are none."""
    try:
        found = json.loads((directory / CONFIG).read_text())
    except (OSError, ValueError) as error:
        raise EngineError(f"{directory} holds no PEFT adapter ({CONFIG}: {error}). Copy it again.") from error
    if found.get("peft_type") != "LORA":
        raise EngineError(f"The adapter in {directory} is no LoRA adapter, but {found.get('peft_type')}.")
    return dict(found)


def _scaled(directory: Path, config: dict[str, Any]) -> Arrays:
    """Its arrays in float32, B times the adapter's scale. EngineError if it is more than low-rank updates."""
    scale = config["lora_alpha"] / (math.sqrt(config["r"]) if config.get("use_rslora") else config["r"])
    found = _read(directory / WEIGHTS)
    odd = [name for name in UNSTACKABLE if config.get(name)]
    odd += ["bias"] if config.get("bias", "none") != "none" else []
    odd += [name for name in found if not name.endswith((A, B))]
    if odd:
        raise EngineError(f"The adapter in {directory} cannot be added to others ({odd[0]}): merge it instead.")
    return {name: array * (np.float32(scale) if name.endswith(B) else np.float32(1)) for name, array in found.items()}


def _read(path: Path) -> Arrays:
    """The arrays of a safetensors file in float32. By hand for bfloat16, which numpy does not know."""
    try:
        found = deserialize(path.read_bytes())
    except (OSError, SafetensorError) as error:
        raise EngineError(f"The adapter in {path.parent} cannot be read: {error}") from error
    arrays: Arrays = {}
    for name, held in found:
        if held["dtype"] == "BF16":
            bits = np.frombuffer(held["data"], np.uint16).astype(np.uint32) << 16
            array = bits.view(np.float32)
        elif held["dtype"] in KINDS:
            array = np.frombuffer(held["data"], KINDS[held["dtype"]]).astype(np.float32)
        else:
            raise EngineError(f"The adapter in {path.parent} holds {held['dtype']}: it cannot be added to others.")
        arrays[name] = array.reshape(held["shape"])
    return arrays


def _pair(part: Arrays, module: str, rank: int, parts: Sequence[Arrays]) -> tuple[np.ndarray, np.ndarray]:
    """A [rank, in] and B [out, rank] of the module; zeros if this adapter leaves it alone."""
    if module + A in part:
        return part[module + A], part[module + B]
    like = next(other for other in parts if module + A in other)
    return (
        np.zeros((rank, like[module + A].shape[1]), np.float32),
        np.zeros((like[module + B].shape[0], rank), np.float32),
    )


def _save(into: Path, arrays: Arrays, config: dict[str, Any]) -> Path:
    into.parent.mkdir(parents=True, exist_ok=True)
    # a name of its own: workers on other machines share this folder
    temporary = Path(tempfile.mkdtemp(prefix=f".{into.name}.", dir=into.parent))
    temporary.chmod(0o755)  # a server under another name must read it
    save_file(arrays, temporary / WEIGHTS)
    known = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "bias": "none", "inference_mode": True}
    (temporary / CONFIG).write_text(json.dumps({**known, **config}, indent=1) + "\n")
    try:
        temporary.rename(into)
    except OSError:
        shutil.rmtree(temporary)
        if not (into / WEIGHTS).exists():  # otherwise somebody else was quicker
            raise
    return into
