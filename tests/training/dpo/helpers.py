"""Pairs, small runs and a naive log-probability, for the trainer's tests."""

import json
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from training.dpo.distributed import Processes
from training.dpo.metrics import EvalMetrics, StepMetrics
from training.dpo.run import Run as TrainerRun
from training.dpo.settings import DPOSettings
from training.dpo.trainer import Callbacks, Result, train

WORDS = [
    "once",
    "upon",
    "a",
    "time",
    "there",
    "was",
    "little",
    "fox",
    "one",
    "day",
    "lost",
    "in",
    "the",
    "end",
    "came",
    "home",
    "brave",
    "story",
]


def pair(number: int = 0, **changes: Any) -> dict[str, Any]:
    """A line of a data file: its chosen story tells, its rejected story stutters. Lengths differ by `number`."""
    told = " ".join(WORDS[(number + i) % len(WORDS)] for i in range(4 + number % 5))
    return {
        "prompt": f"Write story {number}.\n",
        "chosen": f"Story {number}: {told}.",
        "rejected": f"the {number}" + " the" * (2 + number % 7),
        **changes,
    }


def write_pairs(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


@dataclass(frozen=True)
class Run:
    result: Result
    metrics: list[StepMetrics]
    evaluations: list[EvalMetrics]
    notes: list[str]


def run(
    model: Path,
    out: Path,
    rows: Iterable[dict[str, Any]],
    *,
    adapter: Path | None = None,
    reference: Path | None = None,
    cache: Path | None = None,
    processes: Processes | None = None,
    on_step: Callable[[StepMetrics], None] = lambda metrics: None,
    **settings: Any,
) -> Run:
    """Train on `rows` into `out`; the data file lies beside it."""
    metrics: list[StepMetrics] = []
    evaluations: list[EvalMetrics] = []
    notes: list[str] = []

    def keep(step: StepMetrics) -> None:
        of_the_machine = {"pairs_per_second": 0, "tokens_per_second": 0, "memory_resident": 0, "memory_cuda": 0}
        metrics.append(replace(step, **of_the_machine))
        on_step(step)

    wanted = TrainerRun(
        model=model,
        data=write_pairs(out.with_name(out.name + ".jsonl"), rows),
        out=out,
        settings=DPOSettings(**settings).check(),
        adapter=adapter,
        reference=reference,
        cache=cache,
        processes=processes or Processes(),
    )
    result = train(wanted, Callbacks(on_step=keep, on_eval=evaluations.append, on_note=notes.append))
    return Run(result, metrics, evaluations, notes)


class Killed(Exception):
    """Stands for the death of the process."""


def killed_after(step: int) -> Callable[[StepMetrics], None]:
    def on_step(metrics: StepMetrics) -> None:
        if metrics.step == step:
            raise Killed

    return on_step


def weights(directory: Path) -> dict[str, torch.Tensor]:
    (file,) = directory.glob("*.safetensors")
    return load_file(file)


def largest_difference(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    assert one.keys() == other.keys()
    return max((one[name] - other[name]).abs().max().item() for name in one)


def naive_logp(model: Any, prompt: list[int], completion: list[int]) -> float:
    """log pi(completion | prompt): one sequence, one token after the other, in double precision."""
    with torch.no_grad():
        logps = model(torch.tensor([prompt + completion])).logits[0].double().log_softmax(-1)
    return sum(logps[len(prompt) + i - 1, token].item() for i, token in enumerate(completion))


def changed_model(source: Path, directory: Path, **config: Any) -> Path:
    """A copy of the model in `source` with other values in its config.json."""
    shutil.copytree(source, directory)
    path = directory / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **config}))
    return directory
