"""What is trained, on what, and where the result goes."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from generation.engines.loading import check_model_directory, context_length
from generation.engines.values import weights_hash
from training.dpo.data import Dataset, Group, read_pairs
from training.dpo.distributed import Processes
from training.dpo.estimate import free_memory
from training.dpo.plan import Batch, group_tokens
from training.dpo.policy import precision_of
from training.dpo.settings import BadSettings, DPOSettings
from training.dpo.shapes import Shapes, memory, shapes

# tokens in the model at once, at most. A CPU gains nothing from more, and its caches and memory lose.
CPU_TOKENS, GPU_TOKENS = 1024, 16384
LEAST_TOKENS = 512
ROOM = 0.7  # share of the free memory that a run may plan with: estimates are rough


@dataclass(frozen=True)
class Run:
    """One stage: `model` (with `adapter`) is trained on `data`, into `out`.

    reference: the model that the policy is measured against, if not the policy as it begins.
    cache: a directory that keeps reference log-probabilities for other runs.
    """

    model: Path
    data: Path
    out: Path
    settings: DPOSettings
    adapter: Path | None = None
    reference: Path | None = None
    reference_adapter: Path | None = None
    cache: Path | None = None
    stage: str = ""
    processes: Processes = field(default_factory=Processes)

    def check(self) -> None:
        """Raise BadSettings for directories that cannot be meant, EngineError for one that holds no model."""
        if self.reference_adapter and not self.reference:
            raise BadSettings("A reference adapter needs --reference: the model that it is an adapter of.")
        made = [(self.out / name).resolve() for name in ("policy", "stages")]
        for place in (self.model, self.adapter, self.reference, self.reference_adapter):
            if place and any(place.resolve().is_relative_to(directory) for directory in made):
                raise BadSettings(
                    f"{place} lies where this run puts its result, and would be lost: name another --out."
                )
        check_model_directory(self.model)

    def read(self, tokenizer: Any) -> Dataset:
        """The pairs. Raises BadData."""
        criteria = self.settings.objective_weights().keys()
        return read_pairs(self.data, tokenizer, max_tokens=self.token_limit(), criteria=criteria)

    def token_limit(self) -> int:
        """The longest pair that is trained on, prompt included."""
        models = [self.model] + ([self.reference] if self.reference else [])
        return min(self.settings.max_tokens, *map(context_length, models), *map(_steady_length, models))

    def micro_batch_tokens(self) -> int:
        """Tokens in the model at once: as set, or as many as a GPU's free memory has room for."""
        device = self.processes.device()
        if self.settings.micro_batch_tokens or device.type == "cpu":
            return self.settings.micro_batch_tokens or CPU_TOKENS
        free = ROOM * free_memory(device)
        return tokens_that_fit(shapes(self.model), self.settings, free, bf16=self.precision() == "bf16")

    def precision(self) -> str:
        """fp32 or bf16, on this process's device."""
        return precision_of(self.settings, self.processes.device())

    def settled(self) -> "Run":
        """With micro_batch_tokens as a number, on which all processes agree."""
        tokens = self.processes.least(self.micro_batch_tokens())
        return replace(self, settings=replace(self.settings, micro_batch_tokens=tokens))

    def time_estimate(self, seconds_a_token: float, reference: Iterable[Group], plan: list[list[Batch]]) -> str:
        """From the time of a forward pass: one over what the reference scores, and as a backward pass costs
        two, three over all that is trained on."""
        trained = sum(group_tokens(work.group) for batches in plan for batch in batches for work in batch)
        tokens = (sum(map(group_tokens, reference)) + 3 * trained) / self.processes.count
        minutes, seconds = divmod(round(seconds_a_token * tokens), 60)
        return f"{sum(map(len, plan))} steps, about {f'{minutes} min ' if minutes else ''}{seconds} s"


def tokens_that_fit(found: Shapes, settings: DPOSettings, free: float, *, bf16: bool) -> int:
    """The largest halving of GPU_TOKENS whose estimate is within `free` bytes."""
    tokens = GPU_TOKENS
    while tokens > LEAST_TOKENS and memory(found, settings, tokens, bf16=bf16) > free:
        tokens //= 2
    return tokens


def _steady_length(model: Path) -> int:
    """Up to where positions mean the same whatever else is in the pass: models with dynamic or longrope
    scaling turn all of them once a pass is longer than what they were first trained on."""
    config = json.loads((model / "config.json").read_text())
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if rope.get("rope_type", rope.get("type")) not in ("dynamic", "longrope"):
        return 1 << 30
    return rope.get("original_max_position_embeddings") or config.get("original_max_position_embeddings") or 1 << 30


@dataclass(frozen=True)
class Keys:
    """run: what a checkpoint belongs to. reference: what reference log-probabilities belong to."""

    run: str
    reference: str

    def reference_file(self, run: Run) -> Path:
        """Named by what its numbers depend on, besides the stories: they are in it by their hash."""
        return (run.cache or run.out) / f"reference-{self.reference[:16]}.safetensors"


def keys(run: Run) -> Keys:
    """How a batch is cut, what is computed twice and when it is saved do not change the result, and are not in
    the key: after running out of memory the same run may go on with less."""
    policy = [d for d in (run.model, run.adapter) if d]
    measure = policy
    if run.reference:
        check_model_directory(run.reference)
        measure = [d for d in (run.reference, run.reference_adapter) if d]
    precision = run.precision()
    lora = run.settings.method == "lora" and precision == "bf16"  # its base is rounded
    reference = f"{_identity(measure, CONFIGS)}{precision}{lora}"
    fixed = replace(run.settings, micro_batch_tokens=0, checkpoint_steps=1, gradient_checkpointing=False)
    told = f"{_identity(policy, CONFIGS + TOKENIZERS)}{reference}{fixed.to_json()}".encode() + run.data.read_bytes()
    return Keys(hashlib.sha256(told).hexdigest(), hashlib.sha256(reference.encode()).hexdigest())


CONFIGS = ("config.json", "adapter_config.json")
TOKENIZERS = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json", "chat_template.jinja")


def _identity(directories: list[Path], names: tuple[str, ...]) -> str:
    """The weights of a model and its adapter, and what decides how they are used."""
    digest = hashlib.sha256(weights_hash(*directories).encode())
    for path in (directory / name for directory in directories for name in names):
        digest.update(f"{path.name} ".encode() + (path.read_bytes() if path.exists() else b""))
    return digest.hexdigest()
