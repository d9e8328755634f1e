"""The admins' pages of schedules: when rounds are launched, proposed and promoted by themselves."""

from dataclasses import dataclass

from django.conf import settings
from django.contrib import messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST, require_safe

from annotate.permissions import AdminRequest, admin_required
from training import promotion, schedule
from training.forms_schedule import PromotionRuleForm, ScheduleForm
from training.models import Proposal, Schedule, When
from training.outcomes import in_words
from training.when import first_time


@dataclass(frozen=True)
class Card:
    """A schedule as the pages show it."""

    schedule: Schedule

    @property
    def found(self) -> str:
        """What it said when it looked last."""
        return in_words(self.schedule.outcome)

    @property
    def now(self) -> str:
        """What it would say now: counts pairs, which takes its time where there are many."""
        return in_words(schedule.look(self.schedule))

    @property
    def weekdays(self) -> str:
        names = dict(Schedule._meta.get_field("weekdays").base_field.choices or ())  # type: ignore[attr-defined]
        return ", ".join(str(names[day]) for day in sorted(self.schedule.weekdays))

    @property
    def weekly(self) -> bool:
        return self.schedule.when == When.WEEKLY


def cards() -> list[Card]:
    found: QuerySet[Schedule] = Schedule.objects.select_related("settings_round")
    return [Card(one) for one in found]


@admin_required
@require_safe
def schedules(request: HttpRequest) -> HttpResponse:
    """All schedules: when each looks next, what it did last, and why not."""
    return _page(request)


@admin_required
@require_POST
def add_schedule(request: HttpRequest) -> HttpResponse:
    form = ScheduleForm(request.POST)
    if not form.is_valid():
        return _page(request, form=form, status=422)
    _save(form)
    messages.success(request, _("The schedule is saved."))
    return redirect("schedules")


@admin_required
@require_safe
def edit_schedule(request: HttpRequest, pk: int) -> HttpResponse:
    found = get_object_or_404(Schedule, pk=pk)
    return _edit_page(request, found, ScheduleForm(instance=found))


@admin_required
@require_POST
def save_schedule(request: HttpRequest, pk: int) -> HttpResponse:
    found = get_object_or_404(Schedule, pk=pk)
    form = ScheduleForm(request.POST, instance=found)
    if not form.is_valid():
        return _edit_page(request, get_object_or_404(Schedule, pk=pk), form, status=422)
    _save(form)
    messages.success(request, _("The schedule is saved."))
    return redirect("schedules")


@admin_required
@require_POST
def remove_schedule(request: HttpRequest, pk: int) -> HttpResponse:
    get_object_or_404(Schedule, pk=pk).delete()
    messages.success(request, _("The schedule is removed. The rounds that it launched stay."))
    return redirect("schedules")


@admin_required
@require_POST
def save_promotion_rule(request: HttpRequest) -> HttpResponse:
    form = PromotionRuleForm(request.POST, instance=promotion.the_rule())
    if form.is_valid():
        form.save()
        messages.success(request, _("The rule is saved."))
    return redirect("schedules")


@admin_required
@require_POST
def dismiss_proposal(request: AdminRequest, pk: int) -> HttpResponse:
    """The same pairs are not proposed again."""
    if Proposal.objects.filter(pk=pk).close(request.user):
        messages.success(request, _("Dismissed: it is proposed again when as many new pairs have come once more."))
    return redirect("rounds")


def _save(form: ScheduleForm) -> None:
    """The beat may have looked meanwhile: what it wrote stays, but for the next time."""
    found: Schedule = form.save(commit=False)
    found.next_at = first_time(found, timezone.now())
    if found.pk:
        found.save(update_fields=[*form.Meta.fields, "next_at"])
    else:
        found.save()


def _page(request: HttpRequest, *, form: ScheduleForm | None = None, status: int = 200) -> HttpResponse:
    context = {
        "cards": cards(),
        "form": form or ScheduleForm(),
        "rule_form": PromotionRuleForm(instance=promotion.the_rule(), auto_id="rule_%s"),
        "zone": settings.TIME_ZONE,
    }
    return render(request, "training/schedules.html", context, status=status)


def _edit_page(request: HttpRequest, found: Schedule, form: ScheduleForm, *, status: int = 200) -> HttpResponse:
    context = {"schedule": found, "form": form, "zone": settings.TIME_ZONE}
    return render(request, "training/schedule.html", context, status=status)
