"""The admins' pages about writing: the engine, who wrote what, writing runs, the sampling plan, the detectors."""

from datetime import datetime
from functools import partial

from django.conf import settings
from django.contrib import messages
from django.core.paginator import Paginator
from django.db import transaction
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST, require_safe

from generation import locks, readings, report, runs
from generation.detectors import quality
from generation.forms import JudgeForm, PlanForm, ReadForm
from generation.models import Policy, RunState, WritingRun
from generation.permissions import AdminRequest, admin_required
from generation.plan import reset_plan, sampling_plan
from generation.tasks import check_engine, read_stories, write_run

ASKED = "engine_check"  # in the session: a check that has been asked for and not begun is no row yet


@admin_required
@require_safe
def writing(request: AdminRequest) -> HttpResponse:
    """What writes the stories, how far it is, and who wrote what."""
    context = {**_runs_context(request), **_engine_context(request), "authors": report.authorship()}
    return render(request, "generation/writing.html", context)


@admin_required
@require_safe
def show_engine(request: AdminRequest) -> HttpResponse:
    """The part about the engine, for htmx while a check is under way."""
    if not request.htmx:
        return redirect("writing")
    return render(request, "generation/writing.html#engine", _engine_context(request))


@admin_required
@require_POST
def start_check(request: AdminRequest) -> HttpResponse:
    request.session[ASKED] = {"after": report.newest_check(), "at": timezone.now().isoformat()}
    transaction.on_commit(check_engine.delay)
    return redirect("writing")


@admin_required
@require_POST
def write_missing(request: AdminRequest) -> HttpResponse:
    """Begin a run of the policy in use, or join the one that is at work."""
    found = report.missing()
    if found.policy is None:
        messages.error(request, _("There is no policy yet: run “make demo”, or register a base model first."))
        return redirect("writing")
    if found.prompts and not found.stories:
        messages.success(request, _("%(policy)s has written all its stories.") % {"policy": found.policy})
        return redirect("writing")
    try:
        run = runs.begin_or_join(
            policy=found.policy, count=settings.STORIES_PER_PROMPT, engine=settings.ENGINE, by=request.user
        )
    except runs.CannotWrite as error:
        messages.error(request, str(error))
    else:
        transaction.on_commit(partial(write_run.delay, run.pk))
    return redirect("writing")


@admin_required
@require_safe
def show_run(request: AdminRequest, number: int) -> HttpResponse:
    """One run, and the places that it gave up. Asked by htmx it answers with the part that changes."""
    try:
        card = report.run_card(number)
    except WritingRun.DoesNotExist as error:
        raise Http404 from error
    if not request.htmx:
        places = card.run.empty_places.select_related("prompt").order_by("prompt_id", "sample_index")
        page = Paginator(places, report.EMPTY_PLACES_A_PAGE).get_page(request.GET.get("page"))
        return render(request, "generation/run.html", {"card": card, "places": page})
    in_list = request.GET.get("list")
    if request.GET.get("stage") == card.stage:
        return render(request, "generation/_live.html", {"card": card, "list": in_list})
    if in_list is None:
        return HttpResponse(headers={"HX-Refresh": "true"})
    # what may be done about it has changed: the whole list, so that its buttons are the right ones
    response = render(request, "generation/writing.html#runs", _runs_context(request, in_list))
    response["HX-Retarget"] = "#runs"
    return response


@admin_required
@require_POST
def cancel_run(request: AdminRequest, number: int) -> HttpResponse:
    run = get_object_or_404(WritingRun, pk=number)
    if run.state != RunState.RUNNING:
        messages.warning(request, _("This run has ended before."))
        return redirect("writing")
    runs.cancel(run)
    messages.success(request, _("The run has been cancelled. The stories that are written are kept."))
    return redirect("writing")


@admin_required
@require_POST
def continue_run(request: AdminRequest, number: int) -> HttpResponse:
    """Give a worker to a run that has lost its own."""
    run = get_object_or_404(WritingRun, pk=number)
    if run.state != RunState.RUNNING:
        messages.warning(request, _("This run has ended before."))
        return redirect("writing")
    transaction.on_commit(partial(write_run.delay, run.pk))
    messages.success(request, _("A worker goes on with the run as soon as one is free."))
    return redirect("writing")


@admin_required
@require_safe
def plan(request: AdminRequest) -> HttpResponse:
    """How each of a prompt's stories is drawn."""
    return _plan_page(request, PlanForm(sampling_plan()))


@admin_required
@require_POST
def save_sampling_plan(request: AdminRequest) -> HttpResponse:
    form = PlanForm(sampling_plan(), request.POST)
    if not form.is_valid():
        return _plan_page(request, form, status=422)
    form.save()
    messages.success(request, _("Saved. It holds for the stories that are written from now on."))
    return redirect("plan")


@admin_required
@require_POST
def reset_sampling_plan(request: AdminRequest) -> HttpResponse:
    reset_plan()
    messages.success(request, _("The plan is as it came with Storyloop."))
    return redirect("plan")


@admin_required
@require_safe
def show_detectors(request: AdminRequest) -> HttpResponse:
    """How good each detector of structure and message is, and what the judge model has read."""
    return render(request, "generation/detectors.html", _detectors_context())


@admin_required
@require_POST
def save_judge(request: AdminRequest) -> HttpResponse:
    form = JudgeForm(request.POST)
    if not form.is_valid():
        return render(request, "generation/detectors.html", {**_detectors_context(), "judge_form": form}, status=422)
    readings.choose_judge(policy=form.cleaned_data["judge"])
    messages.success(request, _("Saved. What another judge has read is kept."))
    return redirect("show_detectors")


@admin_required
@require_POST
def start_reading(request: AdminRequest) -> HttpResponse:
    form = ReadForm(request.POST)
    if not form.is_valid():
        return render(request, "generation/detectors.html", {**_detectors_context(), "read_form": form}, status=422)
    if readings.judge_model() is None:
        messages.error(request, _("Choose a judge model first."))
        return redirect("show_detectors")
    transaction.on_commit(partial(read_stories.delay, form.cleaned_data["policy"].pk))
    messages.success(
        request, _("A worker has the judge read as soon as one is free. Load this page again to see how far it is.")
    )
    return redirect("show_detectors")


def _detectors_context() -> dict[str, object]:
    chosen = readings.judge_model()
    return {
        "rules": quality(),
        "judge": chosen,
        "judge_quality": readings.judge_quality(chosen.policy) if chosen else None,
        "judged": [readings.judged(policy, chosen.policy) for policy in Policy.objects.all()] if chosen else [],
        "reading": locks.is_held(locks.READ),
        "judge_form": JudgeForm(initial={"judge": chosen and chosen.policy}),
        "read_form": ReadForm(initial={"policy": Policy.objects.current()}),
    }


def _plan_page(request: AdminRequest, form: PlanForm, status: int = 200) -> HttpResponse:
    context = {
        "form": form,
        "used": settings.STORIES_PER_PROMPT,
        "warnings": report.plan_warnings(sampling_plan()),
    }
    return render(request, "generation/plan.html", context, status=status)


def _runs_context(request: AdminRequest, number: str | None = None) -> dict[str, object]:
    page = report.run_page(number or request.GET.get("page"))
    return {"page": page, "cards": report.run_cards(page), "missing": report.missing()}


def _engine_context(request: AdminRequest) -> dict[str, object]:
    asked = request.session.get(ASKED)
    check = report.AskedCheck(asked["after"], datetime.fromisoformat(asked["at"])) if asked else None
    return {"engine": report.engine_state(check)}
