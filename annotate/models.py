"""What people think of stories: comparisons, who holds a place in them, and judgements."""

import uuid
from typing import Self

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Exists, F, OuterRef, Q
from django.db.models.functions import Now, Random
from django.utils.translation import gettext_lazy as _

from generation.models import Policy, Prompt, Story


class Audience(models.TextChoices):
    EDUCATOR = "educator", _("educator")
    PARENT = "parent", _("parent")
    WRITER = "writer", _("writer")


class Expert(models.Model):
    """A person who judges. A simulated expert plays one, and is never counted as a person."""

    user = models.OneToOneField(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="expert")
    audience = models.CharField(max_length=12, choices=Audience)
    simulated = models.BooleanField(default=False)

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(audience__in=Audience.values), name="expert_audience_known")]

    def __str__(self) -> str:
        return self.user.get_username()


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


class AssignmentQuerySet(models.QuerySet["Assignment"]):
    def unanswered(self) -> Self:
        return self.filter(judgement=None, skipped_at=None)


class Assignment(models.Model):
    """One expert's view of one comparison: the order shown to them, drawn once and kept."""

    key = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    comparison = models.ForeignKey(Comparison, on_delete=models.PROTECT, related_name="assignments")
    expert = models.ForeignKey(Expert, on_delete=models.PROTECT, related_name="assignments")
    shown = ArrayField(models.BigIntegerField(), help_text="story ids in the order shown, first to last")
    opened_at = models.DateTimeField(auto_now_add=True)
    skipped_at = models.DateTimeField(null=True, blank=True)

    objects = AssignmentQuerySet.as_manager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["comparison", "expert"], name="assignment_once")]

    def __str__(self) -> str:
        return str(self.key)

    def stories(self) -> list[Story]:
        """The stories in the order shown."""
        found = Story.objects.in_bulk(self.shown)
        return [found[pk] for pk in self.shown]


class PlaceQuerySet(models.QuerySet["Place"]):
    def free(self) -> Self:
        """Places that nobody holds, or whose holder's time is over without a judgement."""
        return self.filter(Q(assignment=None) | Q(held_until__lt=Now()))

    def open_to(self, expert: Expert) -> Self:
        """Places in open comparisons that this expert has never been shown."""
        seen = Assignment.objects.filter(expert=expert, comparison=OuterRef("comparison"))
        return self.filter(comparison__closed_at=None).exclude(Exists(seen))


class Place(models.Model):
    """One of the N judgements that a comparison wants. Held by an assignment until `held_until`,
    filled for good when `held_until` is null and `assignment` is not."""

    comparison = models.ForeignKey(Comparison, on_delete=models.CASCADE, related_name="places")
    number = models.PositiveSmallIntegerField()
    draw_order = models.FloatField(help_text="the comparison's: here for the index")
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
        ]
        indexes = [models.Index(fields=["number", "draw_order"], name="place_queue")]

    def __str__(self) -> str:
        return f"{self.comparison_id}/{self.number}"


class Verdict(models.TextChoices):
    RANKED = "ranked", _("ranked")
    TIE = "tie", _("equally good")


class JudgementQuerySet(models.QuerySet["Judgement"]):
    def by_people(self) -> Self:
        return self.filter(assignment__expert__simulated=False)


class Judgement(models.Model):
    """One expert's answer to one comparison."""

    assignment = models.OneToOneField(Assignment, on_delete=models.PROTECT, related_name="judgement")
    verdict = models.CharField(max_length=12, choices=Verdict)
    reason = models.TextField(blank=True, max_length=2000)
    extra = models.BooleanField(default=False, help_text="came when all places were filled; kept all the same")
    created_at = models.DateTimeField(auto_now_add=True)

    objects = JudgementQuerySet.as_manager()

    class Meta:
        ordering = ("pk",)
        constraints = [models.CheckConstraint(condition=Q(verdict__in=Verdict.values), name="judgement_verdict_known")]

    def __str__(self) -> str:
        return f"{self.verdict} {self.pk}"


class Rank(models.Model):
    """Where one story came in one judgement: rank 1 is best, equal ranks are ties.

    `shown_position` is where it stood on the screen (1 is first): kept apart, so that position
    bias can be measured.
    """

    judgement = models.ForeignKey(Judgement, on_delete=models.CASCADE, related_name="ranks")
    story = models.ForeignKey(Story, on_delete=models.PROTECT, related_name="ranks")
    rank = models.PositiveSmallIntegerField()
    shown_position = models.PositiveSmallIntegerField()

    class Meta:
        ordering = ("judgement", "shown_position")
        constraints = [
            models.UniqueConstraint(fields=["judgement", "story"], name="rank_once_per_story"),
            models.UniqueConstraint(fields=["judgement", "shown_position"], name="rank_once_per_position"),
            models.CheckConstraint(condition=Q(rank__gte=1, rank__lte=5), name="rank_from_one_to_five"),
            models.CheckConstraint(
                condition=Q(shown_position__gte=1, shown_position__lte=5), name="rank_position_from_one_to_five"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.rank} (shown {self.shown_position})"
