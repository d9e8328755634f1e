"""A round's steps, counted through its stages: the trainer counts each stage's from one."""

import json
from pathlib import Path
from typing import Any

from training.models import Round


def counted_on(current: Round, out: Path, line: dict[str, Any]) -> dict[str, Any]:
    """A line of the trainer with its step, and total_steps, as the round's. The stages to come are taken to be as
    long as those so far."""
    names = [stage["criterion"] for stage in current.stages]
    if line.get("stage") not in names:
        return line
    place = names.index(line["stage"])
    before = sum(_last_step(path) for path in metric_files(current, out)[:place])
    found = {**line, "step": before + line["step"]}
    if "total_steps" in line:
        found["total_steps"] = round((before + line["total_steps"]) * len(names) / (place + 1))
    return found


def metric_files(current: Round, out: Path) -> list[Path]:
    """The trainer's, in the order of its stages; some may not be there yet."""
    names = [stage["criterion"] for stage in current.stages]
    folders = [out / "stages" / f"{number}-{name}" for number, name in enumerate(names, start=1)] or [out]
    return [folder / "metrics.jsonl" for folder in folders]


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Those that are whole; none if there is no such file."""
    found = []
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            found.append(json.loads(line))
        except ValueError:  # torn
            continue
    return found


def _last_step(path: Path) -> int:
    return max((line["step"] for line in read_lines(path)), default=0)
