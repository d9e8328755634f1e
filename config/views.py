"""Where people land."""

from django.contrib.auth.decorators import login_not_required as public
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_safe

from annotate.permissions import expert_of, is_admin

__all__ = ["home", "public"]


@require_safe
def home(request: HttpRequest) -> HttpResponse:
    """Admins to their rounds, experts to their work."""
    if is_admin(request.user):  # type: ignore[arg-type]
        return redirect("rounds")
    if expert_of(request.user):  # type: ignore[arg-type]
        return redirect("judge")
    return render(request, "no_role.html", status=403)
