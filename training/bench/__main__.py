"""python -m training.bench: the trainer's benchmark against TRL 1.16. `make bench-dpo` runs it."""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from dataclasses import asdict
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from generation.version import commit
from training.bench.case import SEED, Case, Measured

TOLERANCE = {"cpu": 1e-4, "cuda": 2e-2}  # of the loss, between ours and TRL's: fp32, bf16
PEAK_FLOPS = {"H200": 989e12, "H100": 989e12, "A100": 312e12}  # dense bf16
TOO_GOOD = 0.6  # a utilization above it is an error of the benchmark


class Wrong(RuntimeError):
    """The figures cannot be believed; the message says why."""


def main(argv: list[str] | None = None) -> int:
    found = argparse.ArgumentParser(prog="python -m training.bench", description=__doc__)
    add = found.add_argument
    add("--json", type=Path, help="write the figures to this file too")
    add("--device", choices=("cpu", "cuda"), default="cpu")
    add("--data", nargs="+", default=["pairs", "ranked4", "ranked5"], choices=("pairs", "ranked4", "ranked5"))
    add("--weights", nargs="+", default=["full", "lora"], choices=("full", "lora"))
    add(
        "--steps",
        type=int,
        default=4,
        help="optimizer steps, of 8 prompts each, of the one epoch; 64: all of the pairs",
    )
    add("--threads", type=int, default=1, help="with more, waiting threads count as CPU seconds too")
    add("--ours-only", action="store_true", help="without TRL, where it is not installed: rates and memory, no ratios")
    add("--lab", type=Path, default=Path("var/bench"), help="where the model and the data are made")
    arguments = found.parse_args(argv)
    from training.bench.lab import LARGE, SMALL, make_lab

    large = arguments.device == "cuda"
    lab = make_lab(arguments.lab / ("large" if large else "small"), LARGE if large else SMALL)
    cases = []
    try:
        for weights in arguments.weights:
            for data in arguments.data:
                case = Case(str(lab), data, weights, arguments.device, arguments.steps, arguments.threads)
                cases.append(alone(case) if arguments.ours_only else compare(case))
                print(line(cases[-1]), flush=True)
    except Wrong as error:
        print(f"training.bench: {error}", file=sys.stderr)
        return 1
    if arguments.json:
        arguments.json.write_text(json.dumps({**about(), "cases": cases}, indent=1))
    return 0


def alone(case: Case) -> dict[str, Any]:
    """Our side's figures. Raises Wrong."""
    ours = side("ours", case)
    return {**asdict(case), "pairs": ours.pairs, "ours": figures(ours, case)}


def compare(case: Case) -> dict[str, Any]:
    """Run both sides, one after the other, and hold their figures against each other. Raises Wrong."""
    ours, theirs = side("ours", case), side("peer", case)
    if len(ours.losses) != len(theirs.losses) or ours.pairs != theirs.pairs:
        raise Wrong(
            f"{case.data}, {case.weights}: {len(ours.losses)} steps on {ours.pairs} pairs here, "
            f"{len(theirs.losses)} steps on {theirs.pairs} pairs in TRL"
        )
    difference = max(abs(a - b) for a, b in zip(ours.losses, theirs.losses, strict=True))
    if not difference <= TOLERANCE[case.device]:
        raise Wrong(f"{case.data}, {case.weights}: the losses of a step differ by {difference:.2g}")
    return {
        **asdict(case),
        "cpu_ratio": theirs.cpu_seconds / ours.cpu_seconds,
        "wall_ratio": theirs.wall_seconds / ours.wall_seconds,
        "memory_ratio": ours.peak_bytes / theirs.peak_bytes,
        "max_loss_difference": difference,
        "pairs": ours.pairs,
        "ours": figures(ours, case),
        "trl": figures(theirs, case),
    }


def side(name: str, case: Case) -> Measured:
    """One side in a process of its own, so that its memory is its own. Raises Wrong."""
    with tempfile.TemporaryDirectory() as folder:
        given, found = Path(folder) / "case.json", Path(folder) / "found.json"
        given.write_text(json.dumps(asdict(case)))
        command = [sys.executable, "-m", f"training.bench.{name}", str(given), str(found)]
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": str(case.threads),
            "HF_HUB_OFFLINE": "1",
            "HF_DATASETS_CACHE": str(Path(folder) / "datasets"),
        }
        if case.device == "cpu":
            environment["CUDA_VISIBLE_DEVICES"] = ""
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Wrong(f"{name}, {case.data}, {case.weights}: {done.stderr.strip()[-2000:]}")
        return Measured.read(found)


def figures(measured: Measured, case: Case) -> dict[str, Any]:
    """Rates are of the optimizer steps. mfu: model-FLOP utilization with 6 FLOPs a parameter and token (4
    with LoRA: frozen weights have no gradient), recomputation not counted; None where the peak is unknown.
    Raises Wrong for one that cannot be."""
    rate = measured.tokens / measured.step_seconds
    mfu = utilization(rate, case)
    if mfu and mfu > TOO_GOOD:
        raise Wrong(f"{case.data}, {case.weights}: a utilization of {mfu:.0%} is an error to find")
    return {
        "cpu_seconds": measured.cpu_seconds,
        "wall_seconds": measured.wall_seconds,
        "peak_bytes": measured.peak_bytes,
        "tokens": measured.tokens,
        "tokens_per_second": rate,
        "pairs_per_second": measured.pairs / measured.step_seconds,
        "mfu": mfu,
    }


def utilization(tokens_per_second: float, case: Case) -> float | None:
    import torch

    from training.dpo.shapes import shapes

    name = torch.cuda.get_device_name() if case.device == "cuda" else ""
    peak = next((flops for chip, flops in PEAK_FLOPS.items() if chip in name), None)
    if peak is None:
        return None
    found = shapes(case.model)
    multiplied = found.parameters - found.vocabulary * found.hidden  # the input's embedding is looked up
    return tokens_per_second * multiplied * (6 if case.weights == "full" else 4) / peak


def line(case: dict[str, Any]) -> str:
    """One case for a person."""
    ours, trl = case["ours"], case.get("trl")
    said = [f"{case['data']:8}{case['weights']:5}{case['device']}"]
    if trl:
        said += [
            f"cpu {trl['cpu_seconds']:.1f} s / {ours['cpu_seconds']:.1f} s = {case['cpu_ratio']:.2f}x",
            f"wall {trl['wall_seconds']:.1f} / {ours['wall_seconds']:.1f} = {case['wall_ratio']:.2f}x",
            f"memory {ours['peak_bytes'] / 1e9:.2f} / {trl['peak_bytes'] / 1e9:.2f} GB = {case['memory_ratio']:.2f}",
            f"loss differs by {case['max_loss_difference']:.1e}",
        ]
    else:
        said.append(f"wall {ours['wall_seconds']:.1f} s  memory {ours['peak_bytes'] / 1e9:.2f} GB")
    said.append(f"{ours['pairs_per_second']:.1f} pairs/s  {ours['tokens_per_second']:.0f} tokens/s")
    said += [f"mfu {ours['mfu']:.0%}"] if ours["mfu"] else []
    return "  ".join(said)


def about() -> dict[str, Any]:
    """What the figures belong to."""
    versions = {d.name: d.version for d in distributions() if d.name in ("torch", "transformers", "peft", "trl")}
    return {
        "command": sys.argv,
        "commit": commit(),
        "seed": SEED,
        "python": platform.python_version(),
        "versions": versions,
        "machine": platform.processor() or platform.machine(),
    }


if __name__ == "__main__":
    sys.exit(main())
