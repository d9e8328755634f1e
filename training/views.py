"""The admins' pages."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from django.conf import settings
from django.contrib import messages
from django.db import transaction
from django.http import FileResponse, Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST, require_safe

from annotate.models import Place
from annotate.permissions import AdminRequest, admin_required
from generation.models import Policy
from generation.stores import single
from training import report
from training.described import lines_of
from training.models import Proposal, Round
from training.progress import progress_of
from training.rounds import (
    CannotDecide,
    promote_round,
    reject_round,
    request_cancel,
)
from training.tasks import simulate_experts
from training.views_schedules import cards


@admin_required
@require_safe
def rounds(request: HttpRequest) -> HttpResponse:
    """All rounds with their win rates, and what the next one would be made of."""
    context = {
        "rows": report.rows(),
        "policy": Policy.objects.current(),
        "pairs": report.collected(),
        "open_places": Place.objects.free().count(),
        "undecided": Round.objects.undecided().first(),
        "schedules": cards(),
        "proposal": Proposal.objects.open().first(),
        "demo": settings.DEMO,
    }
    return render(request, "training/rounds.html", context)


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
    """One round. While it is at work, views_watch.round_progress keeps it up to date."""
    shown = _get_round(number)
    context = {"round": shown, "progress": progress_of(shown), "lines": lines_of(shown)}
    if shown.result:
        context |= report.judged(shown)
    return render(request, "training/round.html", context)


@admin_required
@require_safe
def download_pairs(request: HttpRequest, number: int) -> FileResponse:
    """The round's frozen export."""
    shown = _get_round(number)
    try:
        file = single.find(Path(shown.export_path)).open("rb")  # noqa: SIM115  FileResponse closes it
    except OSError as error:
        raise Http404 from error
    return FileResponse(file, as_attachment=True, filename=f"round-{number}-pairs.jsonl")


@admin_required
@require_POST
def cancel(request: HttpRequest, number: int) -> HttpResponse:
    return _decide(request, number, request_cancel, _("The round will end in a moment."))


@admin_required
@require_POST
def promote(request: AdminRequest, number: int) -> HttpResponse:
    """An admin may overrule alarms, but not overlook them."""
    if _get_round(number).alarms.exists() and "in_spite_of_alarms" not in request.POST:
        messages.error(request, _("This round has alarms. Read them, and tick that you promote it in spite of them."))
        return redirect("show_round", number)
    return _decide(
        request, number, partial(promote_round, by=request.user), _("Promoted: its stories are before the experts now.")
    )


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
