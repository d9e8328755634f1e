"""What children say of each round: beside the experts, never among them."""

from collections.abc import Callable, Sequence

from django.urls import reverse
from django.utils.translation import gettext as _

from training import tables
from training.dashboard.lines import Line
from training.tables import Cell, Chart, Column, Series, Table


def children_table(found: Sequence[Line]) -> Table:
    """Children's choices, round by round: beside the experts', never among them."""
    shown = [
        line for line in found if line.round and line.children and (line.children.choices.n or line.children.stopped)
    ]
    columns = [
        Column(_("round"), ("round",), number=False),
        Column(_("prefer the round's policy to the one before"), ("rate", "low", "high", "n", "sessions")),
        Column(_("stopped"), ("stopped",)),
        Column(_("engagement, new / before"), ("engagement", "engagement_before")),
        Column(_("questions answered, new / before"), ("understood", "understood_before")),
        Column(_("chose the first heard"), ("first_heard", "first_heard_n")),
    ]
    points = [tables.rate_point(line.children.choices if line.children else None) for line in shown]
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
    choices = found.choices
    sessions = _("sessions: %(sessions)d") % {"sessions": choices.judges}
    first = found.heard_first
    return [
        tables.text(line.label, link=line.link),
        Cell(
            tables.rate_text(choices, alone=_("not enough yet: one session more")),
            (choices.rate, choices.low, choices.high, choices.n, choices.judges),
            reverse("listenings_csv") if choices.n else "",
            f"{tables.rate_note(choices)}, {sessions}",
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


def _pair(new: float | None, old: float | None, show: Callable[[float], str]) -> str:
    return " / ".join("–" if value is None else show(value) for value in (new, old))
