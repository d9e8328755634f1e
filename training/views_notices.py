"""The admins' page of who is told when a round ends or waits."""

import secrets
from functools import partial

from django.conf import settings
from django.contrib import messages
from django.db import transaction
from django.db.models.functions import Now
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import get_language
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST, require_safe

from annotate.permissions import AdminRequest, admin_required
from training.forms_notices import AddressForm, WebhookForm
from training.models import Channel, Delivery, Destination, Event, Sending
from training.tasks import send_notice

SHOWN = 30


@admin_required
@require_safe
def notices(request: AdminRequest) -> HttpResponse:
    """Who is told, and what became of each message."""
    return _page(request)


@admin_required
@require_POST
def save_address(request: AdminRequest) -> HttpResponse:
    """An admin's own: nobody subscribes somebody else."""
    form = AddressForm(request.POST)
    if not form.is_valid():
        return _page(request, address_form=form, status=422)
    _subscribe(request, form.cleaned_data["email"], form.cleaned_data["events"])
    messages.success(request, _("Saved."))
    return redirect("notices")


@admin_required
@require_POST
def add_webhook(request: AdminRequest) -> HttpResponse:
    form = WebhookForm(request.POST, auto_id="hook_%s")
    if not form.is_valid():
        return _page(request, webhook_form=form, status=422)
    given = form.cleaned_data
    secret = given["secret"] or secrets.token_urlsafe(32)
    Destination.objects.create(
        channel=Channel.WEBHOOK,
        url=given["url"],
        secret=secret,
        events=given["events"],
        language=get_language() or "en",
    )
    messages.success(request, _("Added. Send a test to see whether it arrives."))
    return redirect("notices")


@admin_required
@require_POST
def remove_webhook(request: HttpRequest, pk: int) -> HttpResponse:
    get_object_or_404(Destination, pk=pk, channel=Channel.WEBHOOK).delete()
    messages.success(request, _("Removed, with what it was sent."))
    return redirect("notices")


@admin_required
@require_POST
def send_test(request: HttpRequest, pk: int) -> HttpResponse:
    found = get_object_or_404(Destination, pk=pk)
    delivery = Delivery.objects.create(destination=found, event=Event.TEST)
    transaction.on_commit(partial(send_notice.delay, delivery.pk))
    messages.success(request, _("A test is on its way: below you see what becomes of it."))
    return redirect("notices")


@transaction.atomic
def _subscribe(request: AdminRequest, email: str, events: list[str]) -> None:
    user = request.user
    if user.email != email:
        user.email = email
        user.save(update_fields=["email"])
    values = {"events": events, "language": get_language() or "en", "since": Now()}
    Destination.objects.update_or_create(user=user, channel=Channel.EMAIL, defaults=values)


def _page(
    request: AdminRequest,
    *,
    address_form: AddressForm | None = None,
    webhook_form: WebhookForm | None = None,
    status: int = 200,
) -> HttpResponse:
    """With the forms as they were sent, or fresh ones."""
    mine = Destination.objects.filter(user=request.user).first()
    known = AddressForm(initial={"email": request.user.email, "events": mine.events if mine else []})
    deliveries = list(Delivery.objects.select_related("destination__user", "round")[:SHOWN])
    context = {
        "mine": mine,
        "others": Destination.objects.filter(channel=Channel.EMAIL).exclude(user=request.user).exclude(events=[]),
        "webhooks": Destination.objects.filter(channel=Channel.WEBHOOK),
        "deliveries": deliveries,
        "under_way": any(one.state == Sending.WAITING and one.attempts < 2 for one in deliveries),
        "address_form": address_form or known,
        "webhook_form": webhook_form or WebhookForm(auto_id="hook_%s"),
        "mail_server": settings.MAIL_SERVER,
        "private": settings.PRIVATE_WEBHOOKS,
    }
    return render(request, "training/notices.html", context, status=status)
