"""Our side of a case: python -m training.bench.ours CASE.json OUT.json"""

import json
import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "128")

import torch

from training.bench.case import BETA, LORA_ALPHA, LORA_RANK, PROMPTS, RATES, SEED, Case, Measured, measure
from training.dpo.estimate import keep_freed_memory
from training.dpo.metrics import StepMetrics
from training.dpo.policy import load_policy
from training.dpo.run import Run
from training.dpo.settings import DPOSettings
from training.dpo.trainer import Callbacks, train


def settings(case: Case) -> DPOSettings:
    """TRL's defaults where they matter, and the recipe of the benchmark."""
    return DPOSettings(
        beta=BETA,
        learning_rate=RATES[case.weights],
        epochs=1,
        batch_pairs=PROMPTS * case.pairs_a_prompt,
        shuffle=False,
        schedule="constant",
        warmup=0.0,
        method=case.weights,
        lora_rank=LORA_RANK,
        lora_alpha=LORA_ALPHA,
        seed=SEED,
        checkpoint_steps=100_000,
        precision="bf16" if case.device == "cuda" else "fp32",
    ).check()


def begin(case: Case) -> None:
    """Save the adapter that this side makes, for the other to start from."""
    if case.weights == "lora" and not case.adapter.exists():
        torch.manual_seed(SEED)
        load_policy(case.model, None, settings(case), torch.device("cpu")).save_pretrained(case.adapter)


def run(case: Case, folder: Path) -> Measured:
    data = folder / "data.jsonl"
    data.write_text("\n".join(case.lines(loose=False)))
    found = Measured()

    def on_step(metrics: StepMetrics) -> None:
        found.losses.append(metrics.loss)
        found.step_seconds += (metrics.num_tokens - found.tokens) / metrics.tokens_per_second
        found.tokens = metrics.num_tokens

    one = Run(case.model, data, folder / "out", settings(case))

    def work() -> None:
        found.pairs = train(one, Callbacks(on_step=on_step)).pairs

    measure(work, found, case.device)
    return found


def main() -> None:
    keep_freed_memory()
    case = Case(**json.loads(Path(sys.argv[1]).read_text()))
    torch.set_num_threads(case.threads)
    begin(case)
    with tempfile.TemporaryDirectory() as folder:
        run(case, Path(folder)).write(Path(sys.argv[2]))


if __name__ == "__main__":
    main()
