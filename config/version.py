"""Which Storyloop this is."""

import importlib
import importlib.util
import tomllib
from functools import cache
from importlib import metadata

from django.conf import settings


@cache
def version() -> str:
    """Of the code, of the checkout, or of the installed package: whichever says it."""
    if importlib.util.find_spec("generation.version"):
        return str(importlib.import_module("generation.version").VERSION)
    project = settings.BASE_DIR / "pyproject.toml"
    if project.exists() and "version" in (told := tomllib.loads(project.read_text())["project"]):
        return str(told["version"])
    return metadata.version("storyloop")
