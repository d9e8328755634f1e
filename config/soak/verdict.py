"""What must be true of a soak, and its figures for a person."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from config.bench_judging.figures import percentile
from config.trials.people import Given

MOST_GROWTH = 1.0  # MB a minute and process; what a web worker loads for rare pages looks like half of it in 10 minutes
SHARES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


@dataclass(frozen=True)
class Seen:
    """What was counted."""

    acknowledged: int
    lost: Sequence[Given] = ()
    doubled: Sequence[Given] = ()
    failed: Sequence[str] = ()  # requests that failed twice
    errors: Sequence[str] = ()  # answers that no expert should see
    rounds: Sequence[str] = ()  # what is wrong with them
    promoted: int = 0
    round_wanted: bool = True
    kills: int = 0
    kills_wanted: int = 0
    over_booked: int = 0
    growth: dict[str, float | None] = field(default_factory=dict)  # service -> MB a minute


def faults(seen: Seen) -> list[str]:
    """A line for each thing that is not true."""
    checks = (
        (not seen.acknowledged, "No judgement was acknowledged."),
        (seen.failed, f"{len(seen.failed)} requests failed twice: {_some(seen.failed)}"),
        (seen.lost, f"{len(seen.lost)} acknowledged judgements are not stored: {_keys(seen.lost)}"),
        (seen.doubled, f"{len(seen.doubled)} judgements are stored more than once: {_keys(seen.doubled)}"),
        (seen.over_booked, f"{seen.over_booked} comparisons have more judgements than places."),
        (seen.errors, f"{len(seen.errors)} answers that nobody should see: {_some(seen.errors)}"),
        (seen.round_wanted and not seen.promoted, "No round was promoted while people judged."),
        (seen.kills < seen.kills_wanted, f"{seen.kills} of {seen.kills_wanted} web workers were killed."),
    )
    grown = [
        f"Memory of {service} grows by {slope:.2f} MB a minute and process (limit {MOST_GROWTH})."
        for service, slope in seen.growth.items()
        if slope is not None and slope > MOST_GROWTH
    ]
    return [*(said for wrong, said in checks if wrong), *grown, *seen.rounds]


def waits(times: dict[str, list[float]]) -> dict[str, dict[str, float | int | None]]:
    """Kind of request -> its count and percentiles in milliseconds."""
    return {
        kind: {"count": len(values), **{name: percentile(values, share) for name, share in SHARES.items()}}
        for kind, values in sorted(times.items())
    }


def table(waited: dict[str, dict[str, Any]]) -> str:
    rows = [["", "count", *(f"{name} ms" for name in SHARES)]]
    for kind, found in waited.items():
        rows.append([kind, str(found["count"]), *(f"{found[name]:.0f}" for name in SHARES)])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def _some(said: Sequence[str]) -> str:
    return "; ".join([*said[:3], *(["..."] if len(said) > 3 else [])])


def _keys(given: Sequence[Given]) -> str:
    return _some([answer.assignment for answer in given])
