"""What children think: pairs of stories heard with an adult. Of the child, an age band and nothing else."""

import uuid
from typing import Self

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from annotate.models.queue import Comparison
from generation.models import Language, Policy, Story


class AgeBand(models.TextChoices):
    FIVE_TO_SIX = "5-6", _("5-6 years")
    SEVEN_TO_EIGHT = "7-8", _("7-8 years")


class Reader(models.TextChoices):
    """Who reads aloud."""

    ADULT = "adult", _("I read them myself")
    BROWSER = "browser", _("A voice of this device reads them")


class Picture(models.TextChoices):
    """What stands for a story: a child of five points at a picture before it reads a number."""

    SUN = "sun", _("Sun")
    MOON = "moon", _("Moon")
    BOAT = "boat", _("Boat")
    KITE = "kite", _("Kite")
    APPLE = "apple", _("Apple")
    PEAR = "pear", _("Pear")


class Heard(models.TextChoices):
    """How a pair ended."""

    CHOSEN = "chosen", _("chose one story")
    SAME = "same", _("liked both the same")
    STOPPED = "stopped", _("gave no answer")


class Understood(models.TextChoices):
    YES = "yes", _("yes")
    PARTLY = "partly", _("partly")
    NO = "no", _("no")


class ListeningSession(models.Model):
    """An adult and a child at one sitting. There is no session without the adult's consent."""

    key = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    adult = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="listening_sessions")
    language = models.CharField(max_length=8, choices=Language)
    age_band = models.CharField(max_length=4, choices=AgeBand)
    read_by = models.CharField(max_length=8, choices=Reader, default=Reader.ADULT)
    consented_at = models.DateTimeField()
    consent_version = models.CharField(max_length=12, help_text="of the text that the adult agreed to")
    created_at = models.DateTimeField(auto_now_add=True)
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("-pk",)
        constraints = [
            models.CheckConstraint(
                condition=Q(consented_at__isnull=False) & ~Q(consent_version=""), name="listening_session_has_consent"
            ),
            models.CheckConstraint(condition=Q(language__in=Language.values), name="listening_session_language_known"),
            models.CheckConstraint(condition=Q(age_band__in=AgeBand.values), name="listening_session_age_band_known"),
            models.CheckConstraint(condition=Q(read_by__in=Reader.values), name="listening_session_reader_known"),
        ]

    def __str__(self) -> str:
        return str(self.key)


class ListeningQuerySet(models.QuerySet["Listening"]):
    def evaluation_of(self, policy: Policy, baseline: Policy) -> Self:
        """Pairs of these two policies' stories, without those in which a story was withdrawn."""
        comparisons = Comparison.objects.evaluation_of(policy, baseline)
        return self.filter(comparison__in=comparisons, first__withdrawn_at=None, second__withdrawn_at=None)

    def answered(self) -> Self:
        return self.exclude(outcome="")


class Listening(models.Model):
    """Two stories that a child hears, and what it chooses.

    What could sway a child is drawn for each pair and kept: which story comes first, the picture
    that stands for each, which picture is on the left, and the story that is asked about.
    `version` counts the writes: a page that knows an older one does not overwrite a newer.
    """

    key = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    session = models.ForeignKey(ListeningSession, on_delete=models.CASCADE, related_name="listenings")
    comparison = models.ForeignKey(Comparison, on_delete=models.PROTECT, related_name="listenings")
    number = models.PositiveSmallIntegerField(help_text="in the session, from 1")
    first = models.ForeignKey(Story, on_delete=models.PROTECT, related_name="+", help_text="the one heard first")
    second = models.ForeignKey(Story, on_delete=models.PROTECT, related_name="+")
    first_picture = models.CharField(max_length=8, choices=Picture)
    second_picture = models.CharField(max_length=8, choices=Picture)
    first_on_left = models.BooleanField(help_text="of the two pictures to choose from")
    asked_about = models.ForeignKey(Story, on_delete=models.PROTECT, related_name="+", help_text="drawn, not chosen")
    created_at = models.DateTimeField(auto_now_add=True)
    version = models.PositiveIntegerField(default=0)

    outcome = models.CharField(max_length=8, choices=Heard, blank=True, help_text="blank: not yet")
    choice = models.ForeignKey(Story, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    answered_at = models.DateTimeField(null=True, blank=True)

    # what the adult notes afterwards; each may be left out
    engagement_first = models.PositiveSmallIntegerField(null=True, blank=True, help_text="1 to 5")
    engagement_second = models.PositiveSmallIntegerField(null=True, blank=True, help_text="1 to 5")
    understood_who = models.CharField(max_length=8, choices=Understood, blank=True)
    understood_end = models.CharField(max_length=8, choices=Understood, blank=True)
    noted_at = models.DateTimeField(null=True, blank=True)

    objects = ListeningQuerySet.as_manager()

    class Meta:
        ordering = ("session", "number")
        constraints = [
            models.UniqueConstraint(fields=["session", "comparison"], name="listening_once_a_session"),
            models.UniqueConstraint(fields=["session", "number"], name="listening_number_once"),
            models.CheckConstraint(condition=~Q(first=F("second")), name="listening_two_stories"),
            models.CheckConstraint(
                condition=Q(first_picture__in=Picture.values, second_picture__in=Picture.values)
                & ~Q(first_picture=F("second_picture")),
                name="listening_two_pictures",
            ),
            models.CheckConstraint(
                condition=Q(asked_about=F("first")) | Q(asked_about=F("second")), name="listening_asks_about_one_of_two"
            ),
            models.CheckConstraint(
                condition=Q(outcome=Heard.CHOSEN, choice__isnull=False) & (Q(choice=F("first")) | Q(choice=F("second")))
                | Q(outcome__in=["", Heard.SAME, Heard.STOPPED], choice=None),
                name="listening_choice_of_the_two",
            ),
            models.CheckConstraint(
                condition=Q(outcome="", answered_at=None) | (~Q(outcome="") & Q(answered_at__isnull=False)),
                name="listening_answered_has_a_time",
            ),
            models.CheckConstraint(
                condition=(Q(engagement_first=None) | Q(engagement_first__range=(1, 5)))
                & (Q(engagement_second=None) | Q(engagement_second__range=(1, 5))),
                name="listening_engagement_one_to_five",
            ),
            models.CheckConstraint(
                condition=Q(understood_who__in=["", *Understood.values], understood_end__in=["", *Understood.values]),
                name="listening_understood_known",
            ),
            models.CheckConstraint(
                condition=~Q(outcome="") & Q(noted_at__isnull=False)
                | Q(
                    noted_at=None,
                    engagement_first=None,
                    engagement_second=None,
                    understood_who="",
                    understood_end="",
                ),
                name="listening_notes_after_the_answer",
            ),
        ]

    def __str__(self) -> str:
        return str(self.key)

    @property
    def withdrawn(self) -> bool:
        """A story has left the queue since: it is not read to anybody."""
        return bool(self.first.withdrawn_at or self.second.withdrawn_at)
