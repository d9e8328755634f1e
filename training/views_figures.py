"""The admins' pages of figures: the dashboard, and the judgements behind a number."""

from django.conf import settings
from django.contrib import messages
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST, require_safe

from annotate.models import Place
from annotate.permissions import AdminRequest, admin_required, expert_of
from generation.models import Policy
from generation.spreadsheets import csv_response
from training import alarms, report
from training.behind import FILTERS, rows, votes_behind
from training.dashboard import dashboard as all_tables
from training.dashboard import one_table
from training.dashboard.of_round import alarms_of_round_table, breakdown_table, measures_of_round_table
from training.forms import AlarmLimitsForm
from training.models import Round

A_PAGE = 20


@admin_required
@require_safe
def dashboard(request: HttpRequest) -> HttpResponse:
    """All rounds in figures."""
    context = {
        "policy": Policy.objects.current(),
        "pairs": report.collected(),
        "open_places": Place.objects.free().count(),
        "tables": all_tables(),
        "floor": settings.MIN_JUDGEMENTS_FOR_WIN_RATE,
    }
    return render(request, "training/dashboard.html", context)


@admin_required
@require_safe
def dashboard_csv(request: HttpRequest, table: str) -> HttpResponseBase:
    """One table of the dashboard, as it was computed."""
    try:
        found = one_table(table)
    except KeyError as error:
        raise Http404 from error
    return csv_response(found.csv_rows(), f"storyloop-{table}.csv")


@admin_required
@require_safe
def round_csv(request: HttpRequest, number: int, table: str) -> HttpResponseBase:
    """One table of a round's page."""
    shown = _round(number)
    tables = {
        "parts": breakdown_table,
        "measures": measures_of_round_table,
        "alarms": lambda one: alarms_of_round_table(alarms.findings(one)),
    }
    if table not in tables:
        raise Http404
    return csv_response(tables[table](shown).csv_rows(), f"storyloop-round-{number}-{table}.csv")


@admin_required
@require_safe
def round_judgements(request: AdminRequest, number: int) -> HttpResponse:
    """The judgements behind a win rate of the round: all of them, or a part."""
    shown = _round(number)
    baseline = _baseline(shown, request.GET.get("against", ""))
    wanted = {name: request.GET[name] for name in (*FILTERS, "criterion") if request.GET.get(name)}
    assert shown.result is not None
    votes = votes_behind(shown.result, baseline, wanted, people=not shown.include_simulated)
    page = Paginator(votes, A_PAGE).get_page(request.GET.get("page"))
    query = request.GET.copy()
    query.pop("page", None)
    context = {
        "round": shown,
        "baseline": baseline,
        "wanted": wanted,
        "page": page,
        "query": query.urlencode(),
        "rows": rows(list(page.object_list), shown.result, expert_of(request.user)),
        "n": len(votes),
    }
    return render(request, "training/judgements.html", context)


@admin_required
@require_safe
def alarm_limits(request: HttpRequest) -> HttpResponse:
    """Where alarms begin."""
    return render(request, "training/limits.html", {"form": AlarmLimitsForm(instance=alarms.the_limits())})


@admin_required
@require_POST
def save_alarm_limits(request: HttpRequest) -> HttpResponse:
    form = AlarmLimitsForm(request.POST, instance=alarms.the_limits())
    if not form.is_valid():
        return render(request, "training/limits.html", {"form": form}, status=422)
    form.save()
    for one in Round.objects.undecided().exclude(result=None):
        alarms.check_alarms(checked=one)
    messages.success(request, _("The limits are saved, and hold for the round that is being judged."))
    return redirect("alarm_limits")


def _round(number: int) -> Round:
    """With a policy that can be looked at."""
    found = Round.objects.select_related("policy", "result").exclude(result=None)
    return get_object_or_404(found, number=number)


def _baseline(shown: Round, key: str) -> Policy:
    """The policy named, of those that the round is compared with; the first if none is named."""
    found = {str(baseline.pk): baseline for baseline in shown.baselines()}
    if not key:
        return next(iter(found.values()))
    if key not in found:
        raise Http404
    return found[key]
