"""How the next policy is made: rounds and their schedule."""

from typing import Self

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from generation.models import Policy


class State(models.TextChoices):
    QUEUED = "queued", _("queued")
    FREEZING = "freezing", _("freezing pairs")
    TRAINING = "training", _("training")
    WRITING = "writing", _("writing stories")
    JUDGING = "judging", _("being judged")
    PROMOTED = "promoted", _("promoted")
    REJECTED = "rejected", _("rejected")
    FAILED = "failed", _("failed")
    CANCELLED = "cancelled", _("cancelled")


AT_WORK = (State.QUEUED, State.FREEZING, State.TRAINING, State.WRITING)  # a process works on it, or should
UNDECIDED = (*AT_WORK, State.JUDGING)


class RoundQuerySet(models.QuerySet["Round"]):
    def at_work(self) -> Self:
        return self.filter(state__in=AT_WORK)

    def undecided(self) -> Self:
        """Rounds that are not over: at work, or waiting for an admin to promote or reject."""
        return self.filter(state__in=UNDECIDED)

    def untaken(self) -> Self:
        """Rounds at work that no process holds, or whose holder has gone silent."""
        return self.at_work().filter(Q(lease_until=None) | Q(lease_until__lt=Now()))


class Round(models.Model):
    """One turn of the loop. `policy` is what it starts from, `result` what it made."""

    number = models.PositiveIntegerField(unique=True)
    state = models.CharField(max_length=12, choices=State, default=State.QUEUED)
    policy = models.ForeignKey(Policy, on_delete=models.PROTECT, related_name="rounds")
    result = models.OneToOneField(Policy, null=True, blank=True, on_delete=models.PROTECT, related_name="made_by")
    launched_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="rounds"
    )

    include_simulated = models.BooleanField(_("simulated experts count"), default=False)
    method = models.CharField(_("weights"), max_length=8, choices=[("full", _("full weights")), ("lora", "LoRA")])
    loss = models.CharField(
        _("loss"), max_length=16, choices=[("sigmoid", _("DPO")), ("sigmoid_norm", _("DPO, averaged over the length"))]
    )
    beta = models.FloatField(default=0.2)
    sft_weight = models.FloatField(_("weight of the SFT term"), default=0.0)
    learning_rate = models.FloatField(_("learning rate"))
    epochs = models.PositiveSmallIntegerField(_("epochs"), default=3)
    batch_pairs = models.PositiveSmallIntegerField(_("pairs in a batch"), default=16)
    seed = models.PositiveIntegerField(_("seed"), default=42)

    export_path = models.TextField(blank=True)
    export_sha256 = models.CharField(max_length=64, blank=True)
    pair_count = models.PositiveIntegerField(null=True, blank=True)

    # who works on it: see rounds.take_round
    attempt = models.PositiveSmallIntegerField(default=0)
    owner = models.CharField(max_length=120, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True)
    enqueued_at = models.DateTimeField(null=True, blank=True)
    cancel_requested = models.BooleanField(default=False)

    done = models.PositiveIntegerField(default=0, help_text="steps or stories, by state")
    total = models.PositiveIntegerField(default=0)
    message = models.TextField(blank=True, help_text="what went wrong and what to do, or a note")
    created_at = models.DateTimeField(auto_now_add=True)
    ended_at = models.DateTimeField(null=True, blank=True)

    objects = RoundQuerySet.as_manager()

    class Meta:
        ordering = ("-number",)
        constraints = [
            # a constant expression under a condition: at most one such row
            models.UniqueConstraint(models.Value(1), condition=Q(state__in=UNDECIDED), name="round_one_undecided"),
            models.CheckConstraint(condition=Q(state__in=State.values), name="round_state_known"),
            models.CheckConstraint(condition=Q(number__gte=1), name="round_numbered_from_one"),
            models.CheckConstraint(
                condition=Q(export_path="", export_sha256="", pair_count=None)
                | (~Q(export_path="") & ~Q(export_sha256="") & Q(pair_count__gt=0)),
                name="round_export_whole",
            ),
            models.CheckConstraint(
                condition=~Q(state__in=[State.JUDGING, State.PROMOTED, State.REJECTED]) | Q(result__isnull=False),
                name="round_judged_only_with_result",
            ),
            models.CheckConstraint(
                condition=~Q(state__in=[State.FAILED, State.CANCELLED]) | ~Q(message=""),
                name="round_end_says_why",
            ),
        ]

    def __str__(self) -> str:
        return f"round {self.number}"

    @property
    def at_work(self) -> bool:
        return self.state in AT_WORK

    @property
    def undecided(self) -> bool:
        return self.state in UNDECIDED

    @property
    def percent(self) -> int:
        return min(100 * self.done // self.total, 100) if self.total else 0

    def baselines(self) -> list[Policy]:
        """The policies that the result is compared with: the one before it, and the base if that is another."""
        return list(dict.fromkeys((self.policy, self.policy.lineage()[-1])))


class RoundMetric(models.Model):
    """One optimizer step of a round, under TRL's names. A step that is done again replaces itself."""

    round = models.ForeignKey(Round, on_delete=models.CASCADE, related_name="metrics")
    step = models.PositiveIntegerField()
    epoch = models.FloatField()
    loss = models.FloatField()
    rewards_chosen = models.FloatField()
    rewards_rejected = models.FloatField()
    rewards_margins = models.FloatField()
    rewards_accuracies = models.FloatField()
    kl = models.FloatField()

    class Meta:
        ordering = ("step",)
        constraints = [models.UniqueConstraint(fields=["round", "step"], name="metric_once_per_step")]

    def __str__(self) -> str:
        return f"{self.round_id}/{self.step}"


class Schedule(models.Model):
    """When a round is launched by itself. There is one row."""

    enabled = models.BooleanField(_("launch rounds automatically"), default=False)
    min_new_pairs = models.PositiveIntegerField(_("when there are at least this many new pairs"), default=200)
    every_minutes = models.PositiveIntegerField(_("look every … minutes"), default=60)
    include_simulated = models.BooleanField(_("simulated experts count"), default=False)
    looked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(models.Value(1), name="schedule_only_one"),
            models.CheckConstraint(condition=Q(min_new_pairs__gte=1), name="schedule_wants_pairs"),
            models.CheckConstraint(condition=Q(every_minutes__gte=1), name="schedule_every_minute_at_most"),
        ]

    def __str__(self) -> str:
        return f"every {self.every_minutes} min at {self.min_new_pairs} pairs"
