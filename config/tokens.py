"""Tokens of the API: made, found by what a request says, revoked."""

import hashlib
import secrets
from datetime import timedelta

from django.contrib.auth.models import User
from django.db import IntegrityError, transaction
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.translation import gettext as _

from config.models import ApiToken

BEGINS = "slt_"  # a token in a log or a commit is known for what it is
SHOWN = 10  # characters
NOTED_EACH = timedelta(minutes=1)  # a row written at each request would be the API's slowest part


class CannotMakeToken(ValueError):
    """The message says why and what to do."""


def make_token(*, user: User, name: str, days: int | None) -> tuple[ApiToken, str]:
    """(row, token). It is the only time that the token is known. days: until it expires; None: never.

    Raises CannotMakeToken.
    """
    name = name.strip()
    if not name or len(name) > 60 or not name.isprintable():
        raise CannotMakeToken(_("Give the token a name of 1 to 60 characters: what will use it, and where."))
    token = BEGINS + secrets.token_urlsafe(32)
    expires_at = None if days is None else timezone.now() + timedelta(days=days)
    try:
        with transaction.atomic():
            made = ApiToken.objects.create(
                user=user, name=name, digest=digest_of(token), prefix=token[:SHOWN], expires_at=expires_at
            )
    except IntegrityError as error:
        raise CannotMakeToken(
            _("There is a token “%(name)s” already: choose another name, or revoke that one first.") % {"name": name}
        ) from error
    return made, token


def find_token(token: str) -> ApiToken | None:
    """The usable row of `token`, with its user; it counts as used now.

    What is looked up is a digest of 256 random bits, so the time that it takes says nothing of any token.
    """
    found = ApiToken.objects.usable().select_related("user").filter(digest=digest_of(token)).first()
    if found and (found.last_used_at is None or found.last_used_at < timezone.now() - NOTED_EACH):
        long_ago = Q(last_used_at=None) | Q(last_used_at__lt=Now() - NOTED_EACH)
        ApiToken.objects.filter(long_ago, pk=found.pk).update(last_used_at=Now())
    return found


def revoke_token(*, token_id: int, user: User) -> bool:
    """Whether it was theirs and in force. It works no more from now on; the record stays."""
    mine = ApiToken.objects.filter(pk=token_id, user=user, revoked_at=None)
    return bool(mine.update(revoked_at=Now()))


def digest_of(token: str) -> str:
    """A token holds 256 random bits: no salt and no slow hash would make it harder to guess."""
    return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()
