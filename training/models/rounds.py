"""Rounds, their figures, and what is watched in them."""

from pathlib import Path
from typing import Any, Self

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from generation import queues
from generation.models import Policy
from generation.stores.fields import StoredPath
from training import ends
from training.limits import round_constraints


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


LOSSES = [
    ("sigmoid", _("DPO")),
    ("sigmoid_norm", _("DPO, averaged over the length")),
    ("robust", _("robust DPO: allows for pairs judged the wrong way round")),
    ("ipo", _("IPO: aims at a fixed margin")),
    ("hinge", _("hinge: only pairs without a margin yet")),
    ("apo_zero", _("APO-zero: chosen stories up, rejected ones down")),
    ("apo_down", _("APO-down: for a policy better than the chosen stories")),
]
REFERENCES = [("policy", _("the policy before")), ("base", _("the base model"))]


class RoundQuerySet(models.QuerySet["Round"]):
    def at_work(self) -> Self:
        return self.filter(state__in=AT_WORK)

    def undecided(self) -> Self:
        """Rounds that are not over: at work, or waiting for an admin to promote or reject."""
        return self.filter(state__in=UNDECIDED)

    def update(self, **values: Any) -> int:
        """As Django's; a row whose state changes remembers since when it is in the new one."""
        if "state" in values:
            same = models.When(state=values["state"], then=F("state_since"))
            values.setdefault("state_since", models.Case(same, default=Now()))
        if "message" in values:
            message = values["message"]
            values.setdefault("said", message.stored() if isinstance(message, ends.Said) else {})
        return super().update(**values)

    def untaken(self) -> Self:
        """Rounds at work that no process holds, or whose holder has gone silent."""
        return self.at_work().filter(Q(lease_until=None) | Q(lease_until__lt=Now()))

    def in_queue(self, queue: str) -> Self:
        """Rounds that the workers of that Celery queue go on with: Round.queue."""
        return self.filter(result__isnull=queue == queues.TRAINING)


class Round(models.Model):
    """One turn of the loop. `policy` is what it starts from, `result` what it made."""

    number = models.PositiveIntegerField(unique=True)
    state = models.CharField(max_length=12, choices=State, default=State.QUEUED)
    state_since = models.DateTimeField(db_default=Now(), help_text="kept by RoundQuerySet.update")
    policy = models.ForeignKey(Policy, on_delete=models.PROTECT, related_name="rounds")
    result = models.OneToOneField(Policy, null=True, blank=True, on_delete=models.PROTECT, related_name="made_by")
    launched_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="rounds"
    )

    include_simulated = models.BooleanField(_("simulated experts count"), default=False)
    method = models.CharField(_("weights"), max_length=8, choices=[("full", _("full weights")), ("lora", "LoRA")])
    selection = models.JSONField(default=dict, blank=True, help_text="training.selection.Selection, without simulated")
    objectives = models.CharField(max_length=200, blank=True, help_text="criterion=weight,...; empty: all pairs alike")
    stages = models.JSONField(default=list, blank=True, help_text="of {criterion, beta}, one after the other")
    reference = models.CharField(
        _("reference"),
        max_length=8,
        default="policy",
        choices=REFERENCES,
    )
    lora_rank = models.PositiveSmallIntegerField(_("LoRA rank"), default=16)
    lora_alpha = models.PositiveSmallIntegerField(_("LoRA alpha"), default=0, help_text="0: twice the rank")
    loss = models.CharField(_("loss"), max_length=16, choices=LOSSES)
    beta = models.FloatField(default=0.2)
    sft_weight = models.FloatField(_("weight of the SFT term"), default=0.0)
    label_smoothing = models.FloatField(_("share of pairs judged the wrong way round"), default=0.0)
    eval_share = models.FloatField(_("share of prompts held out of training"), default=0.1)
    learning_rate = models.FloatField(_("learning rate"))
    epochs = models.PositiveSmallIntegerField(_("epochs"), default=3)
    batch_pairs = models.PositiveSmallIntegerField(_("pairs in a batch"), default=16)
    seed = models.PositiveIntegerField(_("seed"), default=42)

    export_path = StoredPath(blank=True, root="EXPORT_DIR")
    export_sha256 = models.CharField(max_length=64, blank=True)
    pair_count = models.PositiveIntegerField(null=True, blank=True)

    # who works on it: see rounds.take_round
    attempt = models.PositiveSmallIntegerField(default=0, help_text="grows with each taking: a fencing token")
    losses = models.PositiveSmallIntegerField(
        default=0, db_default=0, help_text="holders of this part that went silent"
    )
    owner = models.CharField(max_length=120, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True)
    enqueued_at = models.DateTimeField(null=True, blank=True)
    cancel_requested = models.BooleanField(default=False)
    version = models.CharField(max_length=64, blank=True, db_default="", help_text="of Storyloop, that launched it")
    refused_at = models.DateTimeField(null=True, blank=True, help_text="since when only older workers have seen it")

    done = models.PositiveIntegerField(default=0, help_text="steps or stories, by state")
    total = models.PositiveIntegerField(default=0)
    message = models.TextField(blank=True, help_text="what went wrong and what to do, or a note; in English")
    said = models.JSONField(
        default=dict, db_default={}, blank=True, help_text="the message's code and values: training/ends.py"
    )
    rule_looked_at = models.DateTimeField(null=True, blank=True, help_text="when training/promotion.py decided on it")
    created_at = models.DateTimeField(auto_now_add=True)
    ended_at = models.DateTimeField(null=True, blank=True)
    checkpoint_deleted_at = models.DateTimeField(
        null=True, blank=True, help_text="with all that an unfinished training left: training/leftovers.py"
    )

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
            models.CheckConstraint(condition=Q(refused_at=None) | ~Q(message=""), name="round_refusal_says_why"),
            models.CheckConstraint(
                condition=Q(label_smoothing=0)
                | Q(label_smoothing__gt=0, label_smoothing__lte=0.49, loss__in=["sigmoid", "robust"]),
                name="round_smoothing_has_a_meaning",
            ),
            models.CheckConstraint(
                condition=Q(eval_share__gte=0, eval_share__lte=0.5), name="round_trains_on_half_or_more"
            ),
            models.CheckConstraint(
                condition=Q(checkpoint_deleted_at=None) | Q(state__in=[State.FAILED, State.CANCELLED]),
                name="round_goes_on_with_its_checkpoint",
            ),
            *round_constraints(),
        ]

    def __str__(self) -> str:
        return f"round {self.number}"

    @property
    def in_words(self) -> str:
        """The message in the language of whoever reads, if it is one of ours."""
        return ends.in_words(self.said) or self.message

    @property
    def at_work(self) -> bool:
        return self.state in AT_WORK

    @property
    def undecided(self) -> bool:
        return self.state in UNDECIDED

    @property
    def queue(self) -> str:
        """The Celery queue whose workers go on with it."""
        return queues.GENERATION if self.result_id else queues.TRAINING

    @property
    def held_by(self) -> str:
        """The machine whose worker has it; "" if none has."""
        held = self.at_work and self.lease_until and self.lease_until > timezone.now()
        return self.owner.partition(":")[0] if held else ""

    @property
    def percent(self) -> int:
        return min(100 * self.done // self.total, 100) if self.total else 0

    @property
    def folder(self) -> Path:
        """Of the round's files. Not by the number alone: another database's round 1 may lie in the same place."""
        return Path(settings.MODEL_DIR) / f"round-{self.number}-{self.created_at:%Y%m%dT%H%M%S%f}"

    def baselines(self) -> list[Policy]:
        """The policies that the result is compared with: the one before it, and the base if that is another."""
        return list(dict.fromkeys((self.policy, self.policy.lineage()[-1])))


class RoundMetricQuerySet(models.QuerySet["RoundMetric"]):
    def trained(self) -> Self:
        """The optimizer steps."""
        return self.filter(held_out=False)

    def held_out(self) -> Self:
        """What the weights of a step made of prompts that are not trained on."""
        return self.filter(held_out=True)


class RoundMetric(models.Model):
    """One optimizer step of a round, or the held-out pairs after it, under TRL's names. A step that is done
    again replaces itself.

    kl: nats a story. logps_chosen: sum over a story, nats; logps_change: of it against the reference, nats
    a token. Null in rounds from before they were kept. stories, tokens: what a held-out kl is of. The rates are of
    this step; memory, in bytes, the peak up to it: resident, and allocated on a CUDA device if there is one.
    """

    round = models.ForeignKey(Round, on_delete=models.CASCADE, related_name="metrics")
    step = models.PositiveIntegerField()
    held_out = models.BooleanField(default=False)
    epoch = models.FloatField()
    loss = models.FloatField()
    rewards_chosen = models.FloatField()
    rewards_rejected = models.FloatField()
    rewards_margins = models.FloatField()
    rewards_accuracies = models.FloatField()
    logps_chosen = models.FloatField(null=True)
    logps_change = models.FloatField(null=True)
    kl = models.FloatField()
    stories = models.PositiveIntegerField(null=True)
    tokens = models.PositiveIntegerField(null=True)
    pairs_per_second = models.FloatField(null=True)
    tokens_per_second = models.FloatField(null=True)
    memory_resident = models.BigIntegerField(null=True)
    memory_cuda = models.BigIntegerField(null=True)
    at = models.DateTimeField(auto_now=True, null=True)

    objects = RoundMetricQuerySet.as_manager()

    class Meta:
        ordering = ("step", "held_out")
        constraints = [models.UniqueConstraint(fields=["round", "step", "held_out"], name="metric_once_per_step")]

    def __str__(self) -> str:
        return f"{self.round_id}/{self.step}{' held out' if self.held_out else ''}"

    @property
    def kl_token(self) -> float | None:
        """Nats a token: the same for short and long stories."""
        return self.kl * self.stories / self.tokens if self.stories and self.tokens else None


class Watched(models.TextChoices):
    """What has an alarm, in the order of the pages (training/alarms.py)."""

    KL = "kl", _("distance from the policy before, a story (KL)")
    KL_TOKEN = "kl_token", _("distance from the policy before, a token (KL)")
    CHOSEN_FALL = "chosen_fall", _("fall of the chosen stories' log-probability")
    LENGTH = "length", _("change of the length")
    REPETITION = "repetition", _("rise of repetition")
    DIVERSITY = "diversity", _("loss of diversity")
    BROKEN = "broken", _("rise of broken sentences")
    LANGUAGE = "language", _("rise of letters of another script")
    CUT_OFF = "cut_off", _("rise of endings cut off")


class Alarm(models.Model):
    """A round's figure beyond its limit, as it was when it was last looked at. Units: training/alarms.py.

    baseline: of the base model, where the figure is a change against it.
    """

    round = models.ForeignKey(Round, on_delete=models.CASCADE, related_name="alarms")
    kind = models.CharField(max_length=12, choices=Watched)
    value = models.FloatField()
    limit = models.FloatField()
    baseline = models.FloatField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("pk",)
        constraints = [
            models.UniqueConstraint(fields=["round", "kind"], name="alarm_once_a_kind"),
            models.CheckConstraint(condition=Q(kind__in=Watched.values), name="alarm_kind_known"),
            models.CheckConstraint(condition=Q(value__gt=F("limit")), name="alarm_beyond_its_limit"),
        ]

    def __str__(self) -> str:
        return f"{self.round}: {self.kind}"


LIMITS = {
    "kl": 1000,
    "kl_token": 100,
    "chosen_fall": 100,
    "length_percent": 1000,
    "repetition_points": 100,
    "repetition_percent": 1000,
    "diversity_percent": 100,
    "broken_points": 100,
    "language_points": 100,
    "cut_off_points": 100,
}  # the highest that means anything


class AlarmLimits(models.Model):
    """Where alarms begin. There is one row; an empty limit is not watched. Why these: training/alarms.py.

    percent: of the base's figure; points: percentage points above the base's.
    """

    kl = models.FloatField(
        _("distance from the policy before, nats a story"), null=True, blank=True,
        help_text=_("grows with the length of the stories: set it only for stories of one length; 10 to 20 is far"),
    )  # fmt: skip
    kl_token = models.FloatField(
        _("distance from the policy before, nats a token"), null=True, blank=True, default=0.1,
        help_text=_("the same for short and long stories"),
    )  # fmt: skip
    chosen_fall = models.FloatField(
        _("fall of the chosen stories' log-probability, nats a token"), null=True, blank=True, default=0.1,
        help_text=_("the new policy finds even the stories that experts chose less likely than before"),
    )  # fmt: skip
    length_percent = models.FloatField(
        _("change of the length, percent of the base's"), null=True, blank=True, default=25,
        help_text=_("longer or shorter: experts may like length for its own sake, and training exaggerates it"),
    )  # fmt: skip
    repetition_points = models.FloatField(
        _("rise of repetition, percentage points"), null=True, blank=True, default=1,
        help_text=_("the alarm needs both: this and the next, where both are set"),
    )  # fmt: skip
    repetition_percent = models.FloatField(
        _("rise of repetition, percent of the base's"), null=True, blank=True, default=25,
        help_text=_("counts where the base repeats itself much already"),
    )  # fmt: skip
    diversity_percent = models.FloatField(
        _("loss of diversity, percent of the base's"), null=True, blank=True, default=25,
        help_text=_("the stories of one prompt grow alike"),
    )  # fmt: skip
    broken_points = models.FloatField(
        _("rise of broken sentences, percentage points"), null=True, blank=True, default=3,
        help_text=_("a word twice in a row, no end, or a sentence said before"),
    )  # fmt: skip
    language_points = models.FloatField(
        _("rise of letters of another script, percentage points"), null=True, blank=True, default=2
    )
    cut_off_points = models.FloatField(
        _("rise of endings cut off, percentage points"), null=True, blank=True, default=10,
        help_text=_("the story does not end by itself"),
    )  # fmt: skip

    class Meta:
        constraints = [
            models.UniqueConstraint(models.Value(1), name="alarm_limits_only_one"),
            *(
                # no number is above a highest one: that refuses NaN, too
                models.CheckConstraint(
                    condition=Q(**{name: None}) | Q(**{f"{name}__gt": 0, f"{name}__lte": highest}),
                    name=f"alarm_limit_{name}",
                )
                for name, highest in LIMITS.items()
            ),
        ]

    def __str__(self) -> str:
        return "limits of the alarms"
