"""What is put before experts, and who holds a place in it."""

import uuid
from typing import Self

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Exists, F, OuterRef, Q
from django.db.models.functions import Now, Random
from django.utils.translation import gettext_lazy as _

from annotate.models.people import Expert
from generation.models import Language, Policy, Prompt, Story


class Purpose(models.TextChoices):
    PREFERENCE = "preference", _("preference")
    EVALUATION = "evaluation", _("evaluation")


class ComparisonQuerySet(models.QuerySet["Comparison"]):
    def open(self) -> Self:
        return self.filter(closed_at=None)

    def preference(self) -> Self:
        return self.filter(purpose=Purpose.PREFERENCE)

    def evaluation_of(self, policy: Policy, baseline: Policy) -> Self:
        return self.filter(purpose=Purpose.EVALUATION, policy=policy, baseline=baseline)


class Comparison(models.Model):
    """One prompt's stories put before experts.

    purpose `preference`: stories of one policy. `evaluation`: two policies, blind; then `policy`
    is the new one and `baseline` the one it is measured against.
    """

    prompt = models.ForeignKey(Prompt, on_delete=models.PROTECT, related_name="comparisons")
    purpose = models.CharField(max_length=12, choices=Purpose)
    policy = models.ForeignKey(Policy, on_delete=models.PROTECT, related_name="comparisons")
    baseline = models.ForeignKey(
        Policy, null=True, blank=True, on_delete=models.PROTECT, related_name="baseline_comparisons"
    )
    sample_index = models.PositiveSmallIntegerField(default=0, help_text="of an evaluation's two stories")
    stories = models.ManyToManyField(Story, related_name="comparisons")
    # new-against-old work is mixed into ordinary work by chance
    draw_order = models.FloatField(db_default=Random())
    created_at = models.DateTimeField(auto_now_add=True)
    closed_at = models.DateTimeField(null=True, blank=True)

    objects = ComparisonQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["prompt", "purpose", "policy", "baseline", "sample_index"],
                nulls_distinct=False,
                name="comparison_once",
            ),
            models.CheckConstraint(
                condition=Q(purpose=Purpose.PREFERENCE, baseline=None)
                | (Q(purpose=Purpose.EVALUATION, baseline__isnull=False) & ~Q(baseline=F("policy"))),
                name="comparison_baseline_only_in_evaluation",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.purpose} {self.pk}"


class Kind(models.TextChoices):
    """Why an expert was given a comparison. The page is the same for all."""

    ORDINARY = "ordinary", _("ordinary")
    GOLD = "gold", _("silent gold")
    REPEAT = "repeat", _("silent repeat")
    ADJUDICATION = "adjudication", _("adjudication")


class AssignmentQuerySet(models.QuerySet["Assignment"]):
    def unanswered(self) -> Self:
        return self.filter(answered_at=None, skipped_at=None)


class Assignment(models.Model):
    """One expert's view of one comparison: the order shown to them, drawn once and kept.

    `version` counts what was written from its page, and `page` names the page that wrote last: a
    write that knows neither comes from another tab, and is a conflict.
    """

    key = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    comparison = models.ForeignKey(Comparison, on_delete=models.PROTECT, related_name="assignments")
    expert = models.ForeignKey(Expert, on_delete=models.PROTECT, related_name="assignments")
    kind = models.CharField(max_length=12, choices=Kind, default=Kind.ORDINARY)
    shown = ArrayField(models.BigIntegerField(), help_text="story ids in the order shown, first to last")
    minimum_seconds = models.FloatField(default=0, help_text="nobody reads these stories faster")
    opened_at = models.DateTimeField(auto_now_add=True)
    answered_at = models.DateTimeField(null=True, blank=True)
    skipped_at = models.DateTimeField(null=True, blank=True)
    version = models.PositiveIntegerField(default=0)
    page = models.UUIDField(null=True, blank=True)

    _stories: list[Story] | None = None  # read once

    objects = AssignmentQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["expert", "comparison", "kind"], name="assignment_once"),
            models.CheckConstraint(condition=Q(kind__in=Kind.values), name="assignment_kind_known"),
            models.CheckConstraint(
                condition=Q(answered_at=None) | Q(skipped_at=None), name="assignment_answered_or_skipped"
            ),
        ]
        indexes = [
            models.Index(
                fields=["expert"], condition=Q(answered_at=None, skipped_at=None), name="assignment_unanswered"
            ),
            models.Index(fields=["expert", "answered_at"], name="assignment_answered"),
        ]

    def __str__(self) -> str:
        return str(self.key)

    def stories(self) -> list[Story]:
        """The stories in the order shown: their texts, without what the sampler left."""
        if self._stories is None or [story.pk for story in self._stories] != self.shown:
            found = Story.objects.only("text", "withdrawn_at").in_bulk(self.shown)
            self._stories = [found[pk] for pk in self.shown]
        return self._stories


class Draft(models.Model):
    """What an expert has entered and not yet submitted: the page's fields, as they are sent."""

    assignment = models.OneToOneField(Assignment, on_delete=models.CASCADE, related_name="draft")
    # the form's own fields and values: a half-made answer has no other shape yet
    fields = models.JSONField()
    saved_at = models.DateTimeField(auto_now=True)

    def __str__(self) -> str:
        return f"draft of {self.assignment_id}"


class PlaceQuerySet(models.QuerySet["Place"]):
    def wanted(self) -> Self:
        """Places without a judgement, in comparisons that are in the queue."""
        return self.filter(wanted=True)

    def free(self) -> Self:
        """Wanted places that nobody holds, or whose holder's time is over without a judgement."""
        return self.wanted().filter(Q(assignment=None) | Q(held_until__lt=Now()))

    def open_to(self, expert: Expert) -> Self:
        """Places in comparisons that this expert has never been shown nor heard with a child, in languages that they
        read."""
        seen = Assignment.objects.filter(expert=expert, comparison=OuterRef("comparison"))
        heard = Comparison.objects.filter(pk=OuterRef("comparison"), listenings__session__adult=expert.user_id)
        found = self.exclude(Exists(seen)).exclude(Exists(heard))
        return found if set(expert.languages) == set(Language.values) else found.filter(language__in=expert.languages)


class Place(models.Model):
    """One of the N judgements that a comparison wants. Held by an assignment until `held_until`,
    filled for good when `held_until` is null and `assignment` is not."""

    comparison = models.ForeignKey(Comparison, on_delete=models.CASCADE, related_name="places")
    number = models.PositiveSmallIntegerField()
    # of the comparison, and here for the queue's index: it stays small beside a million filled places
    draw_order = models.FloatField()
    language = models.CharField(max_length=8, choices=Language)
    evaluation = models.BooleanField(default=False, db_default=False, help_text="new against old")
    wanted = models.BooleanField(default=True, help_text="not filled, and the comparison is in the queue")
    assignment = models.OneToOneField(Assignment, null=True, blank=True, on_delete=models.PROTECT, related_name="place")
    held_until = models.DateTimeField(null=True, blank=True)

    objects = PlaceQuerySet.as_manager()

    class Meta:
        ordering = ("number", "draw_order")
        constraints = [
            models.UniqueConstraint(fields=["comparison", "number"], name="place_once"),
            models.CheckConstraint(
                condition=Q(held_until=None) | Q(assignment__isnull=False), name="place_held_by_somebody"
            ),
            models.CheckConstraint(condition=Q(language__in=Language.values), name="place_language_known"),
            models.CheckConstraint(
                condition=Q(wanted=False) | Q(assignment=None) | Q(held_until__isnull=False),
                name="place_filled_is_not_wanted",
            ),
        ]
        indexes = [
            models.Index(fields=["evaluation", "number", "draw_order"], condition=Q(wanted=True), name="place_queue")
        ]

    def __str__(self) -> str:
        return f"{self.comparison_id}/{self.number}"
