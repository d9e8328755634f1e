"""The predicates of generation/permissions.py on the pages of those who judge."""

from functools import wraps
from typing import Any

from django.contrib.auth.models import AnonymousUser, User
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponseBase

from annotate.models import Expert
from generation.permissions import AdminRequest, View, admin_required, allowed, is_admin, is_expert, may_listen

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
    return user.expert if is_expert(user) else None  # type: ignore[union-attr]


def expert_required(view: View) -> View:
    @wraps(view)
    def checked(request: ExpertRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        expert = expert_of(request.user)
        if expert is None:
            raise PermissionDenied
        request.expert = expert
        return view(request, *args, **kwargs)

    return checked


adult_required = allowed(may_listen)
