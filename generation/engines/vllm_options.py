"""What vLLM is started with, in process and as a server: the same engine, so the same stories.

Figures and faults that this works around were measured with vLLM 0.32.0 (docs/generation.md).
Imports nothing heavy: it runs in the web application's environment and in vLLM's.
"""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from generation.engines.loading import check_model_directory, context_length
from generation.engines.values import SamplingParams

LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # what vLLM makes room for
LORA_SLOTS = 4  # adapters of one batch
KEPT_ADAPTERS = 8  # adapters in the server's memory
ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # in one process: nothing is orphaned, and it starts in a tenth of the time
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


SMALL_BYTES = 256 * 2**20


def environment(directory: Path) -> dict[str, str]:
    """The variables that vLLM's process is started with for the model in `directory`."""
    size = sum(path.stat().st_size for path in directory.glob("*.safetensors"))
    # threads of a small model wait for each other most of the time, and burn the processor while they do
    threads = {"OMP_NUM_THREADS": "1"} if size < SMALL_BYTES and "OMP_NUM_THREADS" not in os.environ else {}
    return {**ENVIRONMENT, **threads}


@dataclass(frozen=True)
class VllmOptions:
    """python: of the environment that vLLM is installed in. The rest sizes the engine; 0 leaves it to vLLM."""

    python: Path
    cpu_cache_mb: int = 256  # the KV cache on a CPU: vLLM's own guess asks for more than a small machine has
    gpu_memory: float = 0.9  # the share of the GPU's memory that vLLM takes
    max_model_len: int = 0  # tokens of prompt and story together
    max_num_seqs: int = 256  # stories written at once

    def to_json(self) -> str:
        return json.dumps({**asdict(self), "python": str(self.python)})

    @classmethod
    def from_json(cls, text: str) -> "VllmOptions":
        found = json.loads(text)
        return cls(**{**found, "python": Path(found["python"])})


def engine_arguments(directory: Path, options: VllmOptions, *, cpu: bool, lora_rank: int = 0) -> dict[str, Any]:
    """Keyword arguments of vllm.LLM for the model in `directory`; 0 as lora_rank: no adapters."""
    length = options.max_model_len or context_length(directory)
    found: dict[str, Any] = {
        # as the files hold it: "auto" writes float32 weights as bfloat16, and other stories
        "dtype": _dtype(directory),
        "max_num_seqs": options.max_num_seqs,
        "enable_prefix_caching": True,  # a prompt's stories share it
        "trust_remote_code": False,
        "load_format": "safetensors",
    }
    if options.max_model_len:
        found["max_model_len"] = options.max_model_len
    if lora_rank:
        rank = next((rank for rank in LORA_RANKS if rank >= lora_rank), lora_rank)
        found |= {"enable_lora": True, "max_lora_rank": rank, "max_loras": LORA_SLOTS, "max_cpu_loras": KEPT_ADAPTERS}
    if not cpu:
        return {**found, "gpu_memory_utilization": options.gpu_memory}
    return {
        **found,
        "enforce_eager": True,
        "kv_cache_memory_bytes": options.cpu_cache_mb * 2**20,
        # a prompt cut in two whose story has a seed of its own kills the engine on a CPU
        "enable_chunked_prefill": False,
        "max_num_batched_tokens": max(8192, length),
    }


def vllm_sampling(sampling: SamplingParams) -> dict[str, Any]:
    """Our sampling in vLLM's words, in process and over HTTP."""
    return {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "min_p": sampling.min_p,
        "repetition_penalty": sampling.repetition_penalty,
        "seed": sampling.seed,
        "max_tokens": sampling.max_tokens,
    }


def command_line(arguments: dict[str, Any]) -> list[str]:
    """engine_arguments as flags of vLLM's server."""
    found = []
    for name, value in arguments.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            found.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            found += [f"--{flag}", str(value)]
    return [flag for flag in found if flag != "--no-trust-remote-code"]  # has no such form; off is the default


def _dtype(directory: Path) -> str:
    check_model_directory(directory)
    settings = json.loads((directory / "config.json").read_text())
    return str(settings.get("dtype") or settings.get("torch_dtype") or "auto")
