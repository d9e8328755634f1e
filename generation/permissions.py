"""Who may see the admins' pages. It stands here because imports run one way, and every app has such pages."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib.auth.models import AnonymousUser, User
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponseBase
from django_htmx.middleware import HtmxDetails

View = Callable[..., HttpResponseBase]


class AdminRequest(HttpRequest):
    """What a view behind admin_required is given."""

    user: User
    htmx: HtmxDetails


def is_admin(user: User | AnonymousUser) -> bool:
    """Admins launch and promote rounds."""
    return bool(user.is_authenticated and user.is_active and user.is_staff)


def admin_required(view: View) -> View:
    @wraps(view)
    def checked(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not is_admin(request.user):  # type: ignore[arg-type]
            raise PermissionDenied
        return view(request, *args, **kwargs)

    return checked
