"""What came of a run, and what it was made from: OUT/run.json."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from generation.engines.values import EngineError, weights_hash
from training.dpo.run import Run, keys


@dataclass(frozen=True)
class Result:
    """What a run made: `directory` holds full weights, or a PEFT adapter if method is "lora".

    stopped: why it ended before its last step; empty if it did not.
    """

    directory: Path
    steps: int
    pairs: int
    too_long: int
    stopped: str = ""
    key: str = ""  # of the run: model, data and settings


def write_record(run: Run, result: Result, stages: Sequence[str] = ()) -> None:
    """Write out/run.json, whole or not at all."""
    found = {
        "key": result.key,
        "weights": weights_hash(result.directory),
        "model": str(run.model),
        "adapter": str(run.adapter) if run.adapter else None,
        "reference": str(run.reference) if run.reference else None,
        "data": str(run.data),
        "data_sha256": hashlib.sha256(run.data.read_bytes()).hexdigest() if run.data.is_file() else None,
        "settings": asdict(run.settings),
        "stages": list(stages),
        **{name: getattr(result, name) for name in ("steps", "pairs", "too_long", "stopped")},
    }
    temporary = run.out / "run.json.new"
    temporary.write_text(json.dumps(found, indent=1))
    temporary.replace(run.out / "run.json")


def finished(run: Run) -> Result | None:
    """The result of the same run, if it lies in its directory whole."""
    try:
        found = json.loads((run.out / "run.json").read_text())
        if found["key"] != keys(run).run or found["weights"] != weights_hash(run.out / "policy"):
            return None
        kept = {name: found[name] for name in ("steps", "pairs", "too_long", "stopped")}
    except (OSError, ValueError, KeyError, TypeError, EngineError):
        return None
    return Result(run.out / "policy", **kept, key=found["key"])
