"""What children say of each round: beside the experts, never among them."""

from collections.abc import Callable, Sequence

from django.urls import reverse
from django.utils.translation import gettext as _

from annotate.listening import ChildRate
from training import tables
from training.dashboard.lines import Line
from training.tables import Cell, Chart, Column, Series, Table


def children_table(found: Sequence[Line]) -> Table:
    """Children's choices, round by round: beside the experts', never among them."""
    shown = [line for line in found if line.round and line.children and (line.children.n or line.children.stopped)]
    columns = [
        Column(_("round"), ("round",), number=False),
        Column(_("prefer the round's policy to the one before"), ("rate", "low", "high", "n", "sessions")),
        Column(_("stopped"), ("stopped",)),
        Column(_("engagement, new / before"), ("engagement", "engagement_before")),
        Column(_("questions answered, new / before"), ("understood", "understood_before")),
        Column(_("chose the first heard"), ("first_heard", "first_heard_n")),
    ]
    points = [_child_point(line.children) for line in shown]
    chart = Chart(
        _("Children's choices by round"),
        [line.label for line in shown],
        [Series(_("children, against the policy before"), points)],
        reference=50,
    )
    return Table(
        "children",
        _("Children, listening"),
        _(
            "Share of this-or-that choices for the round's policy, “both” counting half, with an interval (95 %) over "
            "sessions and prompts. Engagement: 1 to 5, noted by the adult."
        ),
        columns,
        [_child_row(line) for line in reversed(shown)],
        [chart] if any(points) else [],
        _("No child has listened yet."),
    )


def _child_row(line: Line) -> list[Cell]:
    found = line.children
    assert found is not None
    new, old = found.policy, found.baseline
    rate = f"{found.percent} % [{found.percent_low}, {found.percent_high}]" if found.enough else _not_enough(found)
    note = _("n = %(n)d, sessions: %(sessions)d") % {"n": found.n, "sessions": found.sessions}
    first = found.heard_first
    return [
        tables.text(line.label, link=line.link),
        Cell(
            rate,
            (found.rate, found.low, found.high, found.n, found.sessions),
            reverse("listenings_csv") if found.n else "",
            note,
        ),
        tables.number(found.stopped),
        Cell(
            _pair(new.engagement, old.engagement, lambda value: f"{value:.1f}"),
            (new.engagement, old.engagement),
            note=f"n = {new.engagement_n}",
        ),
        Cell(
            _pair(new.understood, old.understood, lambda value: f"{100 * value:.0f} %"),
            (new.understood, old.understood),
            note=f"n = {new.understood_n} / {old.understood_n}",
        ),
        Cell(
            f"{100 * first.chosen / first.n:.0f} %" if first.n else "–", (first.chosen, first.n), note=f"n = {first.n}"
        ),
    ]


def _not_enough(found: ChildRate) -> str:
    return tables.missing_text(found.missing) if found.missing else _("one session more")


def _pair(new: float | None, old: float | None, show: Callable[[float], str]) -> str:
    return " / ".join("–" if value is None else show(value) for value in (new, old))


def _child_point(found: ChildRate | None) -> tuple[float, float | None, float | None, str] | None:
    if found is None or not found.enough or found.rate is None or found.low is None or found.high is None:
        return None
    return 100 * found.rate, 100 * found.low, 100 * found.high, f"{found.percent} %, n = {found.n}"
