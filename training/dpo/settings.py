"""The settings of one run."""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Self

LOSSES = ("sigmoid", "sigmoid_norm")
METHODS = ("full", "lora")
OUT_OF_MEMORY = 86  # exit status


class BadSettings(ValueError):
    """A setting is outside its range; the message names it and the range."""


@dataclass(frozen=True)
class DPOSettings:
    """All that decides the result, besides model and data. Ranges: see check()."""

    beta: float = 0.2
    learning_rate: float = 5e-5
    epochs: int = 3
    batch_pairs: int = 16
    loss: str = "sigmoid"
    sft_weight: float = 0.0
    method: str = "full"
    lora_rank: int = 16
    warmup: float = 0.1
    max_grad_norm: float = 1.0
    seed: int = 42
    checkpoint_steps: int = 25
    micro_batch_stories: int = 32
    max_tokens: int = 2048

    def check(self) -> Self:
        """Raise BadSettings for the first value out of its range; return self."""
        ranges = {
            "beta": (0.01, 10.0),
            "learning_rate": (1e-7, 1e-1),
            "epochs": (1, 20),
            "batch_pairs": (1, 4096),
            "sft_weight": (0.0, 10.0),
            "lora_rank": (1, 512),
            "warmup": (0.0, 0.9),
            "max_grad_norm": (0.0, 1000.0),
            "checkpoint_steps": (1, 100_000),
            "micro_batch_stories": (2, 4096),
            "max_tokens": (8, 1 << 20),
        }
        for name, (low, high) in ranges.items():
            kinds = int if isinstance(low, int) else int | float
            if isinstance(getattr(self, name), bool) or not isinstance(getattr(self, name), kinds):
                raise BadSettings(f"{name} is {getattr(self, name)!r}: give a number")
            if not low <= getattr(self, name) <= high:
                raise BadSettings(f"{name} is {getattr(self, name)}: give {low} to {high}")
        for name, known in (("loss", LOSSES), ("method", METHODS)):
            if getattr(self, name) not in known:
                raise BadSettings(f"{name} is {getattr(self, name)!r}: give one of {', '.join(known)}")
        return self

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def read(cls, path: Path) -> Self:
        """The settings in a JSON file; BadSettings for an unknown name or a value that cannot be meant."""
        try:
            values = json.loads(path.read_text())
        except ValueError as error:
            raise BadSettings(f"{path} is not valid JSON ({error})") from error
        if not isinstance(values, dict):
            raise BadSettings(f"{path} holds no settings: give a JSON object")
        unknown = set(values) - {f.name for f in fields(cls)}
        if unknown:
            raise BadSettings(f"{path}: unknown settings {', '.join(sorted(unknown))}")
        return cls(**values).check()
