"""What an account may be called, and what password it may have."""

from typing import Any

from django import forms
from django.contrib.auth import password_validation
from django.contrib.auth.models import User
from django.contrib.auth.validators import UnicodeUsernameValidator
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

RESERVED = ("former-", "simulated-", "bench-")  # people who left, and those who are none


class NameField(forms.CharField):
    def __init__(self) -> None:
        super().__init__(
            label=gettext_lazy("Name"), max_length=150, validators=[UnicodeUsernameValidator()],
            help_text=gettext_lazy("to log in with; admins see it beside what you judge"),
        )  # fmt: skip
        self.widget.attrs |= {"autocomplete": "username", "autocapitalize": "none", "spellcheck": "false"}


def password_field(label: Any) -> forms.CharField:
    """Of a new password, as it is typed: not stripped and not cut."""
    widget = forms.PasswordInput(attrs={"autocomplete": "new-password"})
    return forms.CharField(label=label, strip=False, widget=widget)


def check_name(name: str, *, of: User | None = None) -> str:
    """`name`, if an account may have it. Raises ValidationError."""
    name = User.normalize_username(name)
    if name.lower().startswith(RESERVED):
        raise ValidationError(_("Names that begin with “%(begin)s” are kept for others.") % {
            "begin": next(begin for begin in RESERVED if name.lower().startswith(begin))
        })  # fmt: skip
    # two names that differ in capitals only would be taken for one person
    others = User.objects.exclude(pk=of.pk) if of else User.objects.all()
    if others.filter(username__iexact=name).exists():
        raise ValidationError(_("Somebody has this name already: choose another."))
    return name


class NewPasswordMixin(forms.Form):
    """Two fields, password and password_again, that must be the same and pass the installation's rules."""

    def password_owner(self) -> User:
        """Whose password it is to be: some rules ask."""
        raise NotImplementedError

    def clean(self) -> dict[str, object]:
        values = super().clean() or {}
        password, again = values.get("password"), values.get("password_again")
        if password and again and password != again:
            self.add_error("password_again", _("The two passwords differ."))
        elif password:
            try:
                password_validation.validate_password(password, self.password_owner())
            except ValidationError as error:
                self.add_error("password", error)
        return values
