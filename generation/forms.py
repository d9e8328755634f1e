"""The admins' form about how stories are drawn."""

from collections.abc import Sequence
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

from generation.models import Policy, SamplingRow
from generation.plan import save_plan

TOP_P = _("Above 0, and 1 at most.")
MIN_P = _("0 or more, and below 1.")
MOST_TOKENS = 1_000_000  # more than any vocabulary has


def above_zero(value: float) -> None:
    if value <= 0:
        raise ValidationError(TOP_P)


def below_one(value: float) -> None:
    if value >= 1:
        raise ValidationError(MIN_P)


def _fraction(label: Any, low: float, high: float, limits: Any, **options: Any) -> forms.FloatField:
    return forms.FloatField(
        label=label,
        min_value=low,
        max_value=high,
        error_messages={"min_value": limits, "max_value": limits},
        widget=forms.NumberInput(attrs={"step": "any"}),
        **options,
    )


def _whole(label: Any, high: int, limits: Any) -> forms.IntegerField:
    said = {"min_value": limits, "max_value": limits}
    return forms.IntegerField(label=label, min_value=0, max_value=high, error_messages=said)


class SamplingRowForm(forms.Form):
    """One place of the plan."""

    temperature = _fraction(_("temperature"), 0, 2, _("0 to 2."))
    top_p = _fraction(_("top-p"), 0, 1, TOP_P, validators=[above_zero])
    top_k = _whole(_("top-k"), MOST_TOKENS, _("0 to 1,000,000."))
    min_p = _fraction(_("min-p"), 0, 1, MIN_P, validators=[below_one])
    repetition_penalty = _fraction(_("repetition penalty"), 1, 2, _("1 to 2."))
    seed = _whole(_("seed"), 999_999, _("0 to 999,999."))


class PlanForm:
    """The whole plan: one SamplingRowForm for each of its rows."""

    def __init__(self, rows: Sequence[SamplingRow], data: Any = None) -> None:
        self.forms = [
            SamplingRowForm(
                data,
                prefix=f"story-{row.sample_index + 1}",
                initial={name: getattr(row, name) for name in SamplingRowForm.base_fields},
            )
            for row in rows
        ]

    def is_valid(self) -> bool:
        return all([form.is_valid() for form in self.forms])  # a list: each row shows its own faults

    def save(self) -> None:
        save_plan(rows=[SamplingRow(sample_index=i, **form.cleaned_data) for i, form in enumerate(self.forms)])


class JudgeForm(forms.Form):
    """Which policy reads stories for their structure and message."""

    judge = forms.ModelChoiceField(Policy.objects.with_weights(), required=False, empty_label=_("none: the rules only"))


class ReadForm(forms.Form):
    """Whose stories the judge is to read."""

    policy = forms.ModelChoiceField(Policy.objects.all(), empty_label=None)
