"""One round's figures: by whom and about what it is preferred, and how its stories have changed."""

from urllib.parse import urlencode

from django.urls import reverse
from django.utils.translation import gettext as _

from annotate.winrates import Contest, Dimension, Part
from generation.models import Policy
from generation.summaries import MEASURES, Change, change, summarise
from training import tables
from training.alarms import Finding
from training.dashboard.measured import measure_cell, measure_text
from training.models import Round
from training.tables import Cell, Chart, Column, Series, Table


def breakdown_table(shown: Round) -> Table:
    """The win rate by audience, language, theme and so on, against the policy before and against the base."""
    people = not shown.include_simulated
    baselines = shown.baselines()
    found: dict[tuple[str, str], list[tuple[Dimension, Part | None]]] = {}
    for number, baseline in enumerate(baselines):
        assert shown.result is not None
        for dimension in Contest(shown.result, baseline).dimensions(people=people):
            for part in dimension.parts:
                cells = found.setdefault((dimension.name, str(part.label)), [(dimension, None)] * len(baselines))
                cells[number] = (dimension, part)
    columns = [Column(_("of"), ("dimension",), number=False), Column(_("part"), ("part",), number=False)]
    columns += [
        Column(_("against %(policy)s") % {"policy": baseline}, tables.rate_fields(f"win_rate_{number}"))
        for number, baseline in enumerate(baselines)
    ]
    rows = [
        [
            tables.text(parts[0][0].label),
            tables.text(label),
            *(
                tables.win_rate(part.rate, behind(shown, baseline, part.filters)) if part else tables.win_rate(None)
                for (_dimension, part), baseline in zip(parts, baselines, strict=True)
            ),
        ]
        for (_name, label), parts in found.items()
    ]
    series = [
        Series(
            _("against %(policy)s") % {"policy": baseline},
            [_point(parts[number][1]) for parts in found.values()],
        )
        for number, baseline in enumerate(baselines)
    ]
    chart = Chart(_("Win rate by part"), [label for _name, label in found], series, reference=50, joined=False)
    return Table(
        "parts",
        _("By whom, and about what"),
        _(
            "The same judgements in parts. Of twenty parts, one leaves out a half by chance alone: read them for "
            "where to look, not for a verdict."
        ),
        columns,
        rows,
        [chart] if any(point for one in series for point in one.points) else [],
        _("Nothing is judged yet."),
    )


def _point(part: Part | None) -> tuple[float, float | None, float | None, str] | None:
    return tables.rate_point(part.rate) if part else None


def behind(shown: Round, baseline: Policy, filters: dict[str, str]) -> str:
    """The address of the judgements of a part."""
    return f"{reverse('round_judgements', args=[shown.number])}?{urlencode({'against': baseline.pk, **filters})}"


def measures_of_round_table(shown: Round) -> Table:
    """Each measure for the base, the policy before and the new one, and by how much it has changed."""
    assert shown.result is not None
    line = [*reversed(shown.baselines()), shown.result]
    summaries = {policy: summarise(policy) for policy in line}
    columns = [Column(_("measure"), ("measure",), number=False)]
    columns += [Column(str(policy), (policy.name,)) for policy in line]
    columns += [Column(_("change"), ("change", "change_low", "change_high", "prompts"))]
    rows = []
    for name, measure in MEASURES.items():
        cells = [measure_cell(found, name) if found else tables.number(None) for found in summaries.values()]
        if any(cell.values[0] is not None for cell in cells):
            rows.append([tables.text(measure.label), *cells, _change(name, change(shown.policy, shown.result, name))])
    return Table(
        "measures",
        _("What the stories are like"),
        _(
            "Read by stated rules: for comparing policies, not the truth about one story. Change: from the policy "
            "before, with an interval (95 %) over the prompts that both wrote for."
        ),
        columns,
        rows,
        (),
        _("No stories yet."),
    )


def _change(name: str, found: Change | None) -> Cell:
    if found is None:
        return Cell("–", (None,) * 4)
    low, middle, high = (_signed(name, value) for value in (found.low, found.mean, found.high))
    said = _("prompts: %(n)d") % {"n": found.prompts}
    shown = (
        f"{middle} [{low}, {high}]" if found.clear else _("unchanged [%(low)s, %(high)s]") % {"low": low, "high": high}
    )
    return Cell(shown, (found.mean, found.low, found.high, found.prompts), note=said)


def _signed(name: str, value: float) -> str:
    """With its sign: +1.2 % of stories are percentage points."""
    shown = measure_text(name, abs(value)).removesuffix(" %")
    sign = "" if not float(shown) else "+" if value > 0 else "−"
    return f"{sign}{shown}"


def alarms_of_round_table(found: list[Finding]) -> Table:
    """What is watched, with what was found: what is not measured is said to be so."""
    columns = [
        Column(_("watched"), ("watched",), number=False),
        Column(_("figure"), ("value",)),
        Column(_("limit"), ("limit",)),
        Column(_("now"), ("now",)),
        Column(_("base"), ("base",)),
        Column(_("n"), ("n",)),
        Column(_("verdict"), ("verdict",), number=False),
    ]
    rows = [
        [
            tables.text(one.label),
            tables.number(one.value, one.value_text),
            tables.number(one.limit, one.limit_text),
            tables.number(one.now, one.now_text),
            tables.number(one.baseline, one.baseline_text),
            tables.number(one.n),
            tables.text(one.verdict, tag="alarm" if one.crossed else ""),
        ]
        for one in found
    ]
    caption = _(
        "A figure beyond its limit blocks automatic promotion, and is a reason to read stories before promoting."
    )
    return Table("alarms", _("Alarms"), caption, columns, rows)
