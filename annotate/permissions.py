"""Who may see what: readable predicates, and the decorators that ask them."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib.auth.models import AnonymousUser, User
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponseBase

from annotate.models import Expert

View = Callable[..., HttpResponseBase]


class ExpertRequest(HttpRequest):
    """A request by a logged-in person who judges."""

    user: User
    expert: Expert


def is_admin(user: User | AnonymousUser) -> bool:
    """Admins launch and promote rounds."""
    return bool(user.is_authenticated and user.is_active and user.is_staff)


def expert_of(user: User | AnonymousUser) -> Expert | None:
    """The person's expert, if they judge."""
    expert: Expert | None = getattr(user, "expert", None)
    return expert if expert and not expert.simulated else None


def admin_required(view: View) -> View:
    @wraps(view)
    def checked(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not is_admin(request.user):  # type: ignore[arg-type]
            raise PermissionDenied
        return view(request, *args, **kwargs)

    return checked


def expert_required(view: View) -> View:
    @wraps(view)
    def checked(request: ExpertRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        expert = expert_of(request.user)
        if expert is None:
            raise PermissionDenied
        request.expert = expert
        return view(request, *args, **kwargs)

    return checked
