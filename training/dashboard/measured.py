"""What automatic measures read in each policy's stories."""

from collections.abc import Sequence

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from generation.summaries import MEASURES, PolicySummary
from training import tables
from training.dashboard.lines import Line
from training.tables import Cell, Chart, Column, Series, Table

# which measures are drawn together: title, names, whether the axis begins at 0
DRAWN = [
    (gettext_lazy("Structure and message"), ("structure", "message"), True),
    (gettext_lazy("Repetition, cut-off endings, broken sentences"), ("repetition", "cut_off", "broken"), True),
    (gettext_lazy("Diversity among a prompt's stories"), ("diversity",), True),
    (gettext_lazy("Difficult words and characters"), ("hard_words", "difficult_words", "uncommon_words"), True),
    (gettext_lazy("Length, in words (Chinese: characters)"), ("mean_words",), True),
    (
        gettext_lazy("Sentence length, in words (Chinese: characters)"),
        ("words_per_sentence", "characters_per_sentence"),
        True,
    ),
]


def measures_table(found: Sequence[Line]) -> Table:
    """What automatic measures read in the stories of each policy."""
    shown = [(line, line.summary) for line in found if line.summary]
    columns = [Column(_("policy"), ("policy",), number=False), Column(_("stories read"), ("stories", "written"))]
    columns += [Column(measure.label, (name,)) for name, measure in MEASURES.items()]
    rows = [
        [
            tables.text(line.label, link=line.link),
            Cell(str(summary.stories), (summary.stories, summary.drawn_from), note=_of_all(summary)),
            *(measure_cell(summary, name) for name in MEASURES),
        ]
        for line, summary in reversed(shown)
        if summary
    ]
    return Table(
        "measures",
        _("Stories, measured"),
        _(
            "Means over a policy's stories, read by stated rules: for comparing policies with each other, and not the "
            "truth about one story."
        ),
        columns,
        rows,
        [_measure_chart(title, names, shown, zero=zero) for title, names, zero in DRAWN],
        _("No policy has written stories yet."),
    )


def measure_cell(summary: PolicySummary, name: str) -> Cell:
    value: float | None = getattr(summary, name)
    return Cell(measure_text(name, value), (value,), note=f"n = {summary.n[name]}" if name in summary.n else "")


def measure_text(name: str, value: float | None) -> str:
    if value is None:
        return "–"
    return f"{100 * value:.1f} %" if MEASURES[name].kind == "share" else f"{value:.1f}"


def _of_all(summary: PolicySummary) -> str:
    if summary.drawn_from <= summary.written:
        return ""
    return _("drawn from %(n)d") % {"n": summary.drawn_from}


def _measure_chart(
    title: tables.Text, names: Sequence[str], shown: Sequence[tuple[Line, PolicySummary | None]], *, zero: bool
) -> Chart:
    share = MEASURES[names[0]].kind == "share"
    series = []
    for name in names:
        values = [getattr(summary, name) for _line, summary in shown]
        points = [
            None if value is None else (value * (100 if share else 1), None, None, measure_text(name, value))
            for value in values
        ]
        series.append(Series(MEASURES[name].label, points))
    return Chart(title, [line.label for line, _summary in shown], series, unit="%" if share else "", zero=zero)
