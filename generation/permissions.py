"""Who may do what: all predicates, in one place. It stands here because imports run one way, and every app asks.

They are asked of the person and of what it is about, so what they know of experts is what an account says of them.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from django.contrib.auth.models import AnonymousUser, User
from django.core.exceptions import PermissionDenied
from django.db import models
from django.http import Http404, HttpRequest, HttpResponseBase
from django.shortcuts import get_object_or_404
from django_htmx.middleware import HtmxDetails

View = Callable[..., HttpResponseBase]
Person = User | AnonymousUser
Row = TypeVar("Row", bound=models.Model)
OWNERS = ("user_id", "adult_id")  # by which a row says whose it is, unless it is an expert's


class AdminRequest(HttpRequest):
    """What a view behind admin_required is given."""

    user: User
    htmx: HtmxDetails


def is_here(user: Person) -> bool:
    """Logged in, and neither blocked nor gone."""
    return bool(user.is_authenticated and user.is_active)


def is_admin(user: Person) -> bool:
    """Admins launch and promote rounds, invite people and see everything but an answer that they are yet to give."""
    return is_here(user) and user.is_staff


def is_expert(user: Person) -> bool:
    """Experts judge. A simulated expert's account opens no page."""
    expert = getattr(user, "expert", None)
    return is_here(user) and expert is not None and not expert.simulated


def is_adjudicator(user: Person) -> bool:
    """Experts who may be asked to decide where others disagree. On the page they are experts like all others."""
    return is_expert(user) and user.expert.adjudicates  # type: ignore[union-attr]


def may_listen(user: Person) -> bool:
    """Experts and admins listen with children: an account answers for each session."""
    return is_admin(user) or is_expert(user)


def is_owner(user: Person, thing: models.Model) -> bool:
    """Whether `thing` (an answer, a token, a listening session) is this person's own. Being an admin does not make
    it theirs."""
    if not is_here(user):
        return False
    if hasattr(thing, "expert_id"):
        return is_expert(user) and bool(thing.expert_id == user.expert.pk)  # type: ignore[union-attr]
    return any(getattr(thing, name, None) == user.pk for name in OWNERS)


def own_or_404(user: Person, rows: models.QuerySet[Row], **lookup: Any) -> Row:
    """The row, if it is theirs. What is somebody else's is as if it were not there."""
    found = get_object_or_404(rows, **lookup)
    if not is_owner(user, found):
        raise Http404
    return found


def needs_second_factor(user: Person, rule: str) -> bool:
    """Whether the installation's rule (admins, all, none) wants more than a password of them."""
    return is_here(user) and (rule == "all" or (rule == "admins" and user.is_staff))


def allowed(predicate: Callable[[Person], bool]) -> Callable[[View], View]:
    """A decorator: 403 to those of whom `predicate` is not true."""

    def decorate(view: View) -> View:
        @wraps(view)
        def checked(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            if not predicate(request.user):  # type: ignore[arg-type]
                raise PermissionDenied
            return view(request, *args, **kwargs)

        return checked

    return decorate


admin_required = allowed(is_admin)
