"""Tables of figures: one definition gives the table on the page, its chart and its CSV."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from annotate.winrates import WinRate

Text = str | Promise


@dataclass(frozen=True)
class Cell:
    """What stands in a table: `text` on the page, `values` in the CSV, one for each of the column's fields."""

    text: Text
    values: tuple[Any, ...] = ()
    link: str = ""
    note: Text = ""
    tag: str = ""  # a style: "alarm", "simulated"


@dataclass(frozen=True)
class Column:
    """`fields` are the names of its columns in the CSV."""

    label: Text
    fields: tuple[str, ...]
    number: bool = True


@dataclass(frozen=True)
class Series:
    """One line of a chart: for each label (value, low, high, what is said of it), or None for nothing."""

    label: Text
    points: Sequence[tuple[float, float | None, float | None, str] | None]


@dataclass(frozen=True)
class Chart:
    """Drawn by static/charts.js. reference: a line across; unit: "%" or ""; shares are given 0-100."""

    title: Text
    labels: Sequence[Text]
    series: Sequence[Series]
    unit: str = "%"
    reference: float | None = None
    zero: bool = False  # the axis begins at 0
    joined: bool = True  # the points of a series follow each other in time

    def as_json(self) -> dict[str, Any]:
        return {
            "title": str(self.title),
            "labels": [str(label) for label in self.labels],
            "series": [{"label": str(one.label), "points": list(one.points)} for one in self.series],
            "unit": self.unit,
            "reference": self.reference,
            "zero": self.zero,
            "joined": self.joined,
        }

    def as_text(self) -> str:
        """JSON, for the page."""
        return json.dumps(self.as_json(), ensure_ascii=False)


@dataclass(frozen=True)
class Table:
    """`key` names it in addresses. The first column heads its row."""

    key: str
    title: Text
    caption: Text
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    charts: Sequence[Chart] = field(default_factory=tuple)
    empty: Text = ""

    @property
    def records(self) -> list[list[tuple[Column, Cell]]]:
        return [list(zip(self.columns, row, strict=True)) for row in self.rows]

    def csv_rows(self) -> Iterator[list[Any]]:
        """The head and the rows, numbers as they were computed: shares 0-1, nothing rounded."""
        yield [name for column in self.columns for name in column.fields]
        for row in self.rows:
            found: list[Any] = []
            for column, cell in zip(self.columns, row, strict=True):
                values = cell.values or (None,) * len(column.fields)
                found += values
            yield found


# -- cells


def text(value: Text, *, link: str = "", note: Text = "", tag: str = "") -> Cell:
    return Cell(value, (str(value),), link, note, tag)


def number(value: float | None, shown: Text = "", *, link: str = "", note: Text = "", tag: str = "") -> Cell:
    """A bare number; – for None."""
    return Cell(shown or ("–" if value is None else str(value)), (value,), link, note, tag)


def percent(value: float | None, *, digits: int = 0, note: Text = "", tag: str = "") -> Cell:
    """A share, 0-1, as a percentage."""
    return Cell("–" if value is None else f"{100 * value:.{digits}f} %", (value,), "", note, tag)


RATE_FIELDS = ("rate", "low", "high", "n", "simulated")


def rate_fields(name: str) -> tuple[str, ...]:
    return (name, *(f"{name}_{rest}" for rest in RATE_FIELDS[1:]))


def win_rate(found: WinRate | None, link: str = "") -> Cell:
    """A win rate with its interval and n, or how much is missing to show one."""
    if found is None:
        return Cell("–", (None,) * len(RATE_FIELDS))
    values = (found.rate, found.low, found.high, found.n, found.simulated)
    return Cell(rate_text(found), values, link if found.n else "", rate_note(found))


def rate_text(found: WinRate, *, alone: str = "") -> str:
    """alone: what is said of enough judgements by one judge."""
    if found.enough:
        return f"{found.percent} % [{found.percent_low}, {found.percent_high}]"
    if not found.missing:
        return alone or _("not enough yet: one expert more")
    return missing_text(found.missing)


def missing_text(n: int) -> str:
    return ngettext("not enough yet: %(n)d more", "not enough yet: %(n)d more", n) % {"n": n}


def rate_note(found: WinRate) -> str:
    """n, how many of it were simulated, and how many more would decide it."""
    said = [f"n = {found.n}"]
    if found.simulated:
        said.append(_("%(n)d simulated") % {"n": found.simulated})
    if found.enough and not found.decided:
        more = found.more_to_decide
        said.append(_("about %(n)d more would decide") % {"n": more} if more else _("too close to decide"))
    return ", ".join(said)


def rate_point(found: WinRate | None) -> tuple[float, float | None, float | None, str] | None:
    """A win rate in a chart, once there is enough of it."""
    if found is None or not found.enough or found.rate is None or found.low is None or found.high is None:
        return None
    return 100 * found.rate, 100 * found.low, 100 * found.high, f"{rate_text(found)}, {rate_note(found)}"
