"""What experts see of their own work."""

from datetime import timedelta
from itertools import pairwise
from uuid import UUID

from django.core.paginator import Paginator
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from annotate.forms import PreferencesForm
from annotate.judgements import last_fields
from annotate.models import Assignment, Expert, Judgement, Rank
from annotate.models.answers import Verdict
from annotate.permissions import ExpertRequest, expert_required
from annotate.queue import find_assignment
from annotate.trust import record_of
from annotate.views.page import cards, progress, said
from generation.models import Language
from generation.readability import readability

PER_PAGE = 25
PAUSE = timedelta(minutes=30)  # that ends a sitting
LONGEST_SITTING = 500


@expert_required
@require_safe
@never_cache
def my_judgements(request: ExpertRequest) -> HttpResponse:
    """Everything that the expert has answered, newest first, each to be looked at and changed."""
    answered = request.expert.assignments.exclude(answered_at=None).order_by("-answered_at")
    paginator = Paginator(answered.select_related("comparison__prompt", "judgement"), PER_PAGE)
    page = paginator.get_page(request.GET.get("page"))
    context = {"page": page, "record": record_of(request.expert), "languages": Language.choices, **progress(request)}
    return render(request, "annotate/mine.html", context)


@expert_required
@require_safe
@never_cache
def sitting_summary(request: ExpertRequest) -> HttpResponse:
    """What came of this sitting: shown when an expert stops."""
    sitting = last_sitting(request.expert)
    judgements = Judgement.objects.filter(assignment__in=[a.pk for a in sitting])
    minutes = (sitting[0].answered_at - sitting[-1].opened_at).total_seconds() / 60 if sitting else 0  # type: ignore[operator]
    context = {
        "count": len(sitting),
        "minutes": max(round(minutes), 1),
        "pairs": _strict_pairs(list(judgements)),
        "with_reason": sum(bool(j.reason or j.reasons_for or j.reasons_against) for j in judgements),
        "unfinished": request.expert.assignments.unanswered().exclude(draft=None),
        **progress(request),
    }
    return render(request, "annotate/summary.html", context)


def last_sitting(expert: Expert) -> list[Assignment]:
    """The newest answers, newest first, back to the first pause of half an hour; none if that is over."""
    answered = expert.assignments.exclude(answered_at=None).order_by("-answered_at")[:LONGEST_SITTING]
    found = list(answered)
    if not found or timezone.now() - found[0].answered_at > PAUSE:  # type: ignore[operator]
        return []
    end = next(
        (i for i, (later, earlier) in enumerate(pairwise(found), 1) if later.answered_at - earlier.answered_at > PAUSE),  # type: ignore[operator]
        len(found),
    )
    return found[:end]


def _strict_pairs(judgements: list[Judgement]) -> int:
    """How many times these judgements prefer one story to another."""
    by_judgement: dict[int, list[int]] = {}
    for judgement, rank in Rank.objects.filter(judgement__in=judgements).values_list("judgement_id", "rank"):
        by_judgement.setdefault(judgement, []).append(rank)
    return sum(sum(a < b for a in ranks for b in ranks) for ranks in by_judgement.values())


@expert_required
@require_POST
def save_preferences(request: ExpertRequest) -> HttpResponse:
    """Keys on or off, and the languages of stories. What a form does not name is left as it is."""
    form = PreferencesForm(request.POST)
    if form.is_valid():
        if "keys_asked" in request.POST:
            request.expert.keys_enabled = form.cleaned_data["keys_enabled"]
        if form.cleaned_data["languages"]:
            request.expert.languages = form.cleaned_data["languages"]
        request.expert.save(update_fields=["keys_enabled", "languages"])
    if request.htmx:  # type: ignore[attr-defined]
        return HttpResponse(status=204)
    return redirect("my_judgements" if "languages_asked" in request.POST else "judge")


@expert_required
@require_safe
@never_cache
def show_readability(request: ExpertRequest, key: UUID) -> HttpResponse:
    """Figures of the stories: after the vote only, so that they do not steer it."""
    try:
        assignment = find_assignment(expert=request.expert, key=key)
    except Assignment.DoesNotExist as error:
        raise Http404 from error
    if not assignment.answered_at:
        return redirect("judge_comparison", key)
    return render(request, "annotate/_readability.html", {"rows": _figures(assignment), "assignment": assignment})


def show_judged(request: ExpertRequest, assignment: Assignment) -> HttpResponse:
    """A comparison that this expert has judged: what they said, and what the stories measure."""
    fields = last_fields(assignment)
    judgement = Judgement.objects.get(assignment=assignment)
    ranks = {rank.shown_position: rank.rank for rank in judgement.ranks.all()}
    shown = [{**card, "rank": ranks.get(int(card["position"]))} for card in cards(assignment, fields)]
    context = {
        "assignment": assignment,
        "prompt": assignment.comparison.prompt,
        "judgement": judgement,
        "verdict": Verdict(judgement.verdict).label,
        "cards": shown,
        "said": said(fields),
        "rows": _figures(assignment),
        **progress(request),
    }
    return render(request, "annotate/judged.html", context)


def _figures(assignment: Assignment) -> list[dict[str, object]]:
    language = assignment.comparison.prompt.language
    stories = enumerate(assignment.stories(), start=1)
    return [{"position": p, "figures": readability(story.text, language)} for p, story in stories]
