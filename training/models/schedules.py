"""When a round is launched or proposed by itself, and whether one is promoted by itself."""

from typing import Any, Self

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import dates
from django.utils.translation import gettext_lazy as _

from generation.models import Policy
from training.models.rounds import Round

WEEKDAYS = [(number + 1, name) for number, name in dates.WEEKDAYS.items()]  # ISO 8601: Monday is 1


class When(models.TextChoices):
    EVERY = "every", _("every so many minutes")
    WEEKLY = "weekly", _("on weekdays, at a time")


class Act(models.TextChoices):
    LAUNCH = "launch", _("launch the round")
    PROPOSE = "propose", _("propose it only: an admin launches it")


class SettingsOf(models.TextChoices):
    LAST = "last", _("of the last round that did not fail")
    SHIPPED = "shipped", _("as Storyloop ships them")
    ROUND = "round", _("of the round named below")


class AgreementBy(models.TextChoices):
    NONE = "", _("not asked for")
    ALPHA = "alpha", _("Krippendorff's alpha")
    SHARE = "share", _("two experts choose alike, percent")


class ScheduleQuerySet(models.QuerySet["Schedule"]):
    def due(self) -> Self:
        return self.filter(Q(next_at=None) | Q(next_at__lte=Now()), enabled=True)


class Schedule(models.Model):
    """Looks at `next_at` whether a round is due, and writes down what came of it (training/schedule.py).

    agreement_floor: alpha, -1 to 1; or percent, 0 to 100. outcome: {"code", ...}, in words in training/outcomes.py.
    """

    name = models.CharField(_("name"), max_length=60, default="Rounds")
    enabled = models.BooleanField(_("switched on"), default=False)
    when = models.CharField(_("it looks"), max_length=8, choices=When, default=When.EVERY)
    every_minutes = models.PositiveIntegerField(_("every … minutes"), default=60)
    weekdays = ArrayField(models.PositiveSmallIntegerField(choices=WEEKDAYS), default=list, blank=True)
    at = models.TimeField(_("at this time"), null=True, blank=True)
    min_new_pairs = models.PositiveIntegerField(_("when there are at least this many new pairs"), default=200)
    agreement_by = models.CharField(
        _("experts' agreement, by"), max_length=8, choices=AgreementBy, default=AgreementBy.NONE, blank=True
    )
    agreement_floor = models.FloatField(_("above"), null=True, blank=True)
    only_when_free = models.BooleanField(
        _("only when no round waits for its decision"), default=True,
        help_text=_("a round is never launched while another is not over; without this it may be proposed"),
    )  # fmt: skip
    act = models.CharField(_("what it does"), max_length=8, choices=Act, default=Act.LAUNCH)
    settings_of = models.CharField(_("with the settings"), max_length=8, choices=SettingsOf, default=SettingsOf.LAST)
    settings_round = models.ForeignKey(
        Round, null=True, blank=True, on_delete=models.PROTECT, related_name="+", verbose_name=_("that round")
    )
    include_simulated = models.BooleanField(_("simulated experts count"), default=False)
    looked_at = models.DateTimeField(null=True, blank=True)
    next_at = models.DateTimeField(null=True, blank=True, help_text="null: at once")
    outcome = models.JSONField(default=dict, blank=True)

    objects = ScheduleQuerySet.as_manager()

    class Meta:
        ordering = ("pk",)
        constraints = [
            models.CheckConstraint(condition=Q(min_new_pairs__gte=1), name="schedule_wants_pairs"),
            models.CheckConstraint(condition=Q(every_minutes__gte=1), name="schedule_every_minute_at_most"),
            models.CheckConstraint(condition=Q(when__in=When.values), name="schedule_when_known"),
            models.CheckConstraint(condition=Q(act__in=Act.values), name="schedule_act_known"),
            models.CheckConstraint(
                condition=~Q(when=When.WEEKLY) | (Q(weekdays__len__gt=0) & Q(at__isnull=False)),
                name="schedule_weekly_says_when",
            ),
            models.CheckConstraint(
                condition=Q(weekdays__contained_by=[number for number, _name in WEEKDAYS]),
                name="schedule_weekdays_of_a_week",
            ),
            models.CheckConstraint(
                condition=Q(agreement_by="", agreement_floor=None)
                | Q(agreement_by="alpha", agreement_floor__isnull=False, agreement_floor__range=(-1, 1))
                | Q(agreement_by="share", agreement_floor__isnull=False, agreement_floor__range=(0, 100)),
                name="schedule_agreement_has_a_floor",
            ),
            models.CheckConstraint(
                condition=Q(settings_of__in=["last", "shipped"], settings_round=None)
                | Q(settings_of="round", settings_round__isnull=False),
                name="schedule_settings_of_something",
            ),
        ]

    def __str__(self) -> str:
        return self.name


class ProposalQuerySet(models.QuerySet["Proposal"]):
    def of_now(self) -> Self:
        """For the policy in use, and no round was launched since: that one took the pairs."""
        newer = Round.objects.filter(created_at__gt=models.OuterRef("created_at"))
        return self.filter(~models.Exists(newer), policy__is_current=True)

    def open(self) -> Self:
        return self.of_now().filter(closed_at=None)

    def close(self, by: Any = None) -> int:
        return self.filter(closed_at=None).update(closed_at=Now(), closed_by=by)


class Proposal(models.Model):
    """A round that a schedule would launch."""

    schedule = models.ForeignKey(Schedule, null=True, on_delete=models.SET_NULL, related_name="proposals")
    policy = models.ForeignKey(Policy, on_delete=models.PROTECT, related_name="+")
    round_settings = models.JSONField(help_text="as launch_round takes them")
    include_simulated = models.BooleanField(default=False)
    pairs = models.PositiveIntegerField(help_text="new ones, when it was made")
    created_at = models.DateTimeField(db_default=Now())
    closed_at = models.DateTimeField(null=True, blank=True)
    closed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )

    objects = ProposalQuerySet.as_manager()

    class Meta:
        ordering = ("-pk",)
        constraints = [
            models.UniqueConstraint(models.Value(1), condition=Q(closed_at=None), name="proposal_one_open"),
        ]

    def __str__(self) -> str:
        return f"proposal of {self.pairs} pairs"


class PromotionRule(models.Model):
    """Whether training/promotion.py promotes rounds. There is one row."""

    automatic = models.BooleanField(
        _("promote a round by itself"),
        default=False,
        help_text=_("once all its blind comparisons are judged, if it clearly wins and no alarm is raised"),
    )
    include_simulated = models.BooleanField(
        _("simulated experts count for it"), default=False, help_text=_("in rounds that count them, too")
    )

    class Meta:
        constraints = [models.UniqueConstraint(models.Value(1), name="promotion_rule_only_one")]

    def __str__(self) -> str:
        return "automatic" if self.automatic else "by hand"
