"""Logging in before anything else, without losing what a page holds."""

import time
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.contrib.auth import SESSION_KEY, logout, middleware
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, resolve_url
from django.urls import reverse

from config.accounts import has_second_factor
from generation.permissions import needs_second_factor
from generation.stores.places import in_haste

BEGAN, SEEN = "began", "seen"  # in a session: seconds since 1970
NOTED_EACH = 300  # seconds: a session written at each page would be its slowest part
# what somebody reaches who has yet to set up a second factor
WITHOUT_SECOND_FACTOR = ("log_in", "log_out", "set_language", "account_reauthenticate")


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


def in_haste_of_a_person(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """A model store that hangs holds no page for long. What is streamed after the answer began is not concerned."""

    def hasty(request: HttpRequest) -> HttpResponse:
        with in_haste():
            return get_response(request)

    return hasty


def session_limits(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """Ends a session that is too old, or that nobody has used for long. Drafts outlive it: they are rows."""

    def limited(request: HttpRequest) -> HttpResponse:
        if settings.SESSION_COOKIE_NAME in request.COOKIES and SESSION_KEY in request.session:
            now, session = int(time.time()), request.session
            began, seen = session.setdefault(BEGAN, now), session.get(SEEN, now)
            if now - began > settings.SESSION_COOKIE_AGE or now - seen > settings.SESSION_IDLE_SECONDS:
                logout(request)
            elif SEEN not in session or now - seen >= NOTED_EACH:
                session[SEEN] = now
        return get_response(request)

    return limited


class SecondFactorMiddleware:
    """Who needs a second factor and has none sets one up before anything else."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_view(self, request: HttpRequest, *_: Any) -> HttpResponseBase | None:
        name = (request.resolver_match and request.resolver_match.url_name) or ""
        if name in WITHOUT_SECOND_FACTOR or name.startswith("mfa_") or settings.SECOND_FACTOR == "none":
            return None
        if not needs_second_factor(request.user, settings.SECOND_FACTOR) or has_second_factor(request.user):  # type: ignore[arg-type]
            return None
        if request.headers.get("HX-Request"):
            return HttpResponse(status=401)
        return redirect(reverse("mfa_index") + "?first")
