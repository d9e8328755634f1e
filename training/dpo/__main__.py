"""python -m training.dpo: one run of DPO from the command line."""

import argparse
import dataclasses
import json
import os
import sys
from pathlib import Path

from training.dpo.settings import OUT_OF_MEMORY

os.environ.setdefault("HF_HUB_OFFLINE", "1")

BAD_INPUT, FAILED = 2, 3

EPILOG = """\
DATA is JSONL: one {"prompt", "chosen", "rejected"} a line, as TRL's DPOTrainer takes it. With
"chosen_ids" and "rejected_ids" the sampler's own tokens are trained on; with "weight" a pair
counts as much as its experts agree. Pairs of one prompt are trained together.

OUT/policy is the result, OUT/metrics.jsonl its figures step by step. A run that was interrupted
goes on from OUT/checkpoint when the same command is given again.

Exit status: 0 done, 2 bad input, 3 training failed, 86 out of memory.
"""


def parser() -> argparse.ArgumentParser:
    from training.dpo.settings import LOSSES, METHODS, DPOSettings

    found = argparse.ArgumentParser(
        prog="python -m training.dpo",
        description="Train a policy on preference pairs by DPO.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    found.add_argument("--model", type=Path, required=True, help="directory of the policy: safetensors and tokenizer")
    found.add_argument("--adapter", type=Path, help="directory of a PEFT adapter to merge into the policy first")
    found.add_argument("--data", type=Path, required=True, help="JSONL file of pairs")
    found.add_argument("--out", type=Path, required=True, help="directory for the result")
    found.add_argument("--json", action="store_true", help="print each step's figures as a line of JSON")
    choices = {"loss": LOSSES, "method": METHODS}
    for option in dataclasses.fields(DPOSettings):
        found.add_argument(
            f"--{option.name.replace('_', '-')}",
            type=type(option.default),
            default=option.default,
            choices=choices.get(option.name),
            help=f"default {option.default}",
        )
    return found


def main(argv: list[str] | None = None) -> int:
    """Run; return the exit status."""
    arguments = parser().parse_args(argv)

    import torch
    from safetensors import SafetensorError
    from transformers.utils import logging

    from generation.engines.values import EngineError
    from training.dpo.checkpoint import BadCheckpoint
    from training.dpo.data import BadData
    from training.dpo.settings import BadSettings
    from training.dpo.trainer import TrainingFailed

    logging.disable_progress_bar()
    try:
        run(arguments)
    except (BadData, BadSettings, BadCheckpoint, EngineError, SafetensorError) as error:
        return _end(BAD_INPUT, str(error))
    except OSError as error:
        return _end(BAD_INPUT, f"{error}. Free the disk, or name another folder.")
    except TrainingFailed as error:
        return _end(FAILED, str(error))
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        # on the CPU torch has no exception of its own for it
        if type(error) is RuntimeError and "allocate memory" not in str(error):
            raise
        return _end(OUT_OF_MEMORY, f"Out of memory ({error}). Try --micro-batch-stories 2, or --method lora.")
    return 0


def run(arguments: argparse.Namespace) -> None:
    """Train with the parsed arguments; progress goes to standard output and OUT/metrics.jsonl."""
    from training.dpo.data import Dataset
    from training.dpo.settings import DPOSettings
    from training.dpo.trainer import StepMetrics, train

    names = [option.name for option in dataclasses.fields(DPOSettings)]
    settings = DPOSettings(**{name: getattr(arguments, name) for name in names}).check()
    metrics_path = arguments.out / "metrics.jsonl"

    def on_start(dataset: Dataset, done: int) -> None:
        kept = metrics_path.read_text().splitlines()[:done] if metrics_path.exists() else []
        metrics_path.write_text("".join(line + "\n" for line in kept))
        note = f", {dataset.too_long} too long and left out" if dataset.too_long else ""
        going_on = f"; going on after step {done}" if done else ""
        print(f"{dataset.pairs} pairs of {len(dataset.groups)} prompts{note}{going_on}", file=sys.stderr, flush=True)

    def on_step(metrics: StepMetrics) -> None:
        line = json.dumps(dataclasses.asdict(metrics))
        with metrics_path.open("a") as file:
            file.write(line + "\n")
        if arguments.json:
            print(line, flush=True)
        else:
            print(
                f"step {metrics.step}/{metrics.total_steps}  loss {metrics.loss:.4f}  "
                f"rewards/accuracies {metrics.rewards_accuracies:.2f}  "
                f"rewards/margins {metrics.rewards_margins:.2f}  kl {metrics.kl:.2f}",
                flush=True,
            )

    result = train(
        model_directory=arguments.model,
        adapter=arguments.adapter,
        data=arguments.data,
        out=arguments.out,
        settings=settings,
        on_start=on_start,
        on_step=on_step,
    )
    print(f"{result.steps} steps on {result.pairs} pairs: {result.directory}", file=sys.stderr)


def _end(status: int, message: str) -> int:
    print(f"training.dpo: {message}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
