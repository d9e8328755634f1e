"""The admins' pages."""

from collections.abc import Callable

from django.conf import settings
from django.contrib import messages
from django.db import transaction
from django.http import FileResponse, Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST, require_safe

from annotate.models import Place
from annotate.permissions import admin_required
from generation.models import Policy
from training import report, schedule
from training.described import lines_of
from training.forms import ScheduleForm
from training.models import Round
from training.rounds import (
    CannotDecide,
    promote_round,
    reject_round,
    request_cancel,
)
from training.tasks import simulate_experts


@admin_required
@require_safe
def rounds(request: HttpRequest) -> HttpResponse:
    """All rounds with their win rates, and what the next one would be made of."""
    return _rounds_page(request)


@admin_required
@require_POST
def save_schedule(request: HttpRequest) -> HttpResponse:
    form = ScheduleForm(request.POST, instance=schedule.the_schedule())
    if not form.is_valid():
        return _rounds_page(request, schedule_form=form, status=422)
    form.save()
    messages.success(request, _("The schedule is saved."))
    return redirect("rounds")


@admin_required
@require_POST
def simulate_judgements(request: HttpRequest) -> HttpResponse:
    """Demo only: simulated experts judge what is open."""
    if not settings.DEMO:
        raise Http404
    transaction.on_commit(simulate_experts.delay)
    messages.success(request, _("Simulated experts are judging what is open. Reload the page in some seconds."))
    return redirect("rounds")


@admin_required
@require_safe
def show_round(request: HttpRequest, number: int) -> HttpResponse:
    """One round. Asked by htmx it answers with the part that changes."""
    shown = _get_round(number)
    context = {"round": shown, "curve": report.loss_curve(shown), "metric": shown.metrics.trained().last()}
    context["lines"] = lines_of(shown)
    if request.htmx:  # type: ignore[attr-defined]
        response = render(request, "training/round.html#live", context)
        if request.GET.get("state") != shown.state:
            response["HX-Refresh"] = "true"  # gone on to another stage: show the whole page anew
        return response
    if shown.result:
        context |= report.judged(shown)
    return render(request, "training/round.html", context)


@admin_required
@require_safe
def download_pairs(request: HttpRequest, number: int) -> FileResponse:
    """The round's frozen export."""
    shown = _get_round(number)
    try:
        file = open(shown.export_path, "rb")  # noqa: SIM115  FileResponse closes it
    except OSError as error:
        raise Http404 from error
    return FileResponse(file, as_attachment=True, filename=f"round-{number}-pairs.jsonl")


@admin_required
@require_POST
def cancel(request: HttpRequest, number: int) -> HttpResponse:
    return _decide(request, number, request_cancel, _("The round will end in a moment."))


@admin_required
@require_POST
def promote(request: HttpRequest, number: int) -> HttpResponse:
    """An admin may overrule alarms, but not overlook them."""
    if _get_round(number).alarms.exists() and "in_spite_of_alarms" not in request.POST:
        messages.error(request, _("This round has alarms. Read them, and tick that you promote it in spite of them."))
        return redirect("show_round", number)
    return _decide(request, number, promote_round, _("Promoted: its stories are before the experts now."))


@admin_required
@require_POST
def reject(request: HttpRequest, number: int) -> HttpResponse:
    return _decide(request, number, reject_round, _("Rejected: the policy before stays in use."))


def _decide(request: HttpRequest, number: int, act: Callable[..., object], done: str) -> HttpResponse:
    try:
        act(round_id=_get_round(number).pk)
    except CannotDecide as error:
        messages.error(request, str(error))
    else:
        messages.success(request, done)
    return redirect("show_round", number)


def _get_round(number: int) -> Round:
    return get_object_or_404(Round.objects.select_related("policy", "result", "launched_by"), number=number)


def _rounds_page(
    request: HttpRequest,
    *,
    schedule_form: ScheduleForm | None = None,
    status: int = 200,
) -> HttpResponse:
    """With the form as it was sent, or a fresh one."""
    pairs = report.collected()
    context = {
        "rows": report.rows(),
        "policy": Policy.objects.current(),
        "pairs": pairs,
        "open_places": Place.objects.free().count(),
        "undecided": Round.objects.undecided().first(),
        "schedule_form": schedule_form or ScheduleForm(instance=schedule.the_schedule()),
        "demo": settings.DEMO,
    }
    return render(request, "training/rounds.html", context, status=status)
