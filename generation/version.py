"""The version of Storyloop: pyproject.toml takes it from here, and so does code that runs from a checkout."""

from packaging.version import Version

VERSION = "0.1.0.dev0"


def older_than(other: str) -> bool:
    """Whether this code is older than version `other` (PEP 440); "" is a version that nobody wrote down."""
    return bool(other) and Version(VERSION) < Version(other)
