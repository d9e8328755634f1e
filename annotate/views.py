"""The experts' pages."""

from uuid import UUID

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from annotate.forms import JudgementForm
from annotate.judgements import (
    BadAnswer,
    find_assignment,
    next_assignment,
    record_judgement,
    skip_assignment,
)
from annotate.models import Assignment, Judgement
from annotate.permissions import ExpertRequest, expert_required

WORST_KEYS = "abcde"


@expert_required
@require_safe
@never_cache
def judge(request: ExpertRequest) -> HttpResponse:
    """Hand out the next comparison, or say that there is none."""
    assignment = next_assignment(expert=request.expert)
    if assignment is None:
        return render(request, "annotate/nothing.html", _progress(request))
    return redirect("judge_comparison", assignment.key)


@expert_required
@require_safe
@never_cache
def judge_comparison(request: ExpertRequest, key: UUID) -> HttpResponse:
    """One comparison, in the order that was drawn for this expert."""
    assignment = _get_assignment(request, key)
    if Judgement.objects.filter(assignment=assignment).exists():
        messages.info(request, _("You have judged that comparison already. Here is the next."))
        return redirect("judge")
    return _page(request, assignment, JudgementForm(count=len(assignment.shown)))


@expert_required
@require_POST
def submit_judgement(request: ExpertRequest, key: UUID) -> HttpResponse:
    """Keep the answer, then go on to the next comparison."""
    assignment = _get_assignment(request, key)
    form = JudgementForm(request.POST, count=len(assignment.shown))
    if not form.is_valid():
        return _page(request, assignment, form, status=422)
    try:
        kept = record_judgement(
            assignment=assignment,
            verdict=form.cleaned_data["verdict"],
            ranks=form.ranks,
            reason=form.cleaned_data["reason"],
        )
    except BadAnswer as error:
        form.add_error(None, str(error))
        return _page(request, assignment, form, status=422)
    messages.success(request, _what_happened(kept.judgement, repeated=kept.repeated))
    return _go_on(request)


@expert_required
@require_POST
def skip_comparison(request: ExpertRequest, key: UUID) -> HttpResponse:
    """Give the place back and go on."""
    skip_assignment(assignment=_get_assignment(request, key))
    messages.info(request, _("Skipped. Somebody else will judge it."))
    return _go_on(request)


def _what_happened(judgement: Judgement, *, repeated: bool) -> str:
    if repeated:
        return _("This judgement had been saved before; the first one stands.")
    if judgement.extra:
        return _("Saved as an extra: others had filled this comparison in the meantime.")
    return _("Saved. Thank you!")


def _go_on(request: ExpertRequest) -> HttpResponse:
    """The next comparison: at once for htmx, by a redirect without it."""
    if not request.htmx:  # type: ignore[attr-defined]
        return redirect("judge")
    assignment = next_assignment(expert=request.expert)
    if assignment is None:
        response = render(request, "annotate/nothing.html#work", {"fragment": True, **_progress(request)})
        response["HX-Push-Url"] = reverse("judge")
        return response
    response = _page(request, assignment, JudgementForm(count=len(assignment.shown)))
    response["HX-Push-Url"] = reverse("judge_comparison", args=[assignment.key])
    return response


def _get_assignment(request: ExpertRequest, key: UUID) -> Assignment:
    try:
        return find_assignment(expert=request.expert, key=key)
    except Assignment.DoesNotExist as error:
        raise Http404 from error


def _page(request: ExpertRequest, assignment: Assignment, form: JudgementForm, status: int = 200) -> HttpResponse:
    positions = range(1, len(assignment.shown) + 1)
    cards = [
        {"position": p, "text": story.text, "worst_key": WORST_KEYS[p - 1], "rank": form.data.get(f"rank_{p}", "")}
        for p, story in zip(positions, assignment.stories(), strict=True)
    ]
    context = {
        "assignment": assignment,
        "prompt": assignment.comparison.prompt,
        "cards": cards,
        "ranks": [str(p) for p in positions],
        "form": form,
        "best": form.data.get("best", ""),
        "worst": form.data.get("worst", ""),
        "ordered": any(card["rank"] for card in cards),
        "fragment": _is_fragment(request),
        **_progress(request),
    }
    template = "annotate/judge.html#work" if context["fragment"] else "annotate/judge.html"
    return render(request, template, context, status=status)


def _progress(request: ExpertRequest) -> dict[str, int]:
    return {"judged": Judgement.objects.filter(assignment__expert=request.expert).count()}


def _is_fragment(request: HttpRequest) -> bool:
    """Asked by htmx for a part of the page; going back in the history asks for all of it."""
    return bool(request.htmx) and not request.htmx.history_restore_request  # type: ignore[attr-defined]
