"""The admins' pages for following rounds: one while it is at work, and two side by side."""

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_safe

from annotate.permissions import AdminRequest, admin_required
from generation.spreadsheets import csv_response
from training import compare, progress, views
from training.models import Round


@admin_required
@require_safe
def round_progress(request: AdminRequest, number: int) -> HttpResponseBase:
    """For htmx: the parts of a round's page that change. When it has gone on to another stage, the page anew."""
    if not request.htmx:
        return redirect("show_round", number)
    shown = get_object_or_404(Round.objects.select_related("policy", "result"), number=number)
    found, before = progress.progress_of(shown), request.GET.get("stage", "")
    if found.stage == before:
        return render(request, "training/_progress_parts.html", {"round": shown, "progress": found, "oob": True})
    request.said = shown.state != before.partition(".")[0]  # type: ignore[attr-defined]
    response = views.show_round(request, number)
    response["HX-Retarget"] = response["HX-Reselect"] = "#round"
    response["HX-Reswap"] = "outerHTML"
    return response


@admin_required
@require_safe
def curves_csv(request: HttpRequest, number: int) -> HttpResponseBase:
    """Every step, as it was measured."""
    shown = get_object_or_404(Round, number=number)
    return csv_response(progress.curves(shown, most=0).csv_rows(), f"storyloop-round-{number}-curves.csv")


@admin_required
@require_safe
def compare_rounds(request: HttpRequest) -> HttpResponse:
    """Any two rounds' settings and figures; the last two if none are named."""
    rounds = list(Round.objects.select_related("policy", "result"))
    known = {str(one.number): one for one in rounds}
    before, after = known.get(request.GET.get("a", "")), known.get(request.GET.get("b", ""))
    if not {"a", "b"} & request.GET.keys() and len(rounds) > 1:
        after, before = rounds[:2]
    context: dict[str, Any] = {"rounds": rounds, "a": before, "b": after}
    if before and after:
        rows = compare.settings_rows(before, after)
        context |= {"settings": rows, "figures": compare.figure_rows(before, after)}
        context["same"] = not any(row.differs for row in rows)
    return render(request, "training/compare.html", context)
