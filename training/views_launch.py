"""The page on which a round is set up, looked at, tried and launched."""

from functools import partial
from typing import Any

from django.conf import settings as site
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST

from annotate.permissions import AdminRequest, admin_required
from generation.models import Policy
from training import schedule
from training.described import compared, described, lasting, lines_of, size
from training.forms import LaunchForm, filled
from training.launching import CannotLaunch, check_pairs, check_settings, prepare, settings_of
from training.models import Proposal, Round
from training.preview import DryRun, dry_run, estimated, remarks, short_of, summary_of
from training.rounds import launch_round
from training.tasks import run_round

NOTED = ("learning_rate", "beta", "label_smoothing", "batch_pairs", "eval_share")  # fields with a remark beside them


@admin_required
@require_http_methods(["GET", "HEAD", "POST"])
def set_up_round(request: HttpRequest) -> HttpResponse:
    """The form with what it would train on beside it; ?from=N begins with round N's settings, ?proposed
    with those of the open proposal.

    A POST changes nothing: it looks at the form as it was sent, or with act=dry_run tries it. Asked by htmx it
    answers with what stands beside the form.
    """
    if request.method != "POST":
        return _fresh_page(request)
    form = LaunchForm(request.POST)
    if not form.is_valid():
        return _page(request, form, None, status=422)
    given = form.settings()
    try:
        tried = dry_run(prepare(**given)) if request.POST.get("act") == "dry_run" else None
    except CannotLaunch as error:
        form.add_error(None, str(error))
        return _page(request, form, given, status=409)
    return _page(request, form, given, tried=tried)


@admin_required
@require_POST
def launch(request: AdminRequest) -> HttpResponse:
    form = LaunchForm(request.POST)
    if not form.is_valid():
        return _page(request, form, None, status=422)
    given = form.settings()
    try:
        launched = launch_round(by=request.user, **given)
    except CannotLaunch as error:
        form.add_error(None, str(error))
        return _page(request, form, given, status=409)
    transaction.on_commit(partial(run_round.delay, launched.pk))
    return redirect("show_round", launched.number)


def _fresh_page(request: HttpRequest) -> HttpResponse:
    number = request.GET.get("from", "")
    proposal = Proposal.objects.open().first() if "proposed" in request.GET else None
    if proposal:
        given = {**schedule.defaults(), **proposal.round_settings, "include_simulated": proposal.include_simulated}
    elif number.isdecimal() and len(number) < 10:
        given = settings_of(get_object_or_404(Round, number=int(number)))
    else:
        last = Round.objects.first()
        given = {**schedule.defaults(), "include_simulated": last.include_simulated if last else site.DEMO}
        number = ""
    side = _side(given)
    form = LaunchForm(initial=filled(given), suggested_smoothing=side["summary"] and side["summary"].smoothing)
    return render(request, "training/launch.html", {**_frame(form, side), "from_round": number})


def _page(
    request: HttpRequest,
    form: LaunchForm,
    given: dict[str, Any] | None,
    *,
    tried: DryRun | None = None,
    status: int = 200,
) -> HttpResponse:
    """given: what the form says; None if it cannot be meant."""
    side = _side(given) if given else {"problem": "", "faults": _faults(form), "remarks": {}}
    context = {**_frame(form, side), "tried": tried}
    if request.htmx:  # type: ignore[attr-defined]
        return render(request, "training/_launch_side.html", context)  # half a form is no error while it is typed
    return render(request, "training/launch.html", context, status=status)


def _frame(form: LaunchForm, side: dict[str, Any]) -> dict[str, Any]:
    notes = {name: side["remarks"].get(name, "") for name in NOTED}
    return {
        **side,
        "launch_form": form,
        "groups": _groups(form, notes),
        "notes": notes.items(),
        "undecided": Round.objects.undecided().first(),
    }


def _side(given: dict[str, Any]) -> dict[str, Any]:
    """What these settings would train on, and how they differ from the last round's."""
    found: dict[str, Any] = {"problem": "", "summary": None, "estimate": None, "remarks": {}}
    try:
        selection, settings = check_settings(**given)
    except CannotLaunch as error:  # settings of an older round may be refused today
        return {**found, "problem": str(error)}
    last = Round.objects.first()
    lines = described(selection, settings)
    found |= {"last": last, "lines": compared(lines, lines_of(last)) if last else lines}
    policy = Policy.objects.current()
    if policy is None:
        return {**found, "problem": _("There is no policy yet: run “make demo”, or register a base model first.")}
    summary = summary_of(selection, policy)
    try:
        check_pairs(selection, policy, summary.by_criterion)
    except CannotLaunch as error:
        return {**found, "problem": str(error), "policy": policy}
    estimate, no_estimate = estimated(policy, settings, selection, summary)
    found |= {"summary": summary, "estimate": estimate, "no_estimate": no_estimate, "policy": policy}
    if estimate:
        found |= {"figures": _figures(estimate), "short_of": short_of(estimate) if estimate.short_of else ""}
    parameters = estimate.parameters if estimate else None
    return {**found, "remarks": remarks(settings, parameters, summary.all_pairs)}


def _figures(estimate: Any) -> dict[str, str]:
    free = estimate.memory_free
    return {
        "time": lasting(estimate.seconds),
        "memory": size(estimate.memory),
        "memory_free": size(free) if free < float("inf") else "",
        "disk": size(estimate.disk),
        "disk_free": size(estimate.disk_free),
    }


def _faults(form: LaunchForm) -> list[tuple[str, str]]:
    """(label, message) of what is wrong, for the panel beside a form that is not drawn anew."""
    fields = form.fields
    return [
        (str(fields[name].label) if name in fields else "", str(message))
        for name, messages in form.errors.items()
        for message in messages
    ]


def _groups(form: LaunchForm, notes: dict[str, str]) -> list[dict[str, Any]]:
    """The form's fields in the order of the page, each with its remark."""
    several = ("languages", "audiences", "themes")
    numbers = ("loss", "beta", "sft_weight", "label_smoothing", "learning_rate", "epochs", "batch_pairs")
    data = ("data_rounds", "older_weight", *several, "min_agreement", "which_pairs")
    parts = [name for name in form.fields if name.startswith(("weight_", "stage_"))]
    named = {
        "data": (_("Data"), (*data, "include_simulated", *form.about_imported)),
        "objective": (_("What it is to learn"), ("objective", *parts)),
        "training": (_("Training"), (*numbers, "eval_share", "seed")),
        "weights": (_("Weights and reference"), ("method", "lora_rank", "lora_alpha", "reference")),
    }  # fmt: skip
    return [
        {
            "name": name,
            "legend": legend,
            "fields": [
                {"field": form[field], "boxes": field in (*several, "origins"), "note": notes.get(field)}
                for field in fields
            ],
        }
        for name, (legend, fields) in named.items()
    ]
