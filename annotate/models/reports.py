"""What admins look at: reports of experts, and comparisons whose answer is known."""

from typing import Self

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from annotate.models.queue import Assignment, Comparison
from generation.models import Story


class Subject(models.TextChoices):
    UNSAFE = "unsafe", _("unsafe for children")
    CANNOT_RANK = "cannot_rank", _("cannot be ranked")


class Outcome(models.TextChoices):
    UPHELD = "upheld", _("upheld")
    DISMISSED = "dismissed", _("dismissed")
    TAKEN_BACK = "taken_back", _("taken back by the expert")


class ReportQuerySet(models.QuerySet["Report"]):
    def unsettled(self) -> Self:
        return self.filter(outcome="")


class Report(models.Model):
    """An expert says that a story is unsafe for children, or that a comparison cannot be ranked."""

    assignment = models.ForeignKey(Assignment, on_delete=models.PROTECT, related_name="reports")
    subject = models.CharField(max_length=12, choices=Subject)
    story = models.ForeignKey(Story, null=True, blank=True, on_delete=models.PROTECT, related_name="reports")
    note = models.TextField(blank=True, max_length=2000)
    created_at = models.DateTimeField(auto_now_add=True)
    outcome = models.CharField(max_length=12, choices=Outcome, blank=True)
    settled_at = models.DateTimeField(null=True, blank=True)
    settled_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT)

    objects = ReportQuerySet.as_manager()

    class Meta:
        ordering = ("-pk",)
        constraints = [
            models.CheckConstraint(
                condition=Q(subject=Subject.UNSAFE, story__isnull=False) | Q(subject=Subject.CANNOT_RANK, story=None),
                name="report_names_the_unsafe_story",
            ),
            models.CheckConstraint(
                condition=Q(outcome="", settled_at=None) | (~Q(outcome="") & Q(settled_at__isnull=False)),
                name="report_settled_at_with_outcome",
            ),
            models.CheckConstraint(
                condition=Q(settled_by__isnull=False) | ~Q(outcome__in=[Outcome.UPHELD, Outcome.DISMISSED]),
                name="report_settled_by_somebody",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.subject} {self.pk}"


class Gold(models.Model):
    """A comparison whose best (and worst) story is known: given silently to experts who never saw it."""

    comparison = models.OneToOneField(Comparison, on_delete=models.CASCADE, related_name="gold")
    best = models.ForeignKey(Story, on_delete=models.PROTECT, related_name="+")
    worst = models.ForeignKey(Story, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    made_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT)
    created_at = models.DateTimeField(auto_now_add=True)
    retired_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(worst=None) | ~Q(best=F("worst")), name="gold_best_is_not_worst")
        ]

    def __str__(self) -> str:
        return f"gold {self.comparison_id}"
