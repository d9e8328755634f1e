"""All policies on one scale."""

from django.utils.translation import gettext as _

from annotate import strengths
from generation.models import Policy
from training import tables
from training.dashboard.of_round import behind
from training.models import Round
from training.tables import Cell, Chart, Column, Series, Table


def scale_table() -> Table:
    """All policies on one scale."""
    columns = [
        Column(_("policy"), ("policy",), number=False),
        Column(_("preferred to the base"), ("preferred", "low", "high", "n")),
        Column(_("the same at equal length and sentence length"), ("controlled", "controlled_low", "controlled_high")),
    ]
    base = Policy.objects.filter(parent=None, baseline_comparisons__isnull=False).order_by("pk").first()
    plain = controlled = strengths.Scale([], [])
    if base:
        votes = strengths.votes(people=not Round.objects.filter(include_simulated=True).exists())
        plain = strengths.scale(votes, base.pk)
        controlled = strengths.scale(votes, base.pk, controlled=True)
    names = dict(Policy.objects.values_list("pk", "name"))
    both = list(zip(plain.strengths, controlled.strengths, strict=True))
    made = {one.result_id: one for one in Round.objects.exclude(result=None)}
    links = {policy: behind(one, base, {}) for policy, one in made.items() if base}
    rows = [
        [
            tables.text(names[one.policy]),
            _strength_cell(one, n=True, link=links.get(one.policy, "")),
            _strength_cell(other),
        ]
        for one, other in reversed(both)
    ]
    rows += [
        [tables.text(_("the story that is %(what)s") % {"what": what}), Cell("–", (None,) * 4), _strength_cell(effect)]
        for what, effect in zip(strengths.FEATURES, controlled.effects, strict=False)
    ]
    chart = Chart(
        _("Preferred to the base"),
        [names[one.policy] for one, _other in both],
        [
            Series(_("as judged"), [_strength_point(one) for one, _other in both]),
            Series(_("at equal length and sentence length"), [_strength_point(other) for _one, other in both]),
        ],
        reference=50,
    )
    return Table(
        "scale",
        _("All policies on one scale"),
        _(
            "Bradley-Terry: how likely a policy's story is preferred to one of the base, from all blind comparisons, "
            "with intervals (95 %) over prompts and experts. The last lines: what length alone does, by one standard "
            "deviation."
        ),
        columns,
        rows,
        [chart] if both else [],
        _("No policy has been judged against the base yet."),
    )


def _strength_cell(one: strengths.Strength, *, n: bool = False, link: str = "") -> Cell:
    low, high = one.low, one.high
    shown = f"{100 * one.preferred:.0f} %"
    if low < high:
        shown += f" [{100 * low:.0f}, {100 * high:.0f}]"
    values = (one.preferred, low, high)
    return Cell(shown, (*values, one.n) if n else values, link, f"n = {one.n}" if n else "")


def _strength_point(one: strengths.Strength) -> tuple[float, float | None, float | None, str]:
    return 100 * one.preferred, 100 * one.low, 100 * one.high, f"n = {one.n}"
