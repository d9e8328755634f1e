"""How judging is set up: what is asked, how judges are prepared and checked."""

from typing import Any, Self

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from annotate.models.people import Expert
from generation.local_cache import cache
from generation.models import Language

CACHED = "campaign"
CACHED_SECONDS = 2


class Criterion(models.TextChoices):
    LANGUAGE_FIT = "language_fit", _("Language fits the age")
    STRUCTURE = "structure", _("Clear beginning, middle and end")
    EDUCATIONAL_VALUE = "educational_value", _("Educational value")
    CREATIVITY = "creativity", _("Creativity")
    COHERENCE = "coherence", _("Hangs together")
    ENGAGEMENT = "engagement", _("Children would want to hear on")


def default_criteria() -> list[str]:
    return [Criterion.LANGUAGE_FIT, Criterion.STRUCTURE, Criterion.EDUCATIONAL_VALUE]


class Campaign(models.Model):
    """The one row that admins edit. What is left blank is what the house ships."""

    criteria = ArrayField(models.CharField(max_length=20, choices=Criterion), default=default_criteria, blank=True)
    criteria_required = models.BooleanField(default=False)
    practice = models.BooleanField(default=True, help_text="calibration set before the first real comparison")
    gold_every = models.PositiveSmallIntegerField(default=20, help_text="one in so many is a silent gold; 0: none")
    repeat_every = models.PositiveSmallIntegerField(default=15, help_text="one in so many comes again; 0: none")
    evaluation_share = models.PositiveSmallIntegerField(
        default=30, db_default=30, help_text="percent of the work that is new against old, while there is both"
    )
    guidelines_en = models.TextField(blank=True, max_length=20_000)
    guidelines_zh = models.TextField(blank=True, max_length=20_000)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(pk=1), name="campaign_one_row"),
            models.CheckConstraint(
                condition=Q(criteria__contained_by=Criterion.values), name="campaign_criteria_known"
            ),
            models.CheckConstraint(condition=Q(evaluation_share__lte=100), name="campaign_share_is_a_percentage"),
        ]

    def __str__(self) -> str:
        return "campaign"

    def save(self, *args: Any, **kwargs: Any) -> None:
        super().save(*args, **kwargs)
        cache.delete(CACHED)

    @classmethod
    def current(cls) -> "Campaign":
        """As it was two seconds ago at the earliest: every page asks for it."""
        found = cache.get(CACHED)
        if found is None:
            found = cls.stored()
            cache.set(CACHED, found, CACHED_SECONDS)
        return found

    @classmethod
    def stored(cls) -> "Campaign":
        """As it is now: for who changes it."""
        return cls.objects.filter(pk=1).first() or cls.objects.get_or_create(pk=1)[0]


class ExampleQuerySet(models.QuerySet["Example"]):
    def for_expert(self, expert: Expert) -> Self:
        """The calibration set in the languages that this expert reads."""
        return self.filter(active=True, language__in=expert.languages)


class Example(models.Model):
    """An item of the calibration set: stories whose best and worst are known, and why.

    No policy wrote them, so they are no stories of the loop: nothing here is ever trained on.
    """

    key = models.SlugField(max_length=60, unique=True)
    language = models.CharField(max_length=8, choices=Language)
    prompt = models.TextField()
    age_band = models.CharField(max_length=12)
    stories = ArrayField(models.TextField(), help_text="2 to 5 texts in the order shown")
    best = models.PositiveSmallIntegerField(help_text="position of the best story, from 1")
    worst = models.PositiveSmallIntegerField(help_text="position of the worst story, from 1")
    explanation_en = models.TextField()
    explanation_zh = models.TextField()
    sort_order = models.PositiveSmallIntegerField(default=0)
    active = models.BooleanField(default=True)

    objects = ExampleQuerySet.as_manager()

    class Meta:
        ordering = ("language", "sort_order", "pk")
        constraints = [
            models.CheckConstraint(condition=Q(language__in=Language.values), name="example_language_known"),
            models.CheckConstraint(
                condition=Q(stories__len__gte=2, stories__len__lte=5), name="example_two_to_five_stories"
            ),
            models.CheckConstraint(
                condition=Q(best__gte=1, best__lte=F("stories__len"), worst__gte=1, worst__lte=F("stories__len"))
                & ~Q(best=F("worst")),
                name="example_best_and_worst_among_stories",
            ),
        ]

    def __str__(self) -> str:
        return self.key


class PracticeAnswer(models.Model):
    """What an expert said of an example, first and only time."""

    expert = models.ForeignKey(Expert, on_delete=models.CASCADE, related_name="practice_answers")
    example = models.ForeignKey(Example, on_delete=models.CASCADE, related_name="answers")
    best = models.PositiveSmallIntegerField()
    worst = models.PositiveSmallIntegerField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["expert", "example"], name="practice_once")]

    def __str__(self) -> str:
        return f"{self.expert_id}/{self.example_id}"

    @property
    def agrees(self) -> bool:
        """The same best story as the explanation's."""
        return self.best == self.example.best
