"""One side of one case: what it is given, and what it measured."""

import json
import resource
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

BETA, SEED, PROMPTS = 0.1, 42, 8  # prompts an optimizer step
RATES = {"full": 1e-4, "lora": 1e-3}
LORA_RANK, LORA_ALPHA = 16, 32


@dataclass(frozen=True)
class Case:
    """data: pairs, ranked4 or ranked5. steps: optimizer steps of one epoch; the data are cut to them."""

    lab: str
    data: str
    weights: str
    device: str
    steps: int
    threads: int

    @property
    def pairs_a_prompt(self) -> int:
        return {"pairs": 1, "ranked4": 6, "ranked5": 10}[self.data]

    @property
    def model(self) -> Path:
        return Path(self.lab) / "model"

    @property
    def adapter(self) -> Path:
        """Where both sides begin with LoRA."""
        return Path(self.lab) / "adapter"

    def lines(self, *, loose: bool) -> list[str]:
        """The data: comparisons, or the same as loose pairs in the same order."""
        name = self.data if self.data == "pairs" or not loose else f"{self.data}_pairs"
        each = PROMPTS * (self.pairs_a_prompt if loose else 1)
        return (Path(self.lab) / f"{name}.jsonl").read_text().splitlines()[: self.steps * each]


@dataclass
class Measured:
    """cpu_seconds and wall_seconds from the data to the trained weights, the reference's pass counted;
    step_seconds is the wall clock of the optimizer steps alone. tokens: those of the data as trained."""

    losses: list[float] = field(default_factory=list)
    cpu_seconds: float = 0.0
    wall_seconds: float = 0.0
    step_seconds: float = 0.0
    peak_bytes: int = 0
    tokens: int = 0
    pairs: int = 0

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, path: Path) -> "Measured":
        return cls(**json.loads(path.read_text()))


def measure(work: Callable[[], None], found: Measured, device: str) -> None:
    """Run `work` and note its time, and the peak of the process's memory (of the GPU's, on one)."""
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
        found.peak_bytes = torch.cuda.max_memory_allocated()
    else:
        found.peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    found.cpu_seconds, found.wall_seconds = time.process_time() - cpu, time.perf_counter() - wall
