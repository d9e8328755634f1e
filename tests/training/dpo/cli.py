"""The command line in a process of its own, for the tests of several files."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]


def command(model: Path, data: Path, out: Path, *options: str) -> list[str]:
    return ["--model", str(model), "--data", str(data), "--out", str(out), *options]


def start(*arguments: str, **more: Any) -> subprocess.Popen[str]:
    """`python ARGUMENTS`, with one thread and both outputs caught."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **more.pop("environment", {})}
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=environment,
        text=True,
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more},
    )


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]
