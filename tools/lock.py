"""Write locks/: each pinned package with the SHA-256 of its files, as PyPI says them now.

Four files: base.txt (what runs), dev.txt and audit.txt (what they want besides), cuda.txt (torch from PyPI, which is
the build for NVIDIA GPUs, with its libraries). Versions are those of constraints.txt.

Usage: .venv/bin/python tools/lock.py
"""

import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCKS = ROOT / "locks"
LATER = ("dev", "audit")  # extras with a file of their own; a server's extras (redis) are in the base
HEAD = "# Made by `make lock`, from pyproject.toml and constraints.txt. For pip's --require-hashes --no-deps.\n"
PIN = re.compile(r"^([A-Za-z0-9._-]+)==(\S+)")
OWN = "pip"  # pip-audit names it: an environment has one


def main() -> int:
    known, pinned = set[str](), set(pins((ROOT / "constraints.txt").read_text()))
    cuda: dict[str, str] = {}
    LOCKS.mkdir(exist_ok=True)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [extra for extra in project["optional-dependencies"] if extra not in LATER]
    for name in ("base", *LATER):
        extras += [name] if name in LATER else []
        found = blocks(compiled(extras))
        cuda |= {package: block for package, block in found.items() if package == "torch" or package not in pinned}
        new = {package: block for package, block in found.items() if package not in known and package not in cuda}
        known |= set(new)
        write(name, new)
    cuda.pop(OWN, None)
    write("cuda", cuda)
    return 0


def compiled(extras: list[str]) -> str:
    """What uv makes of pyproject.toml. For Debian 12's Python: the oldest wants most."""
    options = ["--constraint", "constraints.txt", "--generate-hashes", "--no-header", "--no-annotate", "--quiet"]
    options += ["--python-version", "3.11.2", "--python-platform", "linux", "--no-config"]
    options += [word for extra in extras for word in ("--extra", extra)]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "lock.txt"
        command = [sys.executable, "-m", "uv", "pip", "compile", "pyproject.toml", *options, "--output-file", str(out)]
        subprocess.run(command, cwd=ROOT, check=True)
        return out.read_text()


def blocks(text: str) -> dict[str, str]:
    """{package: its lines}."""
    found: dict[str, str] = {}
    for line in text.splitlines(keepends=True):
        if begun := PIN.match(line):
            name = canonical(begun[1])
            found[name] = ""
        found[name] += line
    return found


def pins(text: str) -> dict[str, str]:
    """{package: version} of a file of constraints or a lock."""
    return {canonical(found[1]): found[2] for line in text.splitlines() if (found := PIN.match(line))}


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def write(name: str, found: dict[str, str]) -> None:
    path = LOCKS / f"{name}.txt"
    path.write_text(HEAD + "".join(found[package] for package in sorted(found)))
    print(f"{path.relative_to(ROOT)}: {len(found)} packages")


if __name__ == "__main__":
    sys.exit(main())
