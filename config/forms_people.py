"""Forms by which admins let people in and say what they may do."""

from typing import Any

from django import forms
from django.conf import settings
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from annotate.models import Audience
from config.models import InvitedAs
from config.people import Part

DAYS = [("1", gettext_lazy("one day")), ("7", gettext_lazy("one week")), ("30", gettext_lazy("30 days"))]


class InvitationForm(forms.Form):
    role = forms.ChoiceField(label=gettext_lazy("comes as"), choices=InvitedAs.choices)
    audience = forms.ChoiceField(
        label=gettext_lazy("audience"), choices=Audience.choices, required=False,
        help_text=gettext_lazy("for whom they judge; admins have none"),
    )  # fmt: skip
    note = forms.CharField(
        label=gettext_lazy("for whom"), max_length=100, required=False,
        help_text=gettext_lazy("only admins see it, such as “Ms Li, class 2b”"),
    )  # fmt: skip
    email = forms.EmailField(
        label=gettext_lazy("e-mail"), required=False,
        help_text=gettext_lazy("if given, only who knows this address can use the link"),
    )  # fmt: skip
    days = forms.ChoiceField(label=gettext_lazy("works for"), choices=DAYS, initial="7")
    send = forms.BooleanField(
        label=gettext_lazy("send the link"), required=False, initial=True,
        help_text=gettext_lazy("to the e-mail address, if one is given"),
    )  # fmt: skip

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not settings.MAIL_SERVER:
            del self.fields["send"]

    def clean(self) -> dict[str, Any]:
        values = super().clean() or {}
        if values.get("role") != InvitedAs.ADMIN and not values.get("audience"):
            self.add_error("audience", _("Say for whom they judge."))
        return values


class PartForm(forms.Form):
    audience = forms.ChoiceField(
        label=gettext_lazy("judges as"), choices=[("", gettext_lazy("nobody: no expert")), *Audience.choices],
        required=False,
    )  # fmt: skip
    adjudicates = forms.BooleanField(
        label=gettext_lazy("adjudicator"), required=False,
        help_text=gettext_lazy("may be asked to decide where experts disagree strongly"),
    )  # fmt: skip
    admin = forms.BooleanField(
        label=gettext_lazy("admin"), required=False,
        help_text=gettext_lazy("sees everything, launches and promotes rounds, invites people"),
    )  # fmt: skip
    active = forms.BooleanField(
        label=gettext_lazy("may log in"), required=False,
        help_text=gettext_lazy("without it the account is blocked; its judgements stay"),
    )  # fmt: skip

    def part(self) -> Part:
        return Part(**self.cleaned_data)
