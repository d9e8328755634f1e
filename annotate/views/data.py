"""The admins' pages about data: frozen exports, and preferences from elsewhere."""

from datetime import timedelta
from functools import partial
from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.db import transaction
from django.http import FileResponse, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_POST, require_safe

from annotate import exports, uploads
from annotate.forms_data import ExportForm, KeptForm, SourceForm, UploadForm
from annotate.imports import BadImport, Report, check_preferences, import_preferences, withdraw_origin
from annotate.models import Export, ExportState, Origin
from annotate.permissions import AdminRequest, admin_required
from annotate.selections import BadSelection, Selection
from annotate.tasks import make_export_file
from generation.engines.values import EngineError
from generation.models import Language

A_PAGE = 25
PATIENCE = timedelta(seconds=30)  # until an export that nobody writes is said to wait for a worker
BLOCK = 1 << 18  # bytes of a download that are read at once


@admin_required
@require_safe
def data(request: HttpRequest) -> HttpResponse:
    """All exports, and a form for another."""
    return _exports_page(request, ExportForm())


@admin_required
@require_POST
def make_export(request: AdminRequest) -> HttpResponse:
    form = ExportForm(request.POST)
    if not form.is_valid():
        return _exports_page(request, form, status=422)
    values = form.cleaned_data
    try:
        export = exports.begin_export(
            by=request.user,
            purpose=values["purpose"],
            selection=form.selection(),
            format=values["format"],
            layout=values["layout"],
        )
    except exports.BadExport as error:
        form.add_error(None, str(error))
        return _exports_page(request, form, status=422)
    return _begun(export)


@admin_required
@require_POST
def repeat_export(request: AdminRequest, number: int) -> HttpResponse:
    """The same selection once more."""
    earlier = get_object_or_404(Export, pk=number)
    try:
        export = exports.begin_export(by=request.user, purpose=earlier.purpose, **exports.repeat(earlier))
    except (exports.BadExport, BadSelection) as error:
        messages.error(request, str(error))
        return redirect("show_export", number)
    return _begun(export)


@admin_required
@require_safe
def show_export(request: AdminRequest, number: int) -> HttpResponse:
    """One export. Asked by htmx it answers with the part that changes."""
    export = get_object_or_404(Export.objects.select_related("made_by"), pk=number)
    context = {
        "export": export,
        "lonely": export.at_work and export.created_at < timezone.now() - PATIENCE and exports.is_lonely(export),
        "gone": export.state == ExportState.DONE and not exports.path_of(export).is_file(),
    }
    if not request.htmx:
        return render(request, "annotate/data/export.html", context | _told(export))
    response = render(request, "annotate/data/export.html#live", context)
    if not export.at_work:
        response["HX-Refresh"] = "true"
    return response


@admin_required
@require_safe
def download_export(request: HttpRequest, number: int) -> HttpResponseBase:
    """The file as it was written, streamed."""
    export = get_object_or_404(Export.objects.finished(), pk=number)
    try:
        file = exports.path_of(export).open("rb")
    except OSError:
        messages.error(request, _("The file is not on this machine any more: see below."))
        return redirect("show_export", number)
    response = FileResponse(file, as_attachment=True, filename=export.path)
    response.block_size = BLOCK
    return response


@admin_required
@require_safe
def imported(request: HttpRequest) -> HttpResponse:
    """What was imported from where, and a form for more."""
    return _imported_page(request, UploadForm())


@admin_required
@require_POST
def check_import(request: HttpRequest) -> HttpResponse:
    """A dry run: what is in the file, and what importing it would do."""
    form = UploadForm(request.POST, request.FILES)
    if not form.is_valid():
        return _imported_page(request, form, status=422)
    file = form.cleaned_data["file"]
    try:
        key = uploads.keep(file)
        report = check_preferences(uploads.path_of(key, file.name), form.source())
    except (BadImport, EngineError, OSError) as error:
        form.add_error("file", str(error))
        return _imported_page(request, form, status=422)
    kept = {name: form.cleaned_data[name] for name in SourceForm.base_fields}
    if report.fault_count or not report.new:
        uploads.drop(key, file.name)
        return _imported_page(request, UploadForm(initial=kept), report=report, file_name=file.name)
    confirm = KeptForm(initial={**kept, "key": key, "file_name": file.name}, auto_id="id_kept_%s")
    return _imported_page(request, UploadForm(initial=kept), report=report, confirm=confirm, file_name=file.name)


@admin_required
@require_POST
def store_import(request: AdminRequest) -> HttpResponse:
    """Import what was checked."""
    form = KeptForm(request.POST)
    if not form.is_valid():
        messages.error(request, " ".join(str(error) for errors in form.errors.values() for error in errors))
        return redirect("imported")
    try:
        path = uploads.path_of(form.cleaned_data["key"], form.cleaned_data["file_name"])
    except (EngineError, OSError) as error:
        messages.error(request, str(error))
        return redirect("imported")
    if not path.is_file():
        messages.error(request, _("The upload is no longer here. Upload the file again."))
        return redirect("imported")
    name = form.cleaned_data["file_name"]
    try:
        origin, report = import_preferences(path, form.source(), by=request.user, file_name=name)
    except BadImport as error:
        messages.error(request, str(error))
        return redirect("imported")
    uploads.drop(form.cleaned_data["key"], name)
    said = ngettext("%(n)d pair from %(origin)s is imported.", "%(n)d pairs from %(origin)s are imported.", report.new)
    messages.success(request, said % {"n": report.new, "origin": origin})
    return redirect("imported")


@admin_required
@require_POST
def withdraw(request: AdminRequest, number: int) -> HttpResponse:
    origin = get_object_or_404(Origin, pk=number)
    if "sure" not in request.POST:
        messages.error(request, _("Tick that you want the pairs deleted: they cannot be brought back."))
    elif count := withdraw_origin(origin=origin, by=request.user):
        said = ngettext("%(n)d pair from %(origin)s is deleted.", "%(n)d pairs from %(origin)s are deleted.", count)
        messages.success(request, said % {"n": count, "origin": origin})
    else:
        messages.warning(request, _("It had been withdrawn before."))
    return redirect("imported")


def _begun(export: Export) -> HttpResponse:
    """A small one is finished when its page is shown; a worker writes the others."""
    if exports.small(Selection.read(export.selection)):
        exports.write_export(export.pk)
    else:
        transaction.on_commit(partial(make_export_file.delay, export.pk))
    return redirect("show_export", export.pk)


def _told(export: Export) -> dict[str, Any]:
    """The selection in words; nothing, if it is of another version, or of a policy that is no more."""
    try:
        selection = Selection.read(export.selection)
    except BadSelection:
        return {}
    languages, criteria = dict(Language.choices), dict(ExportForm.base_fields["criteria"].choices)  # type: ignore[attr-defined]
    return {
        "selection": selection,
        "languages": [languages[one] for one in selection.languages],
        "criteria": [criteria[one] for one in selection.criteria],
        "until": parse_datetime(selection.until),
    }


def _exports_page(request: HttpRequest, form: ExportForm, status: int = 200) -> HttpResponse:
    found = Export.objects.select_related("made_by")
    page = Paginator(found, A_PAGE).get_page(request.GET.get("page"))
    return render(request, "annotate/data/exports.html", {"form": form, "page": page}, status=status)


def _imported_page(request: HttpRequest, form: UploadForm, status: int = 200, **more: Any) -> HttpResponse:
    """`more`: the report of a dry run, and the form that imports what was checked."""
    report: Report | None = more.get("report")
    origins = Origin.objects.select_related("imported_by", "withdrawn_by")
    context = {"form": form, "origins": origins, "report": report, **more}
    return render(request, "annotate/data/imported.html", context, status=status)
