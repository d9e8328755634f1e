"""Which Storyloop this is."""

import tomllib
from functools import cache
from importlib import metadata

from django.conf import settings


@cache
def version() -> str:
    """Of the checkout, or of the installed package."""
    project = settings.BASE_DIR / "pyproject.toml"
    if project.exists():
        return str(tomllib.loads(project.read_text())["project"]["version"])
    return metadata.version("storyloop")
