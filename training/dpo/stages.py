"""A run in stages: each trains the last one's result further, on its own data or criterion.

The seed chapter's example: style, then plot complexity, then educational value, with beta 0.2, 0.15
and 0.1. Each stage's reference is the policy that it begins with.
"""

import json
import shutil
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from training.dpo import checkpoint
from training.dpo.data import BadData
from training.dpo.record import Result, finished, write_record
from training.dpo.run import Run
from training.dpo.settings import BadSettings, DPOSettings


@dataclass(frozen=True)
class Stage:
    """name is part of a directory's name; data, if it has its own."""

    name: str
    data: Path | None
    settings: DPOSettings


def read_config(path: Path, given: dict[str, Any]) -> tuple[DPOSettings, list[Stage]]:
    """(settings, stages) of a TOML or JSON file: settings by name, and perhaps "stages", a list of
    {"name", "data", and the settings that differ}. `given` goes before the file, a stage before both.
    Raises BadSettings.
    """
    try:
        values = tomllib.loads(path.read_text()) if path.suffix == ".toml" else json.loads(path.read_text())
    except OSError as error:
        raise BadSettings(f"{path} cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise BadSettings(f"{path} is not valid {'TOML' if path.suffix == '.toml' else 'JSON'} ({error})") from error
    if not isinstance(values, dict):
        raise BadSettings(f"{path} holds no settings: give an object of names and values")
    listed = values.pop("stages", [])
    if not isinstance(listed, list) or not all(isinstance(stage, dict) for stage in listed):
        raise BadSettings(f"{path}: stages must be a list of tables")
    common = {**values, **given}
    stages = [_stage(path, number, stage, common) for number, stage in enumerate(listed, start=1)]
    return DPOSettings.of(common, str(path)), stages


def _stage(path: Path, number: int, values: dict[str, Any], common: dict[str, Any]) -> Stage:
    name, data = values.get("name", f"stage-{number}"), values.get("data")
    if not isinstance(name, str) or not name.replace("-", "").replace("_", "").isalnum():
        raise BadSettings(f"{path}: stage {number} has the name {name!r}: use letters, digits and hyphens")
    if data is not None and not isinstance(data, str):
        raise BadSettings(f"{path}: stage {name} has the data {data!r}: give a file's name")
    own = {key: value for key, value in values.items() if key not in ("name", "data")}
    settings = DPOSettings.of({**common, **own}, f"{path}, stage {name}")
    return Stage(name, path.parent / data if data else None, settings)


def run_stages(whole: Run, stages: list[Stage], train: Callable[[Run], Result]) -> Result:
    """Train stage after stage in out/stages, and put the last one's result into out/policy.

    A stage that is done is not done again: an interrupted run goes on where it stood.
    """
    for data in (stage.data or whole.data for stage in stages):
        if not data.is_file():  # said now, not after hours of the first stage
            raise BadData(f"There is no data file {data}.")
    model, adapter = whole.model, whole.adapter
    steps = pairs = too_long = 0
    stopped = ""
    for number, stage in enumerate(stages, start=1):
        out = whole.out / "stages" / f"{number}-{stage.name}"
        run = replace(
            whole,
            model=model,
            adapter=adapter,
            data=stage.data or whole.data,
            out=out,
            settings=stage.settings,
            stage=stage.name,
            reference=whole.reference if number == 1 else None,
            reference_adapter=whole.reference_adapter if number == 1 else None,
        )
        result = finished(run) or train(run)
        steps, pairs, too_long = steps + result.steps, pairs + result.pairs, too_long + result.too_long
        stopped = result.stopped
        if stage.settings.method == "lora":
            adapter = result.directory
        else:
            model, adapter = result.directory, None
    last = result
    result = Result(whole.out / "policy", steps, pairs, too_long, stopped, last.key)
    if whole.processes.first:
        with checkpoint.replacing(result.directory) as temporary:
            shutil.copytree(last.directory, temporary)
        write_record(whole, result, stages=[stage.name for stage in stages])
    whole.processes.wait()
    return result
