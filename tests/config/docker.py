"""The Dockerfile and the compose files, read as Docker would, as far as the tests need it."""

import json
import re
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Any

import yaml

from tests.environment import ROOT

COMPOSE = ROOT / "compose.yaml"
REDIS = ROOT / "deploy" / "docker" / "redis.yaml"
VARIABLE = re.compile(r"\$\{(\w+):-([^}]*)\}")


@dataclass(frozen=True)
class Step:
    """One instruction of the Dockerfile: COPY, its arguments, and the stage that it belongs to."""

    word: str
    said: str
    stage: str


def steps() -> list[Step]:
    found, stage = [], ""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    for line in re.sub(r"\\\n", " ", text).splitlines():
        word, _, said = line.strip().partition(" ")
        if word == "FROM":
            stage = said.split(" AS ")[1] if " AS " in said else "last"
        if word:
            found.append(Step(word, said.strip(), stage))
    return found


def stage(name: str) -> list[Step]:
    return [step for step in steps() if step.stage == name]


def sources(name: str) -> list[str]:
    """What the stage copies out of the folder that is built."""
    copies = [step.said for step in stage(name) if step.word == "COPY" and not step.said.startswith("--from")]
    return [source for said in copies for source in said.split()[:-1]]


def ignored(path: str) -> bool:
    """By .dockerignore: the last rule that fits wins."""
    found = False
    for rule in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = rule.removeprefix("!").removeprefix("**/")
        # a folder's rule holds for all below it; ** for each name on the way
        names = (
            path.split("/")
            if "**/" in rule
            else ["/".join(path.split("/")[: i + 1]) for i in range(path.count("/") + 1)]
        )
        if rule and not rule.startswith("#") and any(fnmatch(name, pattern) for name in names):
            found = not rule.startswith("!")
    return found


def command(name: str) -> list[str]:
    """The CMD of a stage."""
    (said,) = (step.said for step in stage(name) if step.word == "CMD")
    return list(json.loads(said))


def check(name: str) -> list[str]:
    """The HEALTHCHECK's command of a stage."""
    (said,) = (step.said for step in stage(name) if step.word == "HEALTHCHECK")
    return list(json.loads(said.partition(" CMD ")[2]))


def services() -> dict[str, dict[str, Any]]:
    """Of both files, with the defaults of their variables."""
    found: dict[str, dict[str, Any]] = {}
    for path in (COMPOSE, REDIS):
        text = VARIABLE.sub(lambda match: match[2], path.read_text()).replace("$$", "$")
        for name, service in yaml.safe_load(text)["services"].items():
            merged = found.setdefault(name, {})
            for key, value in service.items():
                merged[key] = _merged(merged.get(key), value)
    return found


def _merged(old: Any, new: Any) -> Any:
    if isinstance(old, dict):
        return {**old, **new}
    if isinstance(old, list) and isinstance(new, list):
        return [*old, *new]
    return new


def top(key: str) -> dict[str, Any]:
    """`volumes`, `secrets` or `networks` of both files."""
    return {
        name: value
        for path in (COMPOSE, REDIS)
        for name, value in yaml.safe_load(path.read_text()).get(key, {}).items()
    }
