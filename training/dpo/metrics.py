"""The figures of a run, under TRL's names, as JSONL and for TensorBoard."""

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch


@dataclass(frozen=True)
class PairMetrics:
    """Means over pairs, by weight. As in TRL: rewards are beta * log(pi/ref), logps are sums over a
    story, in nats.

    loss is what is minimized, with every term. lengths in tokens. kl: mean over stories of log ref -
    log pi, nats a story: an estimate of KL(ref || pi) where the reference wrote them. logps_change:
    of chosen stories against the reference, nats a token (falling: likelihood displacement).
    """

    loss: float
    rewards_chosen: float
    rewards_rejected: float
    rewards_margins: float
    rewards_accuracies: float
    logps_chosen: float
    logps_rejected: float
    logps_change: float
    lengths_chosen: float
    lengths_rejected: float
    kl: float


@dataclass(frozen=True)
class StepMetrics(PairMetrics):
    """One optimizer step. num_tokens: those that went through the model so far, each prompt of a
    comparison once. The rates are per second of wall clock. memory: the first process's peak so far, bytes:
    resident, and what torch has allocated on its GPU; None where it is not known, or there is none."""

    step: int
    total_steps: int
    epoch: float
    learning_rate: float
    grad_norm: float
    num_tokens: int
    pairs_per_second: float
    tokens_per_second: float
    memory_resident: int | None = None
    memory_cuda: int | None = None
    stage: str = ""


@dataclass(frozen=True)
class EvalMetrics(PairMetrics):
    """The held-out pairs after `step`. stories, tokens: how many kl is of: kl * stories / tokens is nats a token."""

    step: int
    epoch: float
    stories: int
    tokens: int
    stage: str = ""


def row(metrics: PairMetrics) -> dict[str, Any]:
    """The figures as TRL names them: rewards/chosen; eval_ before those of an evaluation."""
    place = ("step", "total_steps", "epoch", "stage")
    prefix = "eval_" if isinstance(metrics, EvalMetrics) else ""
    found = {}
    for name, value in dataclasses.asdict(metrics).items():
        for family in ("rewards", "logps", "lengths"):
            name = name.replace(f"{family}_", f"{family}/", 1)  # noqa: PLW2901
        found[name if name in place else prefix + name] = value
    return found


@dataclass
class Sums:
    """Sums over pairs (times their weight) and stories, to be added up over micro-batches and processes."""

    names = (
        "loss", "rewards_chosen", "rewards_rejected", "rewards_accuracies", "logps_chosen", "logps_rejected",
        "logps_change", "lengths_chosen", "lengths_rejected", "kl", "drift", "stories", "tokens", "completion_tokens",
    )  # fmt: skip
    values: torch.Tensor = field(default_factory=lambda: torch.zeros(len(Sums.names), dtype=torch.float64))

    def add(self, **found: float) -> None:
        for name, value in found.items():
            self.values[self.names.index(name)] += value

    def __getitem__(self, name: str) -> float:
        return self.values[self.names.index(name)].item()

    def means(self) -> dict[str, float]:
        """As PairMetrics wants them."""
        found = {name: self[name] for name in self.names[:9]}
        found["rewards_margins"] = found["rewards_chosen"] - found["rewards_rejected"]
        found["kl"] = self["kl"] / max(self["stories"], 1)
        return found


class Log:
    """OUT/metrics.jsonl, and OUT/tensorboard if it is asked for. Nothing is made before the first figures.

    done: the steps that an earlier run has done, to be set before the first write.
    """

    def __init__(self, out: Path, *, tensorboard: bool) -> None:
        self.path = out / "metrics.jsonl"
        self._tensorboard = tensorboard
        self._writer: Any = None
        self._started = False
        self.done = 0

    def _start(self) -> None:
        """Keep the lines of the steps that are done: the others are trained again."""
        kept = self.path.read_text().splitlines() if self.path.exists() and self.done else []
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_suffix(".new")
        temporary.write_text("".join(line + "\n" for line in kept if _step(line) <= self.done))
        temporary.replace(self.path)
        if self._tensorboard:
            from tensorboardX import SummaryWriter

            self._writer = SummaryWriter(str(self.path.parent / "tensorboard"), purge_step=self.done + 1)
        self._started = True

    def write(self, metrics: StepMetrics | EvalMetrics) -> dict[str, Any]:
        """Append one line; return what stands in it."""
        if not self._started:
            self._start()
        found = row(metrics)
        with self.path.open("a") as file:
            file.write(json.dumps(found) + "\n")
        if self._writer:
            for name, value in found.items():
                if isinstance(value, int | float) and name not in ("step", "total_steps"):
                    self._writer.add_scalar(_tag(name), value, metrics.step)
            self._writer.flush()
        return found

    def close(self) -> None:
        if self._writer:
            self._writer.close()


def _step(line: str) -> float:
    """Of a line of the log; infinite for one that was cut off."""
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
        return float("inf")


def _tag(name: str) -> str:
    """TRL's tags: train/ and eval/."""
    return f"eval/{name.removeprefix('eval_')}" if name.startswith("eval_") else f"train/{name}"
