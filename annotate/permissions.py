"""Who may see what: readable predicates, and the decorators that ask them."""

from functools import wraps
from typing import Any

from django.contrib.auth.models import AnonymousUser, User
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponseBase

from annotate.models import Expert
from generation.permissions import View, admin_required, is_admin

__all__ = ["ExpertRequest", "View", "admin_required", "expert_of", "expert_required", "is_admin"]


class ExpertRequest(HttpRequest):
    """A request by a logged-in person who judges."""

    user: User
    expert: Expert


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
