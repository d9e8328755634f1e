"""The admins' pages about people: who is here, who is invited, what each may do."""

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.models import User
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from config import invitations
from config import people as accounts
from config.forms_people import InvitationForm, PartForm
from config.invitation_mail import NotSent, send_invitation
from config.models import Invitation
from generation.permissions import AdminRequest, admin_required

EACH_PAGE = 100
PAST = 20  # invitations that are over


@never_cache
@admin_required
@require_safe
def people(request: AdminRequest) -> HttpResponse:
    return _people_page(request, InvitationForm())


@never_cache
@admin_required
@require_POST
def invite(request: AdminRequest) -> HttpResponse:
    """The answer to this POST is the only page that ever shows the link."""
    form = InvitationForm(request.POST)
    if not form.is_valid():
        return _people_page(request, form, status=422)
    values = {**form.cleaned_data, "days": int(form.cleaned_data["days"])}
    wanted = values.pop("send", False) and bool(values["email"])
    made, token = invitations.make_invitation(**values, by=request.user)
    link = invitations.link_of(token, site=_site(request))
    sent = _sent(request, made, link) if wanted else None
    return _people_page(request, InvitationForm(), made=made, link=link, sent=sent)


@admin_required
@require_POST
def revoke_invitation(request: AdminRequest, number: int) -> HttpResponse:
    invitation = get_object_or_404(Invitation, pk=number)
    if invitations.revoke_invitation(number=number):
        messages.success(request, _("Revoked: the link for “%(who)s” works no more.") % {"who": invitation})
    else:
        messages.error(request, _("It has been used or revoked before."))
    return redirect("people")


@never_cache
@admin_required
@require_safe
def show_person(request: AdminRequest, number: int) -> HttpResponse:
    return _person_page(request, number)


@never_cache
@admin_required
@require_POST
def save_person(request: AdminRequest, number: int) -> HttpResponse:
    person = get_object_or_404(accounts.people(), pk=number)
    form = PartForm(request.POST)
    if form.is_valid():
        try:
            accounts.change_part(user_id=person.pk, part=form.part(), by=request.user)
        except accounts.CannotChange as error:
            form.add_error(None, str(error))
    if not form.is_valid():
        return _person_page(request, number, form=form, status=422)
    messages.success(request, _("Saved. It holds from now on."))
    return redirect("people")


@never_cache
@admin_required
@require_POST
def make_reset_link(request: AdminRequest, number: int) -> HttpResponse:
    """The answer to this POST is the only page that ever shows the link."""
    person = get_object_or_404(accounts.people().filter(is_active=True), pk=number)
    return _person_page(request, number, link=accounts.reset_link(person, site=_site(request)))


@admin_required
@require_POST
def remove_second_factor(request: AdminRequest, number: int) -> HttpResponse:
    person = get_object_or_404(accounts.people(), pk=number)
    if accounts.remove_second_factors(user=person):
        messages.success(request, _("%(name)s logs in with the password alone next time.") % {"name": person})
    else:
        messages.warning(request, _("%(name)s had no second factor.") % {"name": person})
    return redirect("show_person", number)


def _sent(request: AdminRequest, made: Invitation, link: str) -> bool:
    try:
        send_invitation(made, link=link)
    except NotSent as error:
        messages.error(request, str(error))
        return False
    return True


def _people_page(
    request: AdminRequest, form: InvitationForm, *, made: Invitation | None = None, link: str = "",
    sent: bool | None = None, status: int = 200,
) -> HttpResponse:  # fmt: skip
    invited = Invitation.objects.select_related("made_by", "used_by")
    search = request.GET.get("search", "").replace("\x00", "").strip()[:100]
    context = {
        "form": form,
        "search": search,
        "made": made,
        "link": link,
        "sent": sent,
        "page": Paginator(accounts.people(search), EACH_PAGE).get_page(request.GET.get("page")),
        "open": invited.usable(),
        "past": invited.exclude(pk__in=Invitation.objects.usable().values("pk"))[:PAST],
        "now": timezone.now(),
        "rule": settings.SECOND_FACTOR,
    }
    return render(request, "config/people.html", context, status=status)


def _person_page(
    request: AdminRequest, number: int, *, form: PartForm | None = None, link: str = "", status: int = 200
) -> HttpResponse:
    person: User = get_object_or_404(accounts.people(), pk=number)
    form = form or PartForm(initial=vars(accounts.part_of(person)))
    return render(request, "config/person.html", {"person": person, "form": form, "link": link}, status=status)


def _site(request: HttpRequest) -> str:
    return f"{request.scheme}://{request.get_host()}"
