"""What experts say of each round, blind."""

from collections.abc import Sequence

from django.utils.translation import gettext as _

from training import tables
from training.dashboard.lines import Line
from training.tables import Cell, Chart, Column, Series, Table


def win_rate_table(found: Sequence[Line]) -> Table:
    """Experts' win rates, round by round."""
    shown = [line for line in found if line.round]
    columns = [
        Column(_("round"), ("round",), number=False),
        Column(_("state"), ("state",), number=False),
        Column(_("pairs trained on"), ("pairs",)),
        Column(_("against the policy before"), tables.rate_fields("win_rate_previous")),
        Column(_("against the base"), tables.rate_fields("win_rate_base")),
        Column(_("alarms"), ("alarms",)),
    ]
    rows = [_win_rate_row(line) for line in reversed(shown)]
    chart = Chart(
        _("Win rate by round"),
        [line.label for line in shown],
        [
            Series(_("against the policy before"), [tables.rate_point(line.rates[0]) for line in shown]),
            Series(_("against the base"), [tables.rate_point(line.rates[1]) for line in shown]),
        ],
        reference=50,
    )
    return Table(
        "win-rates",
        _("Experts, blind"),
        _(
            "Share of blind judgements on held-out prompts that prefer the round's policy, ties counting half, with an "
            "interval (95 %) over prompts and experts. Simulated experts count only in rounds that were launched so."
        ),
        columns,
        rows,
        [chart],
        _("No round has made a policy yet."),
    )


def _win_rate_row(line: Line) -> list[Cell]:
    assert line.round is not None
    (previous, base), (rate, base_rate) = line.baselines, line.rates
    alarms = len(line.round.alarms.all())
    return [
        tables.text(line.label, link=line.link),
        tables.text(line.round.get_state_display(), tag=line.round.state),
        tables.number(line.round.pair_count),
        tables.win_rate(rate, line.judgements(previous)),
        tables.win_rate(base_rate, line.judgements(base or previous)),
        tables.number(alarms, tag="alarm" if alarms else "", link=f"{line.link}#alarms" if alarms else ""),
    ]
