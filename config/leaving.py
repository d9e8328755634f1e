"""What is stored about a person, for themselves; and leaving, which keeps what they judged and forgets who they are."""

from typing import Any

from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import F
from django.utils.translation import gettext as _

from annotate.models import Expert, Listening
from annotate.own_data import forget_drafts, own_data
from config.accounts import end_sessions
from config.models import ApiAnswer, ApiToken, AuditEntry, Invitation
from training.models import Destination

FORMER = "former-"


class CannotLeave(ValueError):
    """The message says why and what to do."""


def personal_data(user: User) -> dict[str, Any]:
    """JSON-like: all that is stored about the person, but of passwords and tokens only that there are some."""
    expert: Expert | None = getattr(user, "expert", None)
    addresses = Destination.objects.filter(user=user)
    return {
        "account": {
            "name": user.username,
            "e-mail": user.email,
            "admin": user.is_staff,
            "made_at": user.date_joined,
            "last_login": user.last_login,
            "e-mail_addresses": list(EmailAddress.objects.filter(user=user).values("email", "verified")),
            "second_factors": list(
                Authenticator.objects.filter(user=user).values("type", "created_at", "last_used_at")
            ),
            "api_tokens": list(user.api_tokens.values("name", "prefix", "created_at", "last_used_at", "expires_at")),
            "invitation": Invitation.objects.filter(used_by=user).values("note", "email", "used_at").first(),
            "messages": list(addresses.values("events", "language", "since")),
        },
        "expert": own_data(expert) if expert else None,
        "audit_log": list(AuditEntry.objects.about(user.pk).values(*LOGGED, act=F("kind"))),
        "listening_sessions": [
            {**session, "listenings": list(Listening.objects.filter(session__key=session["key"]).values(*HEARD))}
            for session in user.listening_sessions.values("key", "language", "age_band", "read_by", "consented_at")
        ],
    }  # fmt: skip


LOGGED = ("at", "source", "through", "object_type", "object_id", "facts")
HEARD = ("number", "outcome", "answered_at", "engagement_first", "engagement_second", "understood_who",
         "understood_end", "noted_at")  # fmt: skip


@transaction.atomic
def leave(*, user_id: int) -> None:
    """Forget who the person is: name, address, password, tokens, second factors, sessions, drafts. Their judgements
    stay, under the pseudonym that exports have always given them. Raises CannotLeave."""
    # read first, and in one order: two admins who leave at once wait here, and one of them stays
    admins = {one.pk for one in User.objects.select_for_update().filter(is_staff=True, is_active=True).order_by("pk")}
    user = User.objects.select_for_update().get(pk=user_id)
    if admins == {user.pk}:
        raise CannotLeave(_("You are the only admin. Invite another one first, or nobody could run this installation."))
    end_sessions(user)
    for theirs in (
        ApiToken.objects.filter(user=user),
        ApiAnswer.objects.filter(user=user),
        EmailAddress.objects.filter(user=user),
        Authenticator.objects.filter(user=user),
        Destination.objects.filter(user=user),
    ):
        theirs.delete()
    Invitation.objects.filter(used_by=user).update(note="", email="")
    expert: Expert | None = getattr(user, "expert", None)
    if expert:
        forget_drafts(expert)
    user.username = f"{FORMER}{user.pk}"
    user.email = user.first_name = user.last_name = ""
    user.is_active = user.is_staff = user.is_superuser = False
    user.last_login = None
    user.set_unusable_password()
    user.save()
