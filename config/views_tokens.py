"""A person's own tokens of the API."""

from django import forms
from django.contrib import messages
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from config.models import ApiToken
from config.tokens import CannotMakeToken, make_token, revoke_token
from generation.permissions import own_or_404

DAYS = [("30", gettext_lazy("30 days")), ("90", gettext_lazy("90 days")), ("365", gettext_lazy("one year"))]


class AccountRequest(HttpRequest):
    """By somebody who is logged in."""

    user: User


class TokenForm(forms.Form):
    name = forms.CharField(
        label=gettext_lazy("name"), max_length=60, help_text=gettext_lazy("what will use it, such as “nightly import”")
    )
    days = forms.ChoiceField(
        label=gettext_lazy("works for"), choices=[*DAYS, ("", gettext_lazy("ever, until revoked"))],
        initial="90", required=False,
    )  # fmt: skip


@never_cache
@require_safe
def tokens(request: AccountRequest) -> HttpResponse:
    """Those in force, and a form for another."""
    return _page(request, TokenForm())


@never_cache
@require_POST
def make_api_token(request: AccountRequest) -> HttpResponse:
    """The answer to this POST is the only page that ever shows the token: no session and no cookie holds it."""
    form = TokenForm(request.POST)
    if not form.is_valid():
        return _page(request, form, status=422)
    days = form.cleaned_data["days"]
    try:
        made, token = make_token(user=request.user, name=form.cleaned_data["name"], days=int(days) if days else None)
    except CannotMakeToken as error:
        form.add_error("name", str(error))
        return _page(request, form, status=422)
    return _page(request, TokenForm(), made=made, token=token)


@require_POST
def revoke_api_token(request: AccountRequest, number: int) -> HttpResponse:
    mine = own_or_404(request.user, ApiToken.objects.all(), pk=number)
    if revoke_token(token_id=number, user=request.user):
        messages.success(request, _("Revoked: “%(name)s” works no more.") % {"name": mine.name})
    else:
        messages.error(request, _("“%(name)s” was revoked already.") % {"name": mine.name})
    return redirect("tokens")


def _page(
    request: AccountRequest, form: TokenForm, *, made: ApiToken | None = None, token: str = "", status: int = 200
) -> HttpResponse:
    mine, now = ApiToken.objects.filter(user=request.user), timezone.now()
    context = {
        "token_form": form,
        "made": made,
        "token": token,
        "in_force": [(one, bool(one.expires_at and one.expires_at <= now)) for one in mine.filter(revoked_at=None)],
        "revoked": mine.exclude(revoked_at=None).order_by("-revoked_at"),
    }
    return render(request, "config/tokens.html", context, status=status)
