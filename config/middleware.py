"""Logging in before anything else, without losing what a page holds."""

from django.conf import settings
from django.contrib.auth import middleware
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, resolve_url


class LoginRequiredMiddleware(middleware.LoginRequiredMiddleware):
    """As Django's, but somebody whose session has ended is not sent where they cannot come from.

    htmx gets 401 and keeps its page; a form's POST leads to the log-in page without a `next` that
    takes POST only.
    """

    def handle_no_permission(self, request: HttpRequest, view_func: object) -> HttpResponseBase:  # type: ignore[override]
        if request.headers.get("HX-Request"):
            return HttpResponse(status=401)
        if request.method not in ("GET", "HEAD"):
            return redirect(resolve_url(settings.LOGIN_URL))
        return super().handle_no_permission(request, view_func)  # type: ignore[arg-type]
