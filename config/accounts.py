"""Who is logged in, and what allauth is told of this installation."""

from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from allauth.account.signals import password_reset
from allauth.mfa.models import Authenticator
from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.db.models import Exists, OuterRef
from django.dispatch import receiver
from django.http import HttpRequest

FACTORS = (Authenticator.Type.TOTP, Authenticator.Type.WEBAUTHN)  # recovery codes alone are none


class AccountBackend(ModelBackend):
    """As Django's, but a person comes with their expert and whether they have a second factor: pages ask for all of
    it, and one query is enough."""

    def get_user(self, user_id: int) -> User | None:
        users = get_user_model().objects.select_related("expert")
        if settings.SECOND_FACTOR != "none":
            factors = Authenticator.objects.filter(user=OuterRef("pk"), type__in=FACTORS)
            users = users.annotate(with_second_factor=Exists(factors))
        user = users.filter(pk=user_id).first()
        return user if user and self.user_can_authenticate(user) else None


class AccountAdapter(DefaultAccountAdapter):
    """Nobody signs up by themselves: accounts come from invitations (config/invitations.py)."""

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        return False

    def _get_login_attempts_cache_key(self, request: HttpRequest, **credentials: Any) -> str:
        """Tries are counted by name, whatever name of the server they are sent to."""
        return str(credentials.get("email", credentials.get("username", ""))).lower()


def has_second_factor(user: User) -> bool:
    known = getattr(user, "with_second_factor", None)
    return Authenticator.objects.filter(user=user, type__in=FACTORS).exists() if known is None else bool(known)


def end_sessions(user: User) -> int:
    """How many were ended. Sessions name their user only inside, so that all are read: some 30 µs for each."""
    mine = [one.pk for one in Session.objects.iterator() if one.get_decoded().get("_auth_user_id") == str(user.pk)]
    return Session.objects.filter(pk__in=mine).delete()[0]


@receiver(password_reset)
def forget_wrong_passwords(request: HttpRequest, user: User, **_: Any) -> None:
    """Who has just set a new password has not to wait for the tries with the old one."""
    AccountAdapter(request)._delete_login_attempts_cached_email(request, username=user.get_username())
