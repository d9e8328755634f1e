"""Logging in, a person's own account, and leaving."""

import json

from allauth.account import views as allauth_views
from allauth.account.adapter import get_adapter
from allauth.account.internal.flows.login import perform_password_login
from allauth.account.models import Login
from allauth.core import ratelimit
from django.conf import settings
from django.contrib import messages
from django.contrib.auth import login, logout
from django.contrib.auth.decorators import login_not_required as public
from django.core.exceptions import ValidationError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from annotate.permissions import expert_of
from config.accounts import has_second_factor
from config.audit.entries import throttled
from config.forms_accounts import AcceptForm, LeaveForm, LogInForm, NameForm
from config.invitations import InvitationOver, NameTaken, accept_invitation, find_invitation
from config.leaving import CannotLeave, leave, personal_data
from config.views_tokens import AccountRequest

INVITED_BY = "invitation"  # in a session: the token, so that the page's address is without it


@public
@never_cache
@sensitive_post_parameters("password")
@require_http_methods(["GET", "HEAD", "POST"])
def log_in(request: HttpRequest) -> HttpResponseBase:
    """The next step after a right password is the second factor, if the person has one."""
    onward = request.POST.get("next") or request.GET.get("next") or ""
    if not url_has_allowed_host_and_scheme(onward, {request.get_host()}, require_https=request.is_secure()):
        onward = ""
    if request.user.is_authenticated:
        return redirect(onward or "home")
    if request.method != "POST":
        return _log_in_page(request, LogInForm(), onward)
    if too_often := ratelimit.consume_or_429(request, action="login"):
        return too_often
    form = LogInForm(request.POST)
    if not form.is_valid():
        return _log_in_page(request, form, onward)
    who = {"username": form.cleaned_data["username"]}
    try:
        user = get_adapter().authenticate(request, **who, password=form.cleaned_data["password"])
    except ValidationError:
        throttled(who["username"], request)
        return _log_in_page(request, form, onward, too_often=True, status=429)
    if user is None:
        form.add_error(None, "")
        return _log_in_page(request, form, onward)
    return perform_password_login(request, who, Login(user=user, redirect_url=onward or None))


@public
@require_safe
def account_login(request: HttpRequest) -> HttpResponse:
    """Where allauth sends people to log in."""
    return redirect(f"{reverse('log_in')}?{request.META.get('QUERY_STRING', '')}".rstrip("?"))


@require_safe
def account_set_password(request: HttpRequest) -> HttpResponse:
    """Who has no password, and would change it, gets one as if it were forgotten."""
    return redirect("account_reset_password")


@public
@require_safe
def account_signup(request: HttpRequest) -> HttpResponse:
    """Says that there is none."""
    return render(request, "config/by_invitation.html")


@public
@never_cache
def account_reset_password(request: HttpRequest) -> HttpResponseBase:
    """By e-mail where there is a mail server; else the page says whom to ask."""
    if settings.MAIL_SERVER:
        return allauth_views.password_reset(request)
    return render(request, "account/password_ask.html")


@never_cache
def account_email(request: HttpRequest) -> HttpResponseBase:
    """An address has to be confirmed, so that without a mail server it stays as it is."""
    if not settings.MAIL_SERVER:
        raise Http404
    return allauth_views.email(request)


@public
@never_cache
@require_safe
def open_invitation(request: HttpRequest, token: str) -> HttpResponse:
    """Takes the token out of the address, which proxies and browsers write down."""
    request.session[INVITED_BY] = token
    return redirect("accept")


@public
@never_cache
@sensitive_post_parameters("password", "password_again")
@require_http_methods(["GET", "HEAD", "POST"])
def accept(request: HttpRequest) -> HttpResponseBase:
    """Whoever has the link makes the account, and is logged in."""
    token = str(request.session.get(INVITED_BY, ""))
    invitation = find_invitation(token)
    if invitation is None:
        return render(request, "config/invitation_over.html", status=410)
    if request.user.is_authenticated:
        return render(request, "config/invitation_logged_in.html", {"invitation": invitation})
    form = AcceptForm(request.POST or None, invitation=invitation)
    page = {"form": form, "invitation": invitation}
    if request.method != "POST":
        return render(request, "config/accept.html", page)
    if too_often := ratelimit.consume_or_429(request, action="invitation"):
        return too_often
    if not form.is_valid():
        return render(request, "config/accept.html", page, status=422)
    values = form.cleaned_data
    try:
        user = accept_invitation(
            token=token, name=values["username"], password=values["password"], email=values["email"]
        )
    except NameTaken as error:
        form.add_error("username", str(error))
        return render(request, "config/accept.html", page, status=422)
    except InvitationOver:
        return render(request, "config/invitation_over.html", status=410)
    del request.session[INVITED_BY]
    login(request, user, backend=settings.AUTHENTICATION_BACKENDS[0])
    messages.success(request, _("Welcome, %(name)s. Your account is made.") % {"name": user.get_username()})
    return redirect("home")


@never_cache
@require_safe
def account(request: AccountRequest) -> HttpResponse:
    return _account_page(request, NameForm(user=request.user))


@never_cache
@require_POST
def save_name(request: AccountRequest) -> HttpResponse:
    form = NameForm(request.POST, user=request.user)
    if not form.is_valid():
        return _account_page(request, form, status=422)
    request.user.username = form.cleaned_data["username"]
    request.user.save(update_fields=["username"])
    messages.success(request, _("Saved. Log in as %(name)s from now on.") % {"name": request.user.username})
    return redirect("account")


@never_cache
@require_safe
def my_data(request: AccountRequest) -> HttpResponse:
    """All that is stored about who asks, as a file."""
    body = json.dumps(personal_data(request.user), ensure_ascii=False, indent=1, default=str)
    headers = {"Content-Disposition": 'attachment; filename="storyloop-my-data.json"'}
    return HttpResponse(body, content_type="application/json; charset=utf-8", headers=headers)


@never_cache
@sensitive_post_parameters("password")
@require_http_methods(["GET", "HEAD", "POST"])
def leave_for_good(request: AccountRequest) -> HttpResponseBase:
    """Asks for the password: an open browser is not enough to end an account."""
    form = LeaveForm(request.POST or None)
    page = {"form": form, "expert": expert_of(request.user)}
    if request.method != "POST":
        return render(request, "config/leave.html", page)
    if too_often := ratelimit.consume_or_429(request, action="reauthenticate", user=request.user):
        return too_often
    if form.is_valid() and not request.user.check_password(form.cleaned_data["password"]):
        form.add_error("password", _("This is not your password."))
    if form.is_valid():
        try:
            leave(user_id=request.user.pk)
        except CannotLeave as error:
            form.add_error(None, str(error))
        else:
            logout(request)
            return render(request, "config/left.html")
    return render(request, "config/leave.html", page, status=422)


def _log_in_page(
    request: HttpRequest, form: LogInForm, onward: str, *, too_often: bool = False, status: int = 200
) -> HttpResponse:
    context = {"form": form, "next": onward, "too_often": too_often}
    return render(request, "registration/login.html", context, status=status)


def _account_page(request: AccountRequest, form: NameForm, status: int = 200) -> HttpResponse:
    context = {
        "form": form,
        "mail_server": settings.MAIL_SERVER,
        "second_factor": has_second_factor(request.user),
        "expert": expert_of(request.user),
    }
    return render(request, "config/account.html", context, status=status)
