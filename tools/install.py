"""Install what pyproject.toml asks for, at the pinned versions, with a line that moves while pip works.

Usage: .venv/bin/python tools/install.py [EXTRA]

With HASHES=1 in the environment each file must have a SHA-256 that locks/ names, and nothing else is installed. torch
is apart: PyPI's build is for NVIDIA GPUs and in locks/cuda.txt; it is taken from there where there is such a GPU, or
with TORCH=pypi. A build for the CPU comes from wherever pip is told to look: no list of ours can vouch for its files.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BAR = 30
SHOWN_OF_AN_ERROR = 15


def wanted(extra: str | None) -> list[str]:
    """The project's requirements, or those of one extra."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found: list[str] = project["optional-dependencies"][extra] if extra else project["dependencies"]
    return found


def main() -> int:
    extra = sys.argv[1] if sys.argv[1:] else None
    if os.environ.get("HASHES", "") not in ("", "0"):
        return from_locks(extra or "base")
    constraints = ROOT / "constraints.txt"
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as requirements:
        requirements.write("\n".join(wanted(extra)))
        requirements.flush()
        options = ["--constraint", str(constraints), "--requirement", requirements.name]
        return pip_install(sys.executable, *options, packages=pins(constraints))


def from_locks(name: str) -> int:
    """What locks/NAME.txt holds besides what is there, and for the base torch, too."""
    hashed = ["--require-hashes", "--no-deps", "--requirement"]
    lock, cuda = ROOT / "locks" / f"{name}.txt", ROOT / "locks" / "cuda.txt"
    status = pip_install(sys.executable, *hashed, str(lock), packages=pins(lock))
    if status or name != "base":
        return status
    if os.environ.get("TORCH") == "pypi" or shutil.which("nvidia-smi"):
        return pip_install(sys.executable, *hashed, str(cuda), packages=pins(cuda))
    torch = [line for line in wanted(None) if line.startswith("torch==")]
    print("torch is compared with no hash: a build for the CPU is on no list (TORCH=pypi takes PyPI's, for GPUs).")
    return pip_install(sys.executable, "--constraint", str(ROOT / "constraints.txt"), *torch, packages=1)


def pins(path: Path) -> int:
    return sum("==" in line for line in path.read_text().splitlines())


def pip_install(python: str | Path, *options: str, packages: int, pass_fds: Sequence[int] = ()) -> int:
    """pip's status; what it said last goes to standard error if it failed. `packages`: about how many there are."""
    command = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "--progress-bar", "off", *options]
    pip = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, pass_fds=pass_fds)
    lines = show(pip.stdout or (), packages)
    if pip.wait() != 0:
        print(
            "\nThe packages could not be installed. pip says:", *lines[-SHOWN_OF_AN_ERROR:], sep="\n", file=sys.stderr
        )
    return pip.returncode


def show(output: Iterable[str], packages: int) -> list[str]:
    """Turn pip's lines into one that moves; return them."""
    begin, lines, done = time.monotonic(), [], 0
    for line in output:
        lines.append(line.rstrip())
        words = line.split()
        if words[:1] in (["Collecting"], ["Requirement"]):
            done += 1
        if words[:1] == ["Installing"]:
            done = packages
        if sys.stderr.isatty() and words:
            full = min(BAR * done // packages, BAR)
            name = words[1].split("=")[0].split(">")[0][:24] if words[0] == "Collecting" else ""
            bar = "█" * full + "·" * (BAR - full)
            print(f"\rpackages {bar} {time.monotonic() - begin:4.0f} s {name:24}", end="", file=sys.stderr)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    return lines


if __name__ == "__main__":
    sys.exit(main())
