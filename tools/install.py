"""Install what pyproject.toml asks for, at the pinned versions, with a line that moves while pip works.

Usage: .venv/bin/python tools/install.py [EXTRA]
"""

import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterable
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
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as requirements:
        requirements.write("\n".join(wanted(extra)))
        requirements.flush()
        command = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--progress-bar", "off"]
        command += ["--constraint", str(ROOT / "constraints.txt"), "--requirement", requirements.name]
        pip = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        lines = show(pip.stdout or ())
    if pip.wait() != 0:
        print(
            "\nThe packages could not be installed. pip says:", *lines[-SHOWN_OF_AN_ERROR:], sep="\n", file=sys.stderr
        )
    return pip.returncode


def show(output: Iterable[str]) -> list[str]:
    """Turn pip's lines into one that moves; return them."""
    pins = sum("==" in line for line in (ROOT / "constraints.txt").read_text().splitlines())
    begin, lines, done = time.monotonic(), [], 0
    for line in output:
        lines.append(line.rstrip())
        words = line.split()
        if words[:1] in (["Collecting"], ["Requirement"]):
            done += 1
        if words[:1] == ["Installing"]:
            done = pins
        if sys.stderr.isatty() and words:
            full = min(BAR * done // pins, BAR)
            name = words[1].split("=")[0].split(">")[0][:24] if words[0] == "Collecting" else ""
            bar = "█" * full + "·" * (BAR - full)
            print(f"\rpackages {bar} {time.monotonic() - begin:4.0f} s {name:24}", end="", file=sys.stderr)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    return lines


if __name__ == "__main__":
    sys.exit(main())
