"""The forms of who is told of rounds."""

import ipaddress
from typing import Any

from django import forms
from django.conf import settings
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from training import webhooks
from training.models import TOLD, Destination

EVENTS = [(event.value, event.label) for event in TOLD]


def _events(*, required: bool) -> forms.MultipleChoiceField:
    return forms.MultipleChoiceField(
        label=gettext_lazy("told when"), choices=EVENTS, widget=forms.CheckboxSelectMultiple, required=required,
        initial=[value for value, _label in EVENTS],
    )  # fmt: skip


class AddressForm(forms.Form):
    """An admin's own e-mail; no event means none."""

    email = forms.EmailField(label=gettext_lazy("your address"), required=False)
    events = _events(required=False)

    def clean(self) -> dict[str, Any]:
        found = super().clean() or {}
        if found.get("events") and not found.get("email") and "email" not in self.errors:
            self.add_error("email", _("Say where the messages go, or choose none."))
        return found


class WebhookForm(forms.Form):
    url = forms.CharField(
        label=gettext_lazy("address"), max_length=500, widget=forms.URLInput(attrs={"placeholder": "https://"})
    )
    secret = forms.CharField(
        label=gettext_lazy("secret"), required=False, min_length=16, max_length=200,
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
        help_text=gettext_lazy("signs what is sent, 16 characters or more; without one we make one"),
    )  # fmt: skip
    events = _events(required=True)

    def clean_url(self) -> str:
        url: str = self.cleaned_data["url"]
        try:
            _parts, host, _port = webhooks.parts_of(url)
        except webhooks.BadAddress as error:
            raise forms.ValidationError(str(error)) from error
        if not settings.PRIVATE_WEBHOOKS and _is_inside(host):
            raise forms.ValidationError(
                _("This is an address inside a network of its own: STORYLOOP_PRIVATE_WEBHOOKS=true allows such.")
            )
        if Destination.objects.filter(url=url).exists():
            raise forms.ValidationError(_("This address is there already."))
        return url


def _is_inside(host: str) -> bool:
    """As far as it can be seen without asking anybody; a name is looked up when something is sent."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost" or host.endswith((".localhost", ".local", ".internal"))
    return not webhooks.is_public(host)
