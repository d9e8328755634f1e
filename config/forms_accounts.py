"""Forms of people's own accounts."""

import hashlib
from typing import Any

from allauth.core.internal.cryptokit import normalize_user_code
from allauth.mfa import app_settings as mfa_settings
from allauth.mfa.adapter import get_adapter
from allauth.mfa.base.forms import AuthenticateForm, ReauthenticateForm
from django import forms
from django.contrib.auth.models import User
from django.core.cache import cache
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from config.models import Invitation
from config.names import NameField, NewPasswordMixin, check_name, password_field


class LogInForm(forms.Form):
    username = forms.CharField(max_length=150)
    password = forms.CharField(strip=False, widget=forms.PasswordInput)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["username"].widget.attrs |= {
            "autofocus": True, "autocomplete": "username", "autocapitalize": "none", "spellcheck": "false",
        }  # fmt: skip
        self.fields["password"].widget.attrs["autocomplete"] = "current-password"


class _OnceMixin(forms.Form):
    """allauth remembers a code for one period; with a tolerance it would be good for three."""

    user: User

    def clean_code(self) -> str:
        code: str = super().clean_code()  # type: ignore[misc]
        digest = hashlib.sha256(normalize_user_code(code).encode()).hexdigest()
        seconds = mfa_settings.TOTP_PERIOD * (2 * mfa_settings.TOTP_TOLERANCE + 1)
        if not cache.add(f"code-used:{self.user.pk}:{digest}", True, seconds):
            raise get_adapter().validation_error("incorrect_code")
        return code


class CodeForm(_OnceMixin, AuthenticateForm):
    """The second step of logging in."""


class CodeAgainForm(_OnceMixin, ReauthenticateForm):
    """Before something about the account is changed."""


class AcceptForm(NewPasswordMixin):
    """Who comes by an invitation. One that is bound to an address asks for it, and does not say it."""

    username = NameField()
    email = forms.EmailField(label=gettext_lazy("E-mail"), required=False)
    password = password_field(gettext_lazy("Password"))
    password_again = password_field(gettext_lazy("Password, again"))

    def __init__(self, *args: Any, invitation: Invitation, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.invitation = invitation
        email = self.fields["email"]
        email.widget.attrs["autocomplete"] = "email"
        email.required = bool(invitation.email)
        email.help_text = (
            _("the address that the invitation was made for")
            if invitation.email
            else _("may be left out; a forgotten password is then reset by an admin")
        )
        self.fields["password"].help_text = _("12 characters or more; several words are easy to keep in mind")

    def clean_username(self) -> str:
        return check_name(self.cleaned_data["username"])

    def clean_email(self) -> str:
        email = str(self.cleaned_data["email"]).lower()
        if self.invitation.email and email != self.invitation.email:
            raise ValidationError(_("This invitation is for another address. Ask the person who invited you."))
        if email and User.objects.filter(email__iexact=email).exists():
            raise ValidationError(_("An account has this address already: log in with that one."))
        return email

    def password_owner(self) -> User:
        return User(username=self.cleaned_data.get("username", ""), email=self.cleaned_data.get("email", ""))


class NameForm(forms.Form):
    username = NameField()

    def __init__(self, *args: Any, user: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.initial["username"] = user.username
        self.user = user

    def clean_username(self) -> str:
        return check_name(self.cleaned_data["username"], of=self.user)


class LeaveForm(forms.Form):
    password = forms.CharField(
        label=gettext_lazy("Your password"), strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "current-password"}),
    )  # fmt: skip
    sure = forms.BooleanField(label=gettext_lazy("I know that this cannot be undone"))
