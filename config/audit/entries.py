"""Entries of what changes no row of its own: log-ins, downloads, secrets that are shown."""

import hashlib
from typing import Any

from allauth.mfa import signals as mfa
from django.contrib.auth import get_user_model
from django.contrib.auth.models import User
from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed
from django.core.cache import cache
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from config.audit.context import who
from config.models_audit import AuditEntry
from generation.models import Policy
from generation.signals import weights_left

METHODS = "account_authentication_methods"  # in a session: allauth's
THROTTLED_EACH = 300  # seconds: who goes on trying does not fill the log


def record(
    kind: str,
    *,
    about: tuple[str, int | None] = ("", None),
    actor: User | None = None,
    facts: dict[str, Any] | None = None,
    request: HttpRequest | None = None,
) -> AuditEntry:
    """Add an entry. about: (type, number). actor: None for who is logged in."""
    said = who(request)
    object_type, object_id = about
    return AuditEntry.objects.create(
        kind=kind,
        actor_id=actor.pk if actor else said["actor"],
        source=said["source"],
        through=said["through"],
        request_id=said["request_id"],
        object_type=object_type,
        object_id=object_id,
        facts=facts or {},
    )


def connect() -> None:
    user_logged_in.connect(_logged_in, dispatch_uid="config.audit")
    user_logged_out.connect(_logged_out, dispatch_uid="config.audit")
    user_login_failed.connect(_log_in_failed, dispatch_uid="config.audit")
    weights_left.connect(_weights_left, dispatch_uid="config.audit")
    mfa.authentication_failed.connect(_second_factor_failed, dispatch_uid="config.audit")


def _weights_left(policy: Policy, **_: Any) -> None:
    record("downloaded", about=("policy", policy.pk))


def throttled(name: str, request: HttpRequest) -> None:
    """A log-in that was not looked at, since there had been too many: once in five minutes for a name."""
    user = _known(name)
    if cache.add(f"audit-throttled-{user.pk if user else ''}", 1, THROTTLED_EACH):
        record("log_in_throttled", about=_account(user), request=request)


def _logged_in(request: HttpRequest, user: User, **_: Any) -> None:
    methods = [one.get("type") or one.get("method") for one in request.session.get(METHODS) or []]
    record(
        "logged_in", about=_account(user), actor=user, facts={"methods": methods} if methods else {}, request=request
    )


def _logged_out(request: HttpRequest, user: User | None, **_: Any) -> None:
    if user and user.pk:
        record("logged_out", about=_account(user), actor=user, request=request)


def _log_in_failed(credentials: dict[str, Any], request: HttpRequest | None = None, **_: Any) -> None:
    """Of a name that is no account nothing is kept: people type their password there."""
    record("log_in_failed", about=_account(_known(str(credentials.get("username", "")))), request=request)


def _second_factor_failed(request: HttpRequest, user: User, **_: Any) -> None:
    record("second_factor_failed", about=_account(user), request=request)


def _account(user: User | None) -> tuple[str, int | None]:
    return ("user", user.pk) if user else ("", None)


def _known(name: str) -> User | None:
    """One query, whether there is such an account or not: the time tells nothing."""
    found: User | None = get_user_model().objects.filter(username=name.replace("\x00", "")).only("pk").first()
    return found


# -- pages that hand something out

# {the URL's name: (kind, type of the object, which part of the address names it)}
HANDED_OUT = {
    "download_export": ("downloaded", "export", "number"),
    "download_pairs": ("downloaded", "round", "number"),
    "download_card": ("downloaded", "policy", "number"),
    "download_weights": ("downloaded", "policy", "number"),
    "download_adapter": ("downloaded", "policy", "number"),
    "round_csv": ("downloaded", "round", "number"),
    "curves_csv": ("downloaded", "round", "number"),
    "dashboard_csv": ("downloaded", "", ""),
    "listenings_csv": ("downloaded", "", ""),
    "list_pairs": ("downloaded", "", ""),
    "my_data": ("own_data_downloaded", "user", ""),
    "make_reset_link": ("reset_link_made", "user", "number"),
    "mfa_view_recovery_codes": ("recovery_codes_seen", "user", ""),
    "mfa_download_recovery_codes": ("recovery_codes_seen", "user", ""),
    "export_audit_log": ("audit_exported", "", ""),
}
IN_PAGES = ("list_pairs",)
GOES_ON = 60  # seconds
ASKED = ("GET", "POST")  # HEAD hands nothing out


def handed_out(get_response: Any) -> Any:
    """Middleware: an entry for each answer that hands out data or a secret, before its first byte."""

    def recorded(request: HttpRequest) -> HttpResponseBase:
        response: HttpResponseBase = get_response(request)
        match = request.resolver_match
        known = HANDED_OUT.get(match.url_name or "") if match else None
        handed = response.status_code in (200, 206) and request.method in ASKED
        if match and known and handed and not _goes_on(request, response):
            kind, type_, part = known
            number = match.kwargs[part] if part else request.user.pk if type_ == "user" else None
            facts = {"table": match.kwargs["table"]} if "table" in match.kwargs else {}
            record(kind, about=(type_, number), facts=facts, request=request)
        return response

    return recorded


def _goes_on(request: HttpRequest, response: HttpResponseBase) -> bool:
    """A file that is fetched in parts, or a list that is read page by page, is an entry a minute."""
    match = request.resolver_match
    if response.status_code != 206 and not (match and match.url_name in IN_PAGES):
        return False
    said = who(request)
    key = hashlib.sha256(f"{said['actor']} {said['through']} {request.path}".encode()).hexdigest()
    return not cache.add(f"audit-goes-on-{key}", 1, GOES_ON)
