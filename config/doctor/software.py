"""Python, and the packages at the versions that were tested."""

import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata

from django.conf import settings
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from config.doctor import Finding, fault, ok, warning

OLDEST = (3, 11)
# a web server needs neither; their own ranges are what vLLM and the tests allow
MODELS = ("torch", "transformers", "peft", "safetensors")
MEND = "Install it as it was tested: make install (or pip install -c constraints.txt storyloop)."


def python() -> Iterator[Finding]:
    said = f"Python {sys.version.split()[0]}"
    if sys.version_info < OLDEST:
        yield fault("python", said, "Storyloop needs Python 3.11 or newer: install one and make the environment anew.")
    elif not __debug__:
        yield fault(
            "python", f"{said}, with -O", "Unset PYTHONOPTIMIZE: libraries check what they are given by assert."
        )
    else:
        yield ok("python", said)


def packages() -> Iterator[Finding]:
    """Each requirement against what is installed, then against constraints.txt."""
    pins, others = _pins(), []
    wrong = False
    for wanted in _requirements():
        name = canonicalize_name(wanted.name)
        found = _installed(name)
        if found is None:
            wrong = True
            if name in MODELS:
                yield warning(
                    "packages", f"{name} is not installed: this machine can serve pages, not write or train.", MEND
                )
            else:
                yield fault("packages", f"{name} is not installed.", MEND)
        elif not wanted.specifier.contains(found.partition("+")[0], prereleases=True):
            wrong = True
            yield fault("packages", f"{name} is {found}, and {wanted.specifier} is wanted.", MEND)
        elif name in pins and pins[name] != found.partition("+")[0]:
            others.append(f"{name} {found} (tested: {pins[name]})")
    if others:
        yield warning("packages", f"Other versions than those tested: {', '.join(others)}.", MEND)
    elif not wrong:
        yield ok("packages", "all at tested versions" if pins else "all in the ranges that are wanted")


def _requirements() -> list[Requirement]:
    project = settings.BASE_DIR / "pyproject.toml"
    if project.exists():
        lines = tomllib.loads(project.read_text())["project"]["dependencies"]
    else:
        lines = [line for line in metadata.requires("storyloop") or [] if "extra ==" not in line]
    return [Requirement(line) for line in lines]


def _pins() -> dict[str, str]:
    """{package: version} of constraints.txt; empty where there is none."""
    file = settings.BASE_DIR / "constraints.txt"
    lines = file.read_text().splitlines() if file.exists() else []
    pairs = (line.partition("==") for line in lines if "==" in line)
    return {canonicalize_name(name): version for name, _equals, version in pairs}


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
