"""Invitations: made, revoked, accepted once."""

import secrets
from datetime import timedelta

from django.conf import settings
from django.contrib.auth.models import User
from django.db import IntegrityError, transaction
from django.db.models.functions import Now
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _

from annotate.models import Expert
from config.models import Invitation, InvitedAs
from config.tokens import digest_of


class InvitationOver(ValueError):
    """It has been used, or revoked, or its time is over; the message says so to who has the link."""


class NameTaken(ValueError):
    """Somebody else has this name."""


def make_invitation(
    *, role: str, audience: str = "", email: str = "", note: str = "", days: int, by: User | None
) -> tuple[Invitation, str]:
    """(row, token). It is the only time that the token is known. days: until it expires."""
    token = secrets.token_urlsafe(32)
    made = Invitation.objects.create(
        role=role,
        audience="" if role == InvitedAs.ADMIN else audience,
        email=email.strip().lower(),
        note=note.strip(),
        digest=digest_of(token),
        made_by=by,
        expires_at=timezone.now() + timedelta(days=days),
    )
    return made, token


def link_of(token: str, *, site: str = "") -> str:
    """What is sent to who is invited. site: where the pages are, unless STORYLOOP_URL says so."""
    return (settings.SITE_URL or site) + reverse("open_invitation", args=[token])


def find_invitation(token: str) -> Invitation | None:
    """The usable one of `token`. What is looked up is a digest of 256 random bits: the time tells nothing."""
    return Invitation.objects.usable().filter(digest=digest_of(token)).first()


def revoke_invitation(*, number: int) -> bool:
    """Whether there was something to revoke."""
    open_one = Invitation.objects.filter(pk=number, used_at=None, revoked_at=None)
    return bool(open_one.update(revoked_at=Now()))


@transaction.atomic
def accept_invitation(*, token: str, name: str, password: str, email: str = "") -> User:
    """Make the account. Of several who come at once, one gets it. Raises InvitationOver, NameTaken."""
    invitation = find_invitation(token)
    if invitation is None:
        raise InvitationOver(_("This invitation has been used, or is no longer in force."))
    try:
        with transaction.atomic():
            user = User.objects.create_user(
                name, invitation.email or email, password, is_staff=invitation.role == InvitedAs.ADMIN
            )
    except IntegrityError as error:
        raise NameTaken(_("Somebody has this name already: choose another.")) from error
    # the row's lock is the gate: the second of two waits here, and finds it used
    used = Invitation.objects.usable().filter(pk=invitation.pk).update(used_at=Now(), used_by=user)
    if not used:
        raise InvitationOver(_("This invitation has been used, or is no longer in force."))
    if invitation.role != InvitedAs.ADMIN:
        adjudicates = invitation.role == InvitedAs.ADJUDICATOR
        Expert.objects.create(user=user, audience=invitation.audience, adjudicates=adjudicates)
    return user
