"""What of the audit log somebody wants to see."""

from datetime import datetime, time, timedelta
from typing import Any

from django import forms
from django.contrib.auth.models import User
from django.utils import timezone
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from config.audit.words import TYPES, kind_choices
from config.models_audit import AuditEntry, AuditEntryQuerySet

HIGHEST = 2**63 - 1


class DateInput(forms.DateInput):
    input_type = "date"


class FilterForm(forms.Form):
    """All fields may be left empty. Dates are days of the installation's time zone, the last one included."""

    person = forms.CharField(
        label=gettext_lazy("person"), max_length=150, required=False,
        help_text=gettext_lazy("did it, or it was done to their account"),
    )  # fmt: skip
    kind = forms.ChoiceField(label=gettext_lazy("act"), required=False)
    since = forms.DateField(label=gettext_lazy("from this day on"), required=False, widget=DateInput(format="%Y-%m-%d"))
    until = forms.DateField(label=gettext_lazy("up to this day"), required=False, widget=DateInput(format="%Y-%m-%d"))
    type = forms.ChoiceField(label=gettext_lazy("about"), required=False)
    number = forms.IntegerField(label=gettext_lazy("its number"), min_value=1, max_value=HIGHEST, required=False)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        choices = sorted(((name, capfirst(str(one.label))) for name, one in TYPES.items()), key=lambda one: one[1])
        self.fields["kind"].choices = [("", _("all")), *kind_choices()]  # type: ignore[attr-defined]
        self.fields["type"].choices = [("", _("all")), *choices]  # type: ignore[attr-defined]

    def clean_person(self) -> User | None:
        name = self.cleaned_data["person"].strip()
        if not name:
            return None
        found: User | None = User.objects.filter(username__iexact=name).first()
        if found is None:
            raise forms.ValidationError(
                _("There is no account “%(name)s”: write the whole name, as under People.") % {"name": name}
            )
        return found

    def clean(self) -> dict[str, Any]:
        values = super().clean() or {}
        if values.get("number") and not values.get("type"):
            self.add_error("type", _("Say what the number is of."))
        if values.get("since") and values.get("until") and values["since"] > values["until"]:
            self.add_error("until", _("This day is before the first one."))
        return values

    def entries(self) -> AuditEntryQuerySet:
        """Newest first. Call it on a form that is valid."""
        values = self.cleaned_data
        found: AuditEntryQuerySet = AuditEntry.objects.order_by("-at", "-id")
        if values["person"]:
            found = found.about(values["person"].pk)
        exact = {"kind": values["kind"], "object_type": values["type"], "object_id": values["number"]}
        found = found.filter(**{name: value for name, value in exact.items() if value})
        if values["since"]:
            found = found.filter(at__gte=_midnight(values["since"]))
        if values["until"]:
            found = found.filter(at__lt=_midnight(values["until"] + timedelta(days=1)))
        return found


def _midnight(day: Any) -> datetime:
    return timezone.make_aware(datetime.combine(day, time.min))
