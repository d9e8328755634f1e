"""The experts' work: hand out, keep, take back."""

from uuid import UUID

from django.contrib import messages
from django.http import Http404, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from annotate.forms import JudgementForm, PageForm, check_size, sent_fields
from annotate.judgements import BadAnswer, last_fields, record_judgement, undo_judgement
from annotate.models import Assignment, Campaign, Draft, Judgement
from annotate.pages import Conflict, PageState, save_draft
from annotate.permissions import ExpertRequest, expert_required
from annotate.practice import needs_practice
from annotate.queue import can_be_judged, find_assignment, next_assignment, skip_assignment, unskip_assignment
from annotate.views.own import show_judged
from annotate.views.page import Done, Work, fresh_work, progress, said, show_work
from generation.permissions import own_or_404


@expert_required
@require_safe
@never_cache
def judge(request: ExpertRequest) -> HttpResponse:
    """The expert's next comparison, or that there is none. First of all the calibration set."""
    if needs_practice(request.expert, Campaign.current()):
        return redirect("practice")
    return _next(request, _done(request))


@expert_required
@require_safe
@never_cache
def judge_comparison(request: ExpertRequest, key: UUID) -> HttpResponse:
    """One comparison, in the order that was drawn for this expert; what was answered, once it is."""
    assignment = _get_assignment(request, key)
    if assignment.answered_at:
        return show_judged(request, assignment)
    if not can_be_judged(assignment):
        messages.info(request, _("Those stories have left the queue. Here is the next comparison."))
        return redirect("judge")
    return show_work(request, fresh_work(assignment))


@expert_required
@require_POST
def keep_draft(request: ExpertRequest, key: UUID) -> HttpResponse:
    """Keep what is entered so far, as the page sends it by itself. 409 with both versions if another tab wrote."""
    assignment = _get_assignment(request, key)
    form = PageForm(request.POST)
    page = form.state() if form.is_valid() else None
    if page is None:
        return JsonResponse(
            {"error": _("This page is out of date. Reload it; what you have entered is kept.")}, status=422
        )
    fields = sent_fields(request.POST, len(assignment.shown))
    try:
        check_size(fields)
        return JsonResponse({"version": save_draft(assignment=assignment, fields=fields, page=page)})
    except BadAnswer as error:
        return JsonResponse({"error": str(error)}, status=422)
    except Conflict as conflict:
        context = {"mine": said(fields), "theirs": said(_as_it_stands(conflict.assignment)), "assignment": assignment}
        context["version"] = conflict.assignment.version
        return render(request, "annotate/_conflict.html", context, status=409)


@expert_required
@require_POST
def submit_judgement(request: ExpertRequest, key: UUID) -> HttpResponse:
    """Keep the answer, then go on to the next comparison."""
    assignment = own_or_404(request.user, Assignment.objects.all(), key=key)
    campaign = Campaign.current()
    form = JudgementForm(
        request.POST,
        count=len(assignment.shown),
        criteria=campaign.criteria,
        criteria_required=campaign.criteria_required,
    )
    fields = sent_fields(request.POST, len(assignment.shown))
    if not form.is_valid():
        return _again(request, assignment, fields, form, form.complaints())
    try:
        check_size(fields)
        kept = record_judgement(
            assignment=assignment,
            verdict=form.cleaned_data["verdict"],
            ranks=form.ranks,
            reason=form.cleaned_data["reason"],
            details=form.details(fields),
            page=form.state(),
        )
    except BadAnswer as error:
        return _again(request, assignment, fields, form, [str(error)])
    except Conflict as conflict:
        return _conflict(request, conflict.assignment, fields)
    return _go_on(request, Done(assignment, kept.judgement, kept.repeated))


@expert_required
@require_POST
def skip_comparison(request: ExpertRequest, key: UUID) -> HttpResponse:
    """Give the place back and go on."""
    assignment = _get_assignment(request, key)
    skip_assignment(assignment=assignment)
    answered = Judgement.objects.filter(assignment=assignment).first()  # in another tab: it stands
    return _go_on(request, Done(assignment, answered, repeated=bool(answered)))


@expert_required
@require_POST
def undo(request: ExpertRequest, key: UUID) -> HttpResponse:
    """Take the answer (or the skip) back, and show the comparison again with what was entered."""
    assignment = _get_assignment(request, key)
    if assignment.answered_at:
        undo_judgement(assignment=assignment)
    elif assignment.skipped_at and not unskip_assignment(assignment=assignment):
        messages.info(request, _("Somebody else decides that comparison by now. Here is the next."))
        return _next(request, None) if request.htmx else redirect("judge")  # type: ignore[attr-defined]
    if not request.htmx:  # type: ignore[attr-defined]
        return redirect("judge_comparison", assignment.key)
    return _shown(request, fresh_work(_get_assignment(request, key)))


@expert_required
@require_safe
@never_cache
def edit_judgement(request: ExpertRequest, key: UUID) -> HttpResponse:
    """An answer given before, on the page that it was given on. Submitting it adds a revision."""
    assignment = _get_assignment(request, key)
    if not assignment.answered_at:
        return redirect("judge_comparison", assignment.key)
    work = fresh_work(assignment, editing=True)
    fields = work.fields or last_fields(assignment)
    return show_work(request, Work(assignment, fields, work.page, editing=True))


def _next(request: ExpertRequest, done: Done | None) -> HttpResponse:
    assignment = next_assignment(expert=request.expert)
    if assignment is None:
        fragment = bool(request.htmx)  # type: ignore[attr-defined]
        template = "annotate/nothing.html#work" if fragment else "annotate/nothing.html"
        response = render(request, template, {"fragment": fragment, "done": done, **progress(request)})
        if fragment:
            response["HX-Push-Url"] = reverse("judge")
        return response
    work = fresh_work(assignment, done=done)
    return _shown(request, work) if request.htmx else show_work(request, work)  # type: ignore[attr-defined]


def _shown(request: ExpertRequest, work: Work) -> HttpResponse:
    response = show_work(request, work)
    response["HX-Push-Url"] = reverse("judge_comparison", args=[work.assignment.key])
    return response


def _go_on(request: ExpertRequest, done: Done) -> HttpResponse:
    """The next comparison: at once for htmx, by a redirect without it."""
    if not request.htmx:  # type: ignore[attr-defined]
        return redirect(f"{reverse('judge')}?done={done.assignment.key}")
    return _next(request, done)


def _done(request: ExpertRequest) -> Done | None:
    """What the page was redirected from, when there is no JavaScript."""
    try:
        key = UUID(request.GET["done"])
        assignment = request.expert.assignments.select_related("judgement").get(key=key)
    except (KeyError, ValueError, Assignment.DoesNotExist):
        return None
    judgement = getattr(assignment, "judgement", None)
    return Done(assignment, judgement) if judgement or assignment.skipped_at else None


def _again(
    request: ExpertRequest, assignment: Assignment, fields: dict[str, list[str]], form: PageForm, complaints: list[str]
) -> HttpResponse:
    """The page as it was sent, and what is to be changed."""
    page = form.state() if not ({"page", "version"} & set(form.errors)) else None
    page = page or PageState(fresh_work(assignment).page.key, assignment.version)
    work = Work(assignment, fields, page, editing=bool(assignment.answered_at), complaints=complaints)
    return show_work(request, work, status=422)


def _conflict(request: ExpertRequest, assignment: Assignment, fields: dict[str, list[str]]) -> HttpResponse:
    """Both versions. Sent once more from here, this page's replaces the other, which stays in the history."""
    page = PageState(fresh_work(assignment).page.key, assignment.version)
    other = _as_it_stands(assignment)
    work = Work(assignment, fields, page, editing=bool(assignment.answered_at), other=other)
    return show_work(request, work, status=409)


def _as_it_stands(assignment: Assignment) -> dict[str, list[str]]:
    draft = Draft.objects.filter(assignment=assignment).first()
    return draft.fields if draft else last_fields(assignment)


def _get_assignment(request: ExpertRequest, key: UUID) -> Assignment:
    try:
        return find_assignment(expert=request.expert, key=key)
    except Assignment.DoesNotExist as error:
        raise Http404 from error
