"""What experts answered."""

from typing import Self

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from annotate.models.campaign import Criterion
from annotate.models.queue import Assignment, Kind
from generation.models import Story


class Verdict(models.TextChoices):
    """Six answers, kept apart for ever. The first four rank the stories (the three in the middle as
    equals), the last two do not."""

    RANKED = "ranked", _("ranked")
    TIE = "tie", _("equally good")
    ALL_GOOD = "all_good", _("all good")
    ALL_BAD = "all_bad", _("all bad")
    CANNOT_RANK = "cannot_rank", _("cannot rank")
    UNSAFE = "unsafe", _("unsafe for children")


EQUAL = frozenset({Verdict.TIE, Verdict.ALL_GOOD, Verdict.ALL_BAD})


class JudgementQuerySet(models.QuerySet["Judgement"]):
    def by_people(self) -> Self:
        return self.filter(assignment__expert__simulated=False)

    def counted(self) -> Self:
        """Without the silent checks, which say something of the expert and not of the stories."""
        return self.filter(assignment__kind__in=[Kind.ORDINARY, Kind.ADJUDICATION])


class Judgement(models.Model):
    """One expert's answer to one comparison, as it stands now: `Revision` keeps all that it was."""

    assignment = models.OneToOneField(Assignment, on_delete=models.PROTECT, related_name="judgement")
    verdict = models.CharField(max_length=12, choices=Verdict)
    reason = models.TextField(blank=True, max_length=2000)
    reasons_for = ArrayField(models.CharField(max_length=30), default=list, blank=True, help_text="chips: the best")
    reasons_against = ArrayField(models.CharField(max_length=30), default=list, blank=True, help_text="the worst")
    extra = models.BooleanField(default=False, help_text="came when all places were filled; kept all the same")
    seconds = models.FloatField(null=True, blank=True, help_text="that the page was open and in view")
    hurried = models.BooleanField(default=False, help_text="in less time than reading takes; observed, not enforced")
    created_at = models.DateTimeField(auto_now_add=True)
    changed_at = models.DateTimeField(auto_now=True)

    objects = JudgementQuerySet.as_manager()

    class Meta:
        ordering = ("pk",)
        constraints = [
            models.CheckConstraint(condition=Q(verdict__in=Verdict.values), name="judgement_verdict_known"),
            models.CheckConstraint(condition=Q(seconds=None) | Q(seconds__gte=0), name="judgement_seconds_positive"),
        ]

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


class CriterionWinner(models.Model):
    """The story that wins by one criterion; none (null) means that there is no difference."""

    judgement = models.ForeignKey(Judgement, on_delete=models.CASCADE, related_name="criterion_winners")
    criterion = models.CharField(max_length=20, choices=Criterion)
    story = models.ForeignKey(Story, null=True, blank=True, on_delete=models.PROTECT, related_name="criterion_wins")

    class Meta:
        ordering = ("judgement", "criterion")
        constraints = [
            models.UniqueConstraint(fields=["judgement", "criterion"], name="criterion_once_per_judgement"),
            models.CheckConstraint(condition=Q(criterion__in=Criterion.values), name="criterion_known"),
        ]

    def __str__(self) -> str:
        return f"{self.criterion}: {self.story_id}"


class Passage(models.Model):
    """A marked passage of a story: characters `start` to `end` (code points, end not included)."""

    judgement = models.ForeignKey(Judgement, on_delete=models.CASCADE, related_name="passages")
    story = models.ForeignKey(Story, on_delete=models.PROTECT, related_name="passages")
    start = models.PositiveIntegerField()
    end = models.PositiveIntegerField()
    good = models.BooleanField(help_text="liked; else disliked")

    class Meta:
        ordering = ("judgement", "story", "start")
        constraints = [models.CheckConstraint(condition=Q(end__gt=F("start")), name="passage_not_empty")]

    def __str__(self) -> str:
        return f"{self.story_id}[{self.start}:{self.end}]"


class Improvement(models.Model):
    """The best story as the expert would have written it: edited > chosen > rejected (Llama 3, 2024, section 4.2.1)."""

    judgement = models.OneToOneField(Judgement, on_delete=models.CASCADE, related_name="improvement")
    story = models.ForeignKey(Story, on_delete=models.PROTECT, related_name="improvements")
    text = models.TextField()

    class Meta:
        constraints = [models.CheckConstraint(condition=~Q(text=""), name="improvement_has_text")]

    def __str__(self) -> str:
        return self.text[:80]


class Act(models.TextChoices):
    SUBMITTED = "submitted", _("submitted")
    EDITED = "edited", _("edited")
    UNDONE = "undone", _("undone")


class Revision(models.Model):
    """One line of an answer's history. Only ever added: a trigger of the database refuses the rest.

    `key` is the page's: a second submit with the same key is the same act, and changes nothing.
    """

    assignment = models.ForeignKey(Assignment, on_delete=models.PROTECT, related_name="revisions")
    number = models.PositiveIntegerField()
    act = models.CharField(max_length=12, choices=Act)
    key = models.UUIDField()
    # the page's fields as they were sent: a history must outlive the columns of today
    fields = models.JSONField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("assignment", "number")
        constraints = [
            models.UniqueConstraint(fields=["assignment", "number"], name="revision_once"),
            models.UniqueConstraint(fields=["assignment", "key"], name="revision_key_once"),
            models.CheckConstraint(condition=Q(act__in=Act.values), name="revision_act_known"),
        ]

    def __str__(self) -> str:
        return f"{self.act} {self.assignment_id}/{self.number}"
