"""The admins' pages about judging: how it is set up, how far it can be trusted, what wants a decision."""

from dataclasses import dataclass
from datetime import timedelta

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST, require_safe

from annotate import adjudication, orders, trust
from annotate.forms_admin import AdjudicationForm, CampaignForm
from annotate.gold import Candidate, NoGold, gold_candidates, make_gold, retire_gold
from annotate.models import Assignment, Campaign, Comparison, Expert, Gold, Judgement, Kind, Place, Report
from annotate.models.reports import Outcome
from annotate.newest import NEWEST
from annotate.permissions import AdminRequest, admin_required, expert_of
from annotate.reports import settle
from generation.local_cache import cache
from generation.models import Story

RECENT = 50  # of what is settled: the page is for what is not


@dataclass(frozen=True)
class DisagreementRow:
    found: adjudication.Disagreement
    beside: orders.SideBySide
    form: AdjudicationForm | None  # None: nobody may decide it
    hidden: bool  # from this admin, who is still to judge it


@dataclass(frozen=True)
class GoldRow:
    beside: orders.SideBySide
    best: str
    worst: str
    hidden: bool
    candidate: Candidate | None = None
    gold: Gold | None = None


@dataclass(frozen=True)
class ReportRow:
    report: Report
    stories: list[tuple[str, Story]]  # the one that is unsafe, or all that cannot be ranked


@admin_required
@require_safe
def judging(request: HttpRequest) -> HttpResponse:
    """How judging goes and how it is set up."""
    return _judging_page(request, CampaignForm(instance=Campaign.stored()))


@admin_required
@require_POST
def save_campaign(request: HttpRequest) -> HttpResponse:
    form = CampaignForm(request.POST, instance=Campaign.stored())
    if not form.is_valid():
        return _judging_page(request, form, status=422)
    form.save()
    messages.success(request, _("Saved. It holds from the next comparison on."))
    return redirect("judging")


@admin_required
@require_safe
def experts(request: HttpRequest) -> HttpResponse:
    """How steady and how quick everybody is."""
    return render(request, "annotate/admin/experts.html", {"records": trust.expert_records(), "newest": NEWEST})


@admin_required
@require_safe
def reports(request: HttpRequest) -> HttpResponse:
    """What experts have reported: unsettled first."""
    found = Report.objects.select_related(
        "assignment__expert__user", "assignment__comparison__prompt", "story", "settled_by"
    ).prefetch_related("assignment__comparison__stories")
    context = {
        "unsettled": [_report_row(report) for report in found.unsettled().order_by("pk")],
        "settled": [_report_row(report) for report in found.exclude(outcome="").order_by("-settled_at")[:RECENT]],
    }
    return render(request, "annotate/admin/reports.html", context)


@admin_required
@require_POST
def settle_report(request: AdminRequest, number: int) -> HttpResponse:
    report = get_object_or_404(Report, pk=number)
    outcome = request.POST.get("outcome")
    if outcome not in (Outcome.UPHELD, Outcome.DISMISSED):
        messages.error(request, _("Uphold the report or dismiss it."))
    elif settle(report=report, by=request.user, upheld=outcome == Outcome.UPHELD):
        messages.success(request, _settled(report, upheld=outcome == Outcome.UPHELD))
    else:
        report = Report.objects.select_related("settled_by").get(pk=number)
        messages.warning(request, _settled_before(report))
    return redirect("reports")


@admin_required
@require_safe
def disagreements(request: AdminRequest) -> HttpResponse:
    """Comparisons on which experts disagree strongly, and those that an adjudicator has."""
    found = adjudication.disagreements()
    ids = [one.comparison for one in found]
    beside = {one.comparison.pk: one for one in orders.side_by_side(ids)}
    able = adjudication.adjudicators([one.comparison for one in beside.values()], by=request.user)
    hidden = orders.still_to_judge(expert_of(request.user), ids)
    rows = [
        DisagreementRow(one, beside[one.comparison], _adjudication_form(able[one.comparison], one.comparison),
                        one.comparison in hidden)
        for one in found
    ]  # fmt: skip
    sent = Assignment.objects.filter(kind=Kind.ADJUDICATION).select_related("expert__user", "comparison__prompt")
    return render(request, "annotate/admin/disagreements.html", {"rows": rows, "sent": sent.order_by("-pk")[:RECENT]})


@admin_required
@require_POST
def send_to_adjudicator(request: AdminRequest, number: int) -> HttpResponse:
    comparison = get_object_or_404(Comparison.objects.select_related("prompt"), pk=number)
    able = adjudication.adjudicators([comparison], by=request.user)[comparison.pk]
    form = AdjudicationForm(request.POST, experts=able)
    if not form.is_valid():
        messages.error(request, " ".join(map(str, form.errors.get("expert", []))))
        return redirect("disagreements")
    expert = get_object_or_404(Expert, pk=form.cleaned_data["expert"])
    try:
        adjudication.adjudicate(comparison=comparison, expert=expert, by=request.user)
    except adjudication.CannotAdjudicate as error:
        messages.error(request, str(error))
    else:
        messages.success(request, _("%(expert)s gets it as the next comparison.") % {"expert": expert})
    return redirect("disagreements")


@admin_required
@require_safe
def gold(request: AdminRequest) -> HttpResponse:
    """Comparisons whose answer is known, in use and retired, and those that could be."""
    found = list(Gold.objects.select_related("made_by").order_by("-pk"))
    candidates = gold_candidates()
    ids = [one.comparison_id for one in found] + [one.comparison for one in candidates]
    beside = {one.comparison.pk: one for one in orders.side_by_side(ids)}
    hidden = orders.still_to_judge(expert_of(request.user), ids)
    rows = [_gold_row(one, beside[one.comparison_id], hidden) for one in found]
    context = {
        "used": [row for row in rows if row.gold and row.gold.retired_at is None],
        "retired": [row for row in rows if row.gold and row.gold.retired_at],
        "candidates": [_candidate_row(one, beside[one.comparison], hidden) for one in candidates],
    }
    return render(request, "annotate/admin/gold.html", context)


@admin_required
@require_POST
def add_gold(request: AdminRequest, number: int) -> HttpResponse:
    comparison = get_object_or_404(Comparison, pk=number)
    try:
        make_gold(comparison=comparison, by=request.user)
    except NoGold as error:
        messages.error(request, str(error))
    else:
        messages.success(request, _("It now comes up, silently, for experts who have never seen it."))
    return redirect("gold")


@admin_required
@require_POST
def remove_gold(request: HttpRequest, number: int) -> HttpResponse:
    if retire_gold(get_object_or_404(Gold, pk=number)):
        messages.success(request, _("Retired: it comes up no more, and answers to it are not counted."))
    else:
        messages.warning(request, _("It had been retired before."))
    return redirect("gold")


def _judging_page(request: HttpRequest, form: CampaignForm, status: int = 200) -> HttpResponse:
    today = timezone.localtime().replace(hour=0, minute=0, second=0, microsecond=0)
    judgements = Judgement.objects.counted()
    week = judgements.filter(created_at__gte=today - timedelta(days=6))
    context = {
        "form": form,
        "open_places": Place.objects.free().count(),
        "today": judgements.filter(created_at__gte=today).count(),
        "week": week.count(),
        "week_by_people": week.by_people().count(),
        "unsettled": Report.objects.unsettled().count(),
        # all rankings are looked through for it: seconds, when there are many
        "disagreements": cache.get_or_set("disagreements", _disagreements, 60),
        "golds": Gold.objects.filter(retired_at=None).count(),
    }
    return render(request, "annotate/admin/judging.html", context, status=status)


def _disagreements() -> int:
    return len(adjudication.disagreements(limit=None))


def _report_row(report: Report) -> ReportRow:
    comparison = report.assignment.comparison
    stories = list(zip(orders.LETTERS, sorted(comparison.stories.all(), key=lambda s: s.pk), strict=False))
    if report.story_id:
        stories = [(letter, story) for letter, story in stories if story.pk == report.story_id]
    return ReportRow(report, stories)


def _settled(report: Report, *, upheld: bool) -> str:
    if report.story_id is None:
        if upheld:
            return _("Upheld: the comparison is closed, nobody else is asked.")
        return _("Dismissed: the comparison goes on.")
    if upheld:
        return _("Upheld: the story stays out of the queue and of every export for good.")
    if Story.objects.filter(pk=report.story_id, withdrawn_at=None).exists():
        return _("Dismissed: the story is back in the queue.")
    return _("Dismissed. The story stays out all the same: another report on it stands.")


def _settled_before(report: Report) -> str:
    if report.settled_by is None:
        return _("The expert has taken this report back.")
    return _("%(admin)s has settled this report before: %(outcome)s.") % {
        "admin": report.settled_by,
        "outcome": report.get_outcome_display(),
    }


def _adjudication_form(able: list[Expert], comparison: int) -> AdjudicationForm | None:
    return AdjudicationForm(experts=able, auto_id=f"id_{comparison}_%s") if able else None


def _gold_row(gold: Gold, beside: orders.SideBySide, hidden: set[int]) -> GoldRow:
    letter = {story.pk: letter for letter, story in beside.stories}
    best, worst = letter.get(gold.best_id, "–"), letter.get(gold.worst_id, "–") if gold.worst_id else "–"
    return GoldRow(beside, best, worst, gold.comparison_id in hidden, gold=gold)


def _candidate_row(one: Candidate, beside: orders.SideBySide, hidden: set[int]) -> GoldRow:
    letter = {story.pk: letter for letter, story in beside.stories}
    return GoldRow(beside, letter[one.best], letter[one.worst], one.comparison in hidden, candidate=one)
