"""Who may see what: readable predicates, and the decorators that ask them."""

from functools import wraps
from typing import Any

from django.contrib.auth.models import AnonymousUser, User
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponseBase

from annotate.models import Expert
from generation.permissions import AdminRequest, View, admin_required, is_admin

__all__ = [
    "AdminRequest",
    "AdultRequest",
    "ExpertRequest",
    "View",
    "admin_required",
    "adult_required",
    "expert_of",
    "expert_required",
    "is_admin",
    "may_listen",
]


class ExpertRequest(HttpRequest):
    """A request by a logged-in person who judges."""

    user: User
    expert: Expert


class AdultRequest(HttpRequest):
    """A request by somebody who may listen to stories with a child."""

    user: User


def expert_of(user: User | AnonymousUser) -> Expert | None:
    """The person's expert, if they judge."""
    expert: Expert | None = getattr(user, "expert", None)
    return expert if expert and not expert.simulated else None


def expert_required(view: View) -> View:
    @wraps(view)
    def checked(request: ExpertRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        expert = expert_of(request.user)
        if expert is None:
            raise PermissionDenied
        request.expert = expert
        return view(request, *args, **kwargs)

    return checked


def may_listen(user: User | AnonymousUser) -> bool:
    """Experts and admins listen with children: an account answers for each session."""
    return is_admin(user) or expert_of(user) is not None


def adult_required(view: View) -> View:
    @wraps(view)
    def checked(request: AdultRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not may_listen(request.user):
            raise PermissionDenied
        return view(request, *args, **kwargs)

    return checked
