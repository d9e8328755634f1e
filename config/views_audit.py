"""The admins' page of the audit log."""

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from config.audit import exports
from config.audit.words import lines
from config.forms_audit import FilterForm
from config.models import AuditEntry
from generation.permissions import admin_required

A_PAGE = 100
TYPES = {"csv": "text/csv; charset=utf-8", "jsonl": "application/x-ndjson"}


@never_cache
@admin_required
@require_safe
def audit_log(request: HttpRequest) -> HttpResponse:
    """Newest first; ?before=NUMBER goes on behind that entry, whatever has been added since."""
    form = FilterForm(request.GET)
    if not form.is_valid():
        return _page(request, form, [], status=422)
    found = form.entries()
    last = _entry(request.GET.get("before", ""))
    if last:
        found = found.before(last)
    return _page(request, form, list(found[: A_PAGE + 1]))


@never_cache
@admin_required
@require_safe
def export_audit_log(request: HttpRequest) -> HttpResponseBase:
    """All entries that the filters let through, ?format=jsonl or csv. That it was asked for is an entry, too:
    config/audit/entries.py."""
    format = request.GET.get("format", "csv")
    form = FilterForm(request.GET)
    if format not in exports.WRITERS:
        raise Http404
    if not form.is_valid():
        return _page(request, form, [], status=422)
    response = StreamingHttpResponse(exports.WRITERS[format](form.entries()), content_type=TYPES[format])
    name = f"storyloop-audit-{timezone.now():%Y%m%dT%H%M%SZ}.{format}"
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    return response


def _page(request: HttpRequest, form: FilterForm, found: list[AuditEntry], status: int = 200) -> HttpResponse:
    query = request.GET.copy()
    query.pop("before", None)
    query.pop("format", None)
    given = {name: value for name, value in query.items() if value}
    shown = found[:A_PAGE]
    context = {
        "form": form,
        "lines": lines(shown),
        "filtered": any(name in form.fields for name in given),
        "query": query.urlencode(),
        "older": shown[-1].pk if len(found) > A_PAGE else None,
        "newest": "before" not in request.GET,
        "zone": settings.TIME_ZONE,
    }
    return render(request, "config/audit_log.html", context, status=status)


def _entry(number: str) -> AuditEntry | None:
    return AuditEntry.objects.filter(pk=int(number)).first() if number.isdecimal() and len(number) < 19 else None
