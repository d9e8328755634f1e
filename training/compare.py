"""Two rounds side by side: what they were told to do, and what came of it."""

from collections.abc import Callable
from dataclasses import dataclass

from django.utils.formats import date_format
from django.utils.text import capfirst
from django.utils.timezone import localtime
from django.utils.translation import gettext as _

from annotate.winrates import win_rate
from generation.models import Policy
from training import tables
from training.described import lines_of
from training.models import Round, RoundMetric


@dataclass(frozen=True)
class Row:
    """One line of the comparison; what is not known is "–"."""

    label: str
    a: str
    b: str

    @property
    def differs(self) -> bool:
        return self.a != self.b


def settings_rows(a: Round, b: Round) -> list[Row]:
    """Every setting that a round has, in words."""
    lines = zip(lines_of(a), lines_of(b), strict=True)  # the same settings in the same order
    return [Row(capfirst(ours.label), ours.value, theirs.value) for ours, theirs in lines]


def figure_rows(a: Round, b: Round) -> list[Row]:
    """What they were made of, and what came of it."""
    rows = [Row(label, say(a), say(b)) for label, say in _record()]
    rows += [Row(label, *(_of_metric(one, name, held_out=held) for one in (a, b))) for label, name, held in _metrics()]
    return [*rows, *(Row(label, rate(a), rate(b)) for label, rate in _rates())]


def _record() -> list[tuple[str, Callable[[Round], str]]]:
    return [
        (_("State"), lambda one: one.get_state_display()),
        (_("From"), lambda one: str(one.policy)),
        (_("Lineage"), lambda one: " ← ".join(str(policy) for policy in one.policy.lineage())),
        (_("Made"), lambda one: str(one.result or "–")),
        (_("Pairs"), lambda one: str(one.pair_count or "–")),
        (_("SHA-256 of the pairs"), lambda one: one.export_sha256[:12] or "–"),
        (_("Begun"), lambda one: date_format(localtime(one.created_at), "Y-m-d H:i")),
        (_("Steps"), lambda one: str(one.metrics.trained().count() or "–")),
        (_("Alarms"), lambda one: ", ".join(str(alarm.get_kind_display()) for alarm in one.alarms.all()) or "–"),
    ]


def _metrics() -> list[tuple[str, str, bool]]:
    """(label, column, held out): of the last step."""
    held_out = _("held out")
    return [
        ("loss", "loss", False),
        (f"loss, {held_out}", "loss", True),
        (f"rewards/accuracies, {held_out}", "rewards_accuracies", True),
        (f"rewards/margins, {held_out}", "rewards_margins", True),
        (f"KL, {held_out}", "kl", True),
    ]


def _of_metric(shown: Round, name: str, *, held_out: bool) -> str:
    found: RoundMetric | None = shown.metrics.filter(held_out=held_out).last()
    return "–" if found is None else f"{getattr(found, name):.3f}"


def _rates() -> list[tuple[str, Callable[[Round], str]]]:
    return [
        (_("Win rate against the policy before"), lambda one: _rate(one, one.policy)),
        (_("Win rate against the base"), lambda one: _rate(one, one.policy.lineage()[-1])),
    ]


def _rate(shown: Round, baseline: Policy) -> str:
    if shown.result is None:
        return "–"
    found = win_rate(shown.result, baseline, people=not shown.include_simulated)
    return f"{tables.rate_text(found)}, {tables.rate_note(found)}"
