"""The forms of schedules and of the promotion rule."""

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from training.models import WEEKDAYS, Act, AgreementBy, PromotionRule, Round, Schedule, SettingsOf, When


class ScheduleForm(forms.ModelForm):
    """What does not belong to the choice that was made is not asked for, and is put away."""

    weekdays = forms.TypedMultipleChoiceField(
        label=_("on"), choices=WEEKDAYS, coerce=int, required=False, widget=forms.CheckboxSelectMultiple
    )

    every_minutes = forms.IntegerField(label=_("every … minutes"), min_value=1, required=False, initial=60)
    min_new_pairs = forms.IntegerField(label=_("when there are at least this many new pairs"), min_value=1, initial=200)

    class Meta:
        model = Schedule
        fields = (
            "name", "enabled", "when", "weekdays", "at", "every_minutes", "min_new_pairs", "agreement_by",
            "agreement_floor", "only_when_free", "act", "settings_of", "settings_round", "include_simulated",
        )  # fmt: skip
        widgets = {"at": forms.TimeInput(attrs={"type": "time"}, format="%H:%M")}  # noqa: RUF012  Django's own way

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["agreement_floor"].widget.attrs["step"] = "any"
        rounds: Any = self.fields["settings_round"]
        rounds.queryset = Round.objects.all()
        rounds.label_from_instance = lambda one: _("Round %(number)d") % {"number": one.number}

    def clean(self) -> dict[str, Any]:
        found = super().clean() or {}
        self._clean_when(found)
        self._clean_agreement(found)
        if found.get("settings_of") != SettingsOf.ROUND:
            found["settings_round"] = None
        elif not found.get("settings_round") and "settings_round" not in self.errors:
            self.add_error("settings_round", _("Choose the round whose settings are taken."))
        if found.get("act") == Act.LAUNCH:
            found["only_when_free"] = True
        return found

    def _clean_when(self, found: dict[str, Any]) -> None:
        if found.get("when") != When.WEEKLY:
            found["weekdays"], found["at"] = [], None
            if not found.get("every_minutes") and "every_minutes" not in self.errors:
                self.add_error("every_minutes", _("Say how many minutes lie between two looks."))
            return
        found["every_minutes"] = found.get("every_minutes") or self.instance.every_minutes
        if not found.get("weekdays") and "weekdays" not in self.errors:
            self.add_error("weekdays", _("Choose at least one day."))
        if not found.get("at") and "at" not in self.errors:
            self.add_error("at", _("Say a time, like 02:00."))

    def _clean_agreement(self, found: dict[str, Any]) -> None:
        by, floor = found.get("agreement_by"), found.get("agreement_floor")
        if not by:
            found["agreement_floor"] = None
        elif floor is None and "agreement_floor" not in self.errors:
            self.add_error("agreement_floor", _("Say how high the agreement has to be."))
        elif floor is not None:
            low, high = (-1, 1) if by == AgreementBy.ALPHA else (0, 100)
            if not low <= floor <= high:
                self.add_error(
                    "agreement_floor", _("Say %(low)d to %(high)d for this measure.") % {"low": low, "high": high}
                )


class PromotionRuleForm(forms.ModelForm):
    class Meta:
        model = PromotionRule
        fields = ("automatic", "include_simulated")
