"""Who judged how much, and how far the judgements can be trusted."""

from datetime import timedelta

from django.db.models import Count, Q
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _

from annotate import position
from annotate.agreement import Estimate, agreement
from annotate.models import Expert, Kind, Purpose
from annotate.newest import NEWEST
from annotate.trust import Share, expert_records
from training import tables
from training.tables import Cell, Column, Table

RECENT = timedelta(days=30)


def trust_table() -> Table:
    """Can the judgements be trusted? People and simulated experts apart."""
    columns = [
        Column(_("by"), ("by",), number=False),
        Column(_("Krippendorff's alpha"), ("alpha", "alpha_low", "alpha_high", "story_pairs")),
        Column(_("two votes agree"), ("agreement", "agreement_low", "agreement_high")),
        Column(_("labels flipped"), ("flipped", "flipped_low", "flipped_high")),
        Column(_("same order again"), ("consistent", "consistent_n")),
        Column(_("known answers"), ("gold", "gold_n")),
        Column(_("best was shown first"), ("first", "first_by_chance", "first_n", "first_p")),
    ]
    rows = [row for simulated in (False, True) if (row := _trust_row(simulated=simulated))]
    caption = _(
        "Of the newest %(n)d judgements. Alpha: 1 is full agreement, 0 is chance; taste differs, and 0.2 to 0.5 is "
        "usual for stories. Two votes on the same two stories, ties left out. Flipped: the share of single votes on "
        "the wrong side that would explain the disagreement, were it all error."
    ) % {"n": NEWEST}
    empty = _("No two experts have ranked the same stories yet.")
    return Table("trust", _("Can the judgements be trusted?"), caption, columns, rows, (), empty)


def _trust_row(*, simulated: bool) -> list[Cell] | None:
    experts = Expert.objects.filter(simulated=simulated).select_related("user")
    records = expert_records(experts)
    found = agreement(simulated=simulated)
    bias = position.position_bias(simulated=simulated)
    if not any(record.judgements for record in records):
        return None
    n = _("n = %(n)d pairs of stories") % {"n": found.pairs}
    leaning = sum(record.leans for record in records)
    return [
        tables.text(_("simulated experts") if simulated else _("people"), link=reverse("experts")),
        _estimate(found.alpha, (found.pairs,), n, link=reverse("disagreements")),
        _estimate(found.share, percent=True),
        _estimate(found.flipped, percent=True),
        _share([record.consistency for record in records], link=reverse("experts")),
        _share([record.gold for record in records], link=reverse("gold")),
        _position(bias, leaning),
    ]


def _estimate(
    found: Estimate | None, more: tuple[int, ...] = (), note: str = "", *, percent: bool = False, link: str = ""
) -> Cell:
    if found is None:
        return Cell(_("not enough yet"), (None, None, None, *more), note=note)
    numbers = (found.value, found.low, found.high)
    value, low, high = (f"{100 * n:.0f}" if percent else f"{n:.2f}" for n in numbers)
    return Cell(f"{value}{' %' if percent else ''} [{low}, {high}]", (*numbers, *more), link, note)


def _share(found: list[Share], *, link: str) -> Cell:
    together = Share(sum(share.hits for share in found), sum(share.n for share in found))
    shown = f"{together.percent} %" if together.enough else _("not enough yet")
    return Cell(shown, (together.hits / together.n if together.n else None, together.n), link, f"n = {together.n}")


def _position(bias: position.PositionBias, leaning: int) -> Cell:
    values = (bias.first_share, bias.first_by_chance, bias.n, bias.p)
    if bias.p is None:
        return Cell(_("not enough yet"), values, note=f"n = {bias.n}")
    said = [_("by chance %(share).0f %%") % {"share": 100 * bias.first_by_chance}, f"n = {bias.n}", f"p = {bias.p:.2g}"]
    if leaning:
        said.append(_("experts who lean: %(n)d") % {"n": leaning})
    return Cell(f"{100 * bias.first_share:.0f} %", values, note=", ".join(said), tag="alarm" if bias.leans else "")


def work_table() -> Table:
    """Who judged how much."""
    counted = Q(assignments__judgement__isnull=False, assignments__kind__in=[Kind.ORDINARY, Kind.ADJUDICATION])
    experts = (
        Expert.objects.select_related("user")
        .annotate(
            all=Count("assignments", filter=counted),
            recent=Count("assignments", filter=counted & Q(assignments__answered_at__gte=timezone.now() - RECENT)),
            blind=Count("assignments", filter=counted & Q(assignments__comparison__purpose=Purpose.EVALUATION)),
        )
        .filter(all__gt=0)
        .order_by("simulated", "-all", "pk")
    )
    link = reverse("experts")
    rows = [
        [
            tables.text(str(expert), link=link, tag="simulated" if expert.simulated else ""),
            tables.text(expert.get_audience_display()),
            tables.number(expert.all),
            tables.number(expert.recent),
            tables.number(expert.blind),
        ]
        for expert in experts
    ]
    columns = [
        Column(_("expert"), ("expert",), number=False),
        Column(_("audience"), ("audience",), number=False),
        Column(_("judgements"), ("judgements",)),
        Column(_("in the last 30 days"), ("last_30_days",)),
        Column(_("of them new against old"), ("new_against_old",)),
    ]
    caption = _("Without silent checks.")
    return Table("work", _("Who judged how much"), caption, columns, rows, (), _("Nobody has judged yet."))
