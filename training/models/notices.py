"""Who is told when a round ends or waits, and what became of each message."""

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from training.models.rounds import Round
from training.models.schedules import Proposal


class Event(models.TextChoices):
    JUDGING = "judging", _("a round waits to be judged")
    DECISION = "decision", _("a round waits for your decision")
    ENDED = "ended", _("a round has ended: promoted, rejected or cancelled")
    FAILED = "failed", _("a round has failed")
    PROPOSED = "proposed", _("a schedule proposes a round")
    TEST = "test", _("a test")


TOLD = [event for event in Event if event != Event.TEST]


def all_events() -> list[str]:
    return [event.value for event in TOLD]


class Channel(models.TextChoices):
    EMAIL = "email", _("e-mail")
    WEBHOOK = "webhook", _("webhook")


class Destination(models.Model):
    """Where messages go: an admin's address, or a URL.

    since: when it was last changed; what ended or failed before is not told. language: of its messages. secret:
    signs a webhook's body.
    """

    channel = models.CharField(max_length=8, choices=Channel)
    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.CASCADE, related_name="+"
    )
    url = models.URLField(max_length=500, blank=True)
    secret = models.CharField(max_length=200, blank=True)
    events = ArrayField(models.CharField(max_length=8, choices=Event), default=all_events)
    language = models.CharField(max_length=8, choices=settings.LANGUAGES, default=settings.LANGUAGE_CODE)
    since = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ("pk",)
        constraints = [
            models.CheckConstraint(
                condition=Q(channel="email", user__isnull=False, url="", secret="")
                | (Q(channel="webhook", user=None) & Q(url__regex="^https?://") & ~Q(secret="")),
                name="destination_is_one_or_the_other",
            ),
            models.UniqueConstraint(fields=["url"], condition=~Q(url=""), name="destination_url_once"),
            models.CheckConstraint(condition=Q(events__contained_by=Event.values), name="destination_events_known"),
        ]

    def __str__(self) -> str:
        return str(self.user) if self.user else self.url

    @property
    def told_of(self) -> list[str]:
        """Its events, in words."""
        return [str(Event(event).label) for event in self.events]


class Sending(models.TextChoices):
    WAITING = "waiting", _("waiting")
    SENT = "sent", _("delivered")
    FAILED = "failed", _("given up")


class Delivery(models.Model):
    """One event for one destination: there is one row of it, whoever dies on the way.

    happened_at: when the round came into the state that is told of, so that a round which fails again is told
    of again. next_try_at: not before; while it is being sent, when somebody else may try.
    status: HTTP's, of the last try.
    """

    destination = models.ForeignKey(Destination, on_delete=models.CASCADE, related_name="deliveries")
    round = models.ForeignKey(Round, null=True, blank=True, on_delete=models.CASCADE, related_name="+")
    proposal = models.ForeignKey(Proposal, null=True, blank=True, on_delete=models.CASCADE, related_name="+")
    event = models.CharField(max_length=8, choices=Event)
    happened_at = models.DateTimeField(db_default=Now())
    state = models.CharField(max_length=8, choices=Sending, default=Sending.WAITING)
    attempts = models.PositiveSmallIntegerField(default=0)
    next_try_at = models.DateTimeField(db_default=Now())
    status = models.PositiveSmallIntegerField(null=True, blank=True)
    message = models.TextField(blank=True)
    created_at = models.DateTimeField(db_default=Now())
    sent_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("-pk",)
        constraints = [
            models.UniqueConstraint(
                fields=["destination", "round", "event", "happened_at"], name="delivery_once_an_event"
            ),
            models.UniqueConstraint(fields=["destination", "proposal"], name="delivery_once_a_proposal"),
            models.CheckConstraint(condition=Q(event__in=Event.values), name="delivery_event_known"),
            models.CheckConstraint(
                condition=Q(event=Event.TEST, round=None, proposal=None)
                | Q(event=Event.PROPOSED, round=None, proposal__isnull=False)
                | (~Q(event__in=[Event.TEST, Event.PROPOSED]) & Q(round__isnull=False, proposal=None)),
                name="delivery_of_what_it_tells",
            ),
            models.CheckConstraint(
                condition=Q(state__in=["waiting", "failed"], sent_at=None) | Q(state="sent", sent_at__isnull=False),
                name="delivery_sent_when",
            ),
        ]
        verbose_name_plural = "deliveries"

    def __str__(self) -> str:
        return f"{self.event} to {self.destination}"
