"""The version of Storyloop: pyproject.toml takes it from here, and so does code that runs from a checkout."""

import subprocess
from pathlib import Path

from packaging.version import Version

VERSION = "0.1.0"
ROOT = Path(__file__).resolve().parent.parent


def older_than(other: str) -> bool:
    """Whether this code is older than version `other` (PEP 440); "" is a version that nobody wrote down."""
    return bool(other) and Version(VERSION) < Version(other)


def commit() -> str:
    """The checkout's commit, for figures; "unknown" if this is none, or git is not there."""
    if not (ROOT / ".git").exists():  # else git would find the repository that a virtual environment lies in
        return "unknown"
    try:
        command = ["git", "rev-parse", "HEAD"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S607
    except OSError:
        return "unknown"
    return done.stdout.strip() or "unknown"
