"""The admins' forms about judging."""

from collections.abc import Sequence
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

from annotate.models import Campaign, Criterion, Expert

NONE_OR_A_SHARE = _("0 for none, or 2 to 1,000: one in so many.")


def none_or_a_share(every: int) -> None:
    """One in one would leave no ordinary work."""
    if every == 1:
        raise ValidationError(NONE_OR_A_SHARE)


class CampaignForm(forms.ModelForm):
    """How judging is set up."""

    criteria = forms.MultipleChoiceField(
        label=_("Also ask which story wins by"),
        choices=Criterion.choices,
        required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text=_("Each takes the expert one more choice. Two or three are plenty."),
    )
    criteria_required = forms.BooleanField(
        label=_("An answer by every criterion is required"),
        required=False,
        help_text=_("Otherwise experts may leave them out."),
    )
    practice = forms.BooleanField(
        label=_("New experts practise first"),
        required=False,
        help_text=_("On the calibration set, with an explanation after each answer."),
    )
    gold_every = forms.IntegerField(
        label=_("A comparison whose answer is known: one in"),
        min_value=0,
        max_value=1000,
        validators=[none_or_a_share],
        help_text=NONE_OR_A_SHARE,
    )
    repeat_every = forms.IntegerField(
        label=_("An earlier comparison again, in another order: one in"),
        min_value=0,
        max_value=1000,
        validators=[none_or_a_share],
        help_text=NONE_OR_A_SHARE,
    )
    evaluation_share = forms.IntegerField(
        label=_("New policy against old: percent of the work"),
        min_value=0,
        max_value=100,
        help_text=_(
            "Blind, and mixed in by chance while there is ordinary work, too. 0: only when nothing else is left; "
            "100: first of all."
        ),
    )
    guidelines_en = forms.CharField(
        label=_("Guidelines in English"),
        required=False,
        max_length=20_000,
        widget=forms.Textarea(attrs={"rows": 8, "lang": "en"}),
        help_text=_("Blank: the guidelines that come with Storyloop."),
    )
    guidelines_zh = forms.CharField(
        label=_("Guidelines in Chinese"),
        required=False,
        max_length=20_000,
        widget=forms.Textarea(attrs={"rows": 8, "lang": "zh-Hans"}),
        help_text=_("Blank: the guidelines that come with Storyloop."),
    )

    class Meta:
        model = Campaign
        fields = (
            "criteria",
            "criteria_required",
            "practice",
            "gold_every",
            "repeat_every",
            "evaluation_share",
            "guidelines_en",
            "guidelines_zh",
        )

    def clean(self) -> dict[str, Any]:
        values = super().clean() or {}
        if values.get("criteria_required") and not values.get("criteria"):
            self.add_error("criteria", _("Tick at least one criterion, or do not require any."))
        shares = [1 / every for every in (values.get("gold_every"), values.get("repeat_every")) if every]
        if sum(shares) > 0.5:
            self.add_error("repeat_every", _("Silent checks would be more than half of the work. Make them rarer."))
        return values


class AdjudicationForm(forms.Form):
    """Who decides a comparison, of those who may."""

    expert = forms.TypedChoiceField(
        label=_("Adjudicator"),
        coerce=int,
        error_messages={
            "invalid_choice": _("This expert cannot decide it any more. Choose another."),
            "required": _("Choose an expert first."),
        },
    )

    def __init__(self, *args: Any, experts: Sequence[Expert], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        choices = [(expert.pk, f"{expert} ({expert.get_audience_display()})") for expert in experts]
        self.fields["expert"].choices = [("", _("choose")), *choices]  # type: ignore[attr-defined]
