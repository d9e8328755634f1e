"""What admins change of other people's accounts."""

from dataclasses import dataclass

from allauth.account.forms import default_token_generator
from allauth.account.utils import user_pk_to_url_str
from allauth.mfa.models import Authenticator
from django.conf import settings
from django.contrib.auth.models import User
from django.db import models, transaction
from django.db.models import Exists, OuterRef, Q
from django.urls import reverse
from django.utils.translation import gettext as _

from annotate.models import Expert
from config.accounts import FACTORS, end_sessions
from config.leaving import FORMER


class CannotChange(ValueError):
    """The message says why and what to do."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """What somebody may do. audience: "" for who does not judge."""

    admin: bool
    audience: str
    adjudicates: bool
    active: bool


def people(search: str = "") -> models.QuerySet[User]:
    """Those with an account, without simulated experts and those who left; admins first. search: in name or address."""
    factors = Authenticator.objects.filter(user=OuterRef("pk"), type__in=FACTORS)
    found = User.objects.exclude(expert__simulated=True).exclude(username__startswith=FORMER)
    found = found.select_related("expert").annotate(with_second_factor=Exists(factors))
    if search:
        found = found.filter(Q(username__icontains=search) | Q(email__icontains=search))
    return found.order_by("-is_active", "-is_staff", "username")


def part_of(user: User) -> Part:
    expert: Expert | None = getattr(user, "expert", None)
    return Part(
        admin=user.is_staff,
        audience=expert.audience if expert else "",
        adjudicates=bool(expert and expert.adjudicates),
        active=user.is_active,
    )


@transaction.atomic
def change_part(*, user_id: int, part: Part, by: User) -> User:
    """Set what somebody may do; who is blocked or loses the admins' part is logged out. Raises CannotChange."""
    admins = User.objects.select_for_update().filter(is_staff=True, is_active=True).order_by("pk")
    here = {one.pk for one in admins}
    user = User.objects.select_for_update().get(pk=user_id)
    stays_admin = part.admin and part.active
    if user.pk in here and not stays_admin and here == {user.pk}:
        raise CannotChange(_("This is the only admin. Make somebody else one first."))
    if user.pk == by.pk and not stays_admin:
        raise CannotChange(_("You cannot take your own part away: ask another admin."))
    expert = Expert.objects.filter(user=user).first()
    if expert and not part.audience:
        raise CannotChange(_("Who has judged stays an expert: block the account instead."))
    if part.audience:
        values = {"audience": part.audience, "adjudicates": part.adjudicates}
        Expert.objects.update_or_create(user=user, defaults=values)
    ended = (user.is_staff and not stays_admin) or (user.is_active and not part.active)
    user.is_staff, user.is_active = part.admin, part.active
    user.is_superuser = user.is_superuser and part.admin
    user.save(update_fields=["is_staff", "is_active", "is_superuser"])
    if ended:
        end_sessions(user)
    return user


def reset_link(user: User, *, site: str = "") -> str:
    """A link by which `user` sets a new password, once. It does not log in, and leaves the second factor."""
    key = f"{user_pk_to_url_str(user)}-{default_token_generator.make_token(user)}"
    uid, token = key.split("-", 1)
    return (settings.SITE_URL or site) + reverse(
        "account_reset_password_from_key", kwargs={"uidb36": uid, "key": token}
    )


@transaction.atomic
def remove_second_factors(*, user: User) -> bool:
    """For who has lost their phone and their codes. Whether there were any; sessions end with them."""
    gone, _by_model = Authenticator.objects.filter(user=user).delete()
    if gone:
        end_sessions(user)
    return bool(gone)
