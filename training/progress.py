"""How far a round is: what its page shows while processes work on it, and afterwards.

Time left is said from the steps of this run alone: the median of the times between the last of them, times the steps
that are left. Held-out pairs, which are measured between steps, are not in it. Nothing is said before there are
SAID_FROM such times, and nothing while the next step is long overdue.
"""

import re
import statistics
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil
from pathlib import Path
from typing import Any

from django.db.models import Avg, F, FloatField, Max
from django.utils import timezone
from django.utils.timesince import timesince
from django.utils.translation import gettext as _

from generation import runs
from generation.models import WritingRun
from generation.report import time_left
from generation.stores import single
from generation.stores.places import apart
from training import alarms, tables
from training.models import Alarm, Round, RoundMetric, State, Watched
from training.tables import Cell, Chart, Column, Series, Table

LATELY = 20  # steps
SAID_FROM = 3
OVERDUE, AT_LEAST = 5, 60.0  # times the usual time between steps, and not under so many seconds
POINTS = 40
ALONE = timedelta(minutes=1)
LOG_LINES, LOG_BYTES = 30, 16_384
CONTROL = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|[^\S\n\t ]|[\x00-\x08\x0b-\x1f\x7f]")  # colours and their like
FIGURES = ("loss", "rewards_chosen", "rewards_rejected", "rewards_margins", "rewards_accuracies", "kl")


@dataclass(frozen=True)
class Progress:
    """left: in words, "" where nothing can be said. quiet: seconds without a step, where that is long. The rates are
    means of the last LATELY steps, a second."""

    shown: Round
    left: str = ""
    quiet: float | None = None
    last: RoundMetric | None = None
    held_out: RoundMetric | None = None
    pairs_per_second: float | None = None
    tokens_per_second: float | None = None
    curves: Table | None = None
    log: str = ""

    @property
    def raised(self) -> list[str]:
        """The alarms so far, in words."""
        return [f"{Watched(alarm.kind).label}: {written(alarm)}" for alarm in self.shown.alarms.all()]

    @property
    def alone(self) -> bool:
        """Whether it waits for a worker for so long that there may be none for its queue."""
        shown = self.shown
        free = shown.at_work and not shown.held_by and not shown.refused_at  # or its message says more
        return free and timezone.now() - (shown.lease_until or shown.state_since) > ALONE

    @property
    def ago(self) -> str:
        """How long it is in its state."""
        if timezone.now() - self.shown.state_since < timedelta(minutes=1):
            return _("less than a minute")
        return timesince(self.shown.state_since, depth=1)

    @property
    def stage(self) -> str:
        """Changes with what the page is made of, not with its figures."""
        return ".".join([self.shown.state, "curves" if self.curves else "", "log" if self.log else ""])


def progress_of(shown: Round) -> Progress:
    lately = list(shown.metrics.trained().order_by("-step")[:LATELY])
    left, quiet = _time_left(shown)
    return Progress(
        shown,
        left,
        quiet,
        lately[0] if lately else None,
        shown.metrics.held_out().last(),
        _mean([one.pairs_per_second for one in lately]),
        _mean([one.tokens_per_second for one in lately]),
        curves(shown) if lately else None,
        "" if shown.state in (State.JUDGING, State.PROMOTED, State.REJECTED) else log_tail(_log_of(shown)),
    )


def written(alarm: Alarm) -> str:
    kind = Watched(alarm.kind)
    return _("%(value)s, the limit is %(limit)s") % {
        "value": alarms.written(kind, alarm.value),
        "limit": alarms.written(kind, alarm.limit),
    }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


# -- time left


def _time_left(shown: Round) -> tuple[str, float | None]:
    seconds, quiet = None, None
    if shown.state == State.TRAINING:
        newest = shown.metrics.trained().exclude(at=None).order_by("-at").values_list("at", flat=True)[: LATELY + 1]
        seconds, quiet = seconds_left([at for at in newest if at], shown.total - shown.done, timezone.now())
    elif shown.state == State.WRITING:
        writing = WritingRun.objects.at_work().filter(policy__in=[shown.result, *shown.baselines()]).last()
        found = runs.progress(writing) if writing else None
        seconds = found.seconds_left if found and found.worked_on else None
    return ("" if seconds is None else time_left(seconds)), quiet


def seconds_left(newest: Sequence[datetime], steps: int, now: datetime) -> tuple[float | None, float | None]:
    """(seconds until `steps` more are done, seconds since the last if it is overdue). newest: when the last steps
    were done, newest first. A median: one long gap, as after a kill, says nothing of the next steps."""
    gaps = [(later - earlier).total_seconds() for later, earlier in zip(newest, newest[1:], strict=False)]
    since = (now - newest[0]).total_seconds() if newest else 0.0
    usual = statistics.median(gaps) if gaps else 0.0
    if steps > 0 and since > max(OVERDUE * usual, AT_LEAST):
        return None, since
    if len(gaps) < SAID_FROM or steps <= 0:
        return None, None
    return max(usual * steps - since, 0.0), None


# -- curves


def curves(shown: Round, *, most: int = POINTS) -> Table:
    """The figures of training by step: at most `most` rows, each the mean of as many steps; 0 for a row a step.

    Held-out pairs stand in the row of the step after which they were measured, the last of them if there are several.
    """
    last = shown.metrics.trained().aggregate(last=Max("step"))["last"] or 0
    width = ceil(last / most) if most else 1
    bins = shown.metrics.trained().annotate(bin=(F("step") - 1) / max(width, 1)).order_by("bin").values("bin")
    means = {name: Avg(name, output_field=FloatField()) for name in (*FIGURES, "pairs_per_second", "tokens_per_second")}
    memory = {name: Max(name) for name in ("memory_resident", "memory_cuda")}
    rows: list[Any] = list(  # the stubs cannot know its keys
        bins.annotate(last=Max("step"), at_epoch=Max("epoch"), **{f"of_{k}": v for k, v in means.items()}, **memory)
    )
    held = {(one.step - 1) // max(width, 1): one for one in shown.metrics.held_out()}
    known = [(row, held.get(row["bin"])) for row in rows]
    caption = (
        _("Each row is the mean of %(n)d steps; the file has every step.") % {"n": width}
        if width > 1
        else _("A row is a step of the optimizer.")
    )
    return Table(
        "curves",
        _("Training, step by step"),
        caption,
        _columns(),
        [_row(row, one) for row, one in known],
        _charts([(str(row["last"]), row, one) for row, one in known]),
    )


def _columns() -> list[Column]:
    names = [name.replace("rewards_", "rewards/") for name in FIGURES]
    found = [Column(_("step"), ("step",)), Column(_("epoch"), ("epoch",))]
    for name, shown in zip(FIGURES, names, strict=True):
        found += [Column(shown, (name,)), Column(_("%(name)s, held out") % {"name": shown}, (f"eval_{name}",))]
    found += [Column(_("pairs a second"), ("pairs_per_second",)), Column(_("tokens a second"), ("tokens_per_second",))]
    return [*found, Column(_("peak memory"), ("memory_resident", "memory_cuda"))]


def _row(row: dict[str, Any], held_out: RoundMetric | None) -> list[Cell]:
    found = [tables.number(row["last"]), tables.number(row["at_epoch"], _short(row["at_epoch"], 2))]
    for name in FIGURES:
        value, held = row[f"of_{name}"], getattr(held_out, name, None)
        found += [tables.number(value, _short(value)), tables.number(held, _short(held))]
    rates = row["of_pairs_per_second"], row["of_tokens_per_second"]
    found += [tables.number(rate, _short(rate, 1)) for rate in rates]
    memory = row["memory_resident"], row["memory_cuda"]
    return [*found, Cell(gigabytes(memory[1] or memory[0]), memory)]


def _short(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def gigabytes(size: float | None) -> str:
    return "–" if size is None else f"{size / 1e9:.2f} GB"


Known = Sequence[tuple[str, dict[str, Any], RoundMetric | None]]


def _charts(known: Known) -> list[Chart]:
    labels = [label for label, _row, _held in known]
    return [
        Chart(_("loss"), labels, _series(known, "loss"), unit=""),
        Chart("rewards/margins", labels, _series(known, "rewards_margins"), unit="", reference=0.0),
        Chart(
            "rewards/chosen, rewards/rejected",
            labels,
            _series(known, "rewards_chosen", "chosen") + _series(known, "rewards_rejected", "rejected"),
            unit="",
        ),
        Chart("rewards/accuracies", labels, _series(known, "rewards_accuracies", factor=100.0), reference=50.0),
    ]


def _series(known: Known, name: str, label: str = "", *, factor: float = 1.0) -> list[Series]:
    trained = [_point(row[f"of_{name}"], factor) for _label, row, _held in known]
    held_out = [_point(getattr(held, name, None), factor) for _label, _row, held in known]
    names = [", ".join(filter(None, (label, part))) for part in (_("trained on"), _("held out"))]
    return [Series(names[0], trained), *([Series(names[1], held_out)] if any(held_out) else [])]


def _point(value: float | None, factor: float) -> tuple[float, None, None, str] | None:
    return None if value is None else (round(factor * value, 5), None, None, _short(factor * value))


# -- the log


def _log_of(shown: Round) -> Path:
    """The trainer's while it trains, the writer's while it writes; of a round that has ended, what spoke last."""
    paths = {State.TRAINING: "trainer.log", State.WRITING: "writer.log"}
    if shown.state in paths:
        return shown.folder / paths[State(shown.state)]
    if apart():  # on whatever machine
        return shown.folder / ("writer.log" if shown.result_id else "trainer.log")
    found = [path for path in (shown.folder / name for name in paths.values()) if path.exists()]
    return max(found, key=lambda path: path.stat().st_mtime, default=shown.folder / "trainer.log")


def log_tail(path: Path) -> str:
    """Its last lines, as plain text; "" if there is none. However long it is, its end alone is read."""
    content = single.tail(path)
    if content is None:
        try:
            with path.open("rb") as file:
                size = file.seek(0, 2)
                file.seek(max(size - LOG_BYTES, 0))
                content = file.read()
        except OSError:
            return ""
    text = content.decode(errors="replace")
    lines = (line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n"))  # a bar draws itself anew
    plain = (CONTROL.sub("", line).rstrip() for line in lines)
    return "\n".join(deque((line for line in plain if line), LOG_LINES))
