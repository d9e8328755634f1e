"""What is written and by whom."""

from pathlib import Path
from typing import Self

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from generation.stores.fields import StoredPath
from generation.stores.folders import seen


class Language(models.TextChoices):
    ENGLISH = "en", _("English")
    CHINESE = "zh", _("Chinese")


class Split(models.TextChoices):
    TRAIN = "train", _("train")
    EVALUATION = "evaluation", _("evaluation")


class Prompt(models.Model):
    """What a story is asked for. `evaluation` prompts are held out: no pair is made from them."""

    text = models.TextField()
    language = models.CharField(max_length=8, choices=Language)
    theme = models.CharField(max_length=60)
    story_type = models.CharField(max_length=60)
    age_band = models.CharField(max_length=12)
    split = models.CharField(max_length=12, choices=Split, default=Split.TRAIN)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("pk",)
        constraints = [
            # of a hash: an index entry has room for some 2,700 bytes only
            models.UniqueConstraint(models.functions.MD5("text"), name="prompt_once"),
            models.CheckConstraint(condition=~Q(text=""), name="prompt_has_text"),
            models.CheckConstraint(condition=Q(language__in=Language.values), name="prompt_language_known"),
            models.CheckConstraint(condition=Q(split__in=Split.values), name="prompt_split_known"),
        ]

    def __str__(self) -> str:
        return self.text[:80]


class PolicyQuerySet(models.QuerySet["Policy"]):
    def current(self) -> "Policy | None":
        """The promoted policy, which writes the stories that experts rank now."""
        return self.filter(is_current=True).first()

    def with_weights(self) -> Self:
        """Those whose weights nobody has deleted."""
        return self.filter(weights_deleted_at=None)


class Policy(models.Model):
    """A model that can write: a base model, or a round's result."""

    name = models.CharField(max_length=80, unique=True)
    parent = models.ForeignKey("self", null=True, blank=True, on_delete=models.PROTECT, related_name="children")
    path = StoredPath(help_text="directory of the full weights (an adapter's, merged into its base)")
    adapter_path = StoredPath(blank=True, help_text="directory of the PEFT adapter that was merged, if any")
    weights_hash = models.CharField(max_length=64)
    adapter_hash = models.CharField(max_length=64, blank=True, db_default="", help_text="of the adapter's files")
    is_current = models.BooleanField(default=False)
    weights_deleted_at = models.DateTimeField(null=True, blank=True, help_text="the files are gone, the record stays")
    # a base's, as an admin has entered them; its own folder may say them too (training/model_card.py)
    license = models.CharField(_("license"), max_length=60, blank=True, db_default="")
    hub_name = models.CharField(_("name on the Hugging Face Hub"), max_length=120, blank=True, db_default="")
    created_at = models.DateTimeField(auto_now_add=True)

    objects = PolicyQuerySet.as_manager()

    class Meta:
        ordering = ("pk",)
        constraints = [
            models.UniqueConstraint(fields=["is_current"], condition=Q(is_current=True), name="policy_one_current"),
            models.CheckConstraint(condition=~Q(path=""), name="policy_has_path"),
            models.CheckConstraint(condition=~Q(parent=F("pk")), name="policy_not_its_own_parent"),
            models.CheckConstraint(
                condition=Q(is_current=False) | Q(weights_deleted_at=None), name="policy_current_has_weights"
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def directory(self) -> Path:
        """Of the full weights; what can be read without loading them, where they lie in a store (stores/folders.py)."""
        return seen(Path(self.path))

    def lineage(self) -> "list[Policy]":
        """This policy, its parent, and so on to the base model."""
        line = [self]
        while line[-1].parent:
            line.append(line[-1].parent)
        return line


class FinishReason(models.TextChoices):
    STOP = "stop", _("ended by itself")
    LENGTH = "length", _("cut off at the length limit")


class StoryQuerySet(models.QuerySet["Story"]):
    def finished(self) -> Self:
        """Stories that the policy ended by itself: the others are not shown and not trained on."""
        return self.filter(finish_reason=FinishReason.STOP)

    def presentable(self) -> Self:
        """Finished stories that nobody has reported as unsafe for children."""
        return self.finished().filter(withdrawn_at=None)


class Story(models.Model):
    """One completion sampled for a prompt by a policy, with all that is needed to draw it again."""

    prompt = models.ForeignKey(Prompt, on_delete=models.PROTECT, related_name="stories")
    policy = models.ForeignKey(Policy, on_delete=models.PROTECT, related_name="stories")
    sample_index = models.PositiveSmallIntegerField(help_text="0 to 4: the place in the sampling plan")
    rendered_prompt = models.TextField(help_text="the text that the policy read: prompt, chat template and all")
    text = models.TextField()
    token_ids = ArrayField(models.IntegerField(), help_text="as sampled, without the end token")
    finish_reason = models.CharField(max_length=8, choices=FinishReason)
    temperature = models.FloatField()
    top_p = models.FloatField()
    min_p = models.FloatField()
    top_k = models.PositiveIntegerField(default=0, db_default=0, help_text="0: all tokens")
    repetition_penalty = models.FloatField(default=1.0, db_default=1.0)
    seed = models.BigIntegerField()
    draws = models.PositiveSmallIntegerField(default=1, help_text="times it was drawn until it was accepted")
    weights_hash = models.CharField(max_length=64, help_text="of the weights that wrote it, as the engine reported it")
    engine = models.CharField(max_length=40, blank=True, db_default="", help_text="which one wrote it, its version")
    run = models.ForeignKey("WritingRun", null=True, blank=True, on_delete=models.SET_NULL, related_name="stories")
    created_at = models.DateTimeField(auto_now_add=True)
    withdrawn_at = models.DateTimeField(null=True, blank=True, help_text="reported as unsafe: not shown, not exported")

    objects = StoryQuerySet.as_manager()

    class Meta:
        ordering = ("pk",)
        constraints = [
            models.UniqueConstraint(fields=["policy", "prompt", "sample_index"], name="story_once_per_sample"),
            models.UniqueConstraint(
                models.F("policy"), models.F("prompt"), models.functions.MD5("text"), name="story_no_duplicates"
            ),
            models.CheckConstraint(condition=Q(sample_index__lt=5), name="story_at_most_five_samples"),
            models.CheckConstraint(condition=~Q(text=""), name="story_has_text"),
            models.CheckConstraint(condition=Q(temperature__gte=0), name="story_temperature_not_negative"),
            models.CheckConstraint(condition=Q(top_p__gt=0, top_p__lte=1), name="story_top_p_in_range"),
            models.CheckConstraint(condition=Q(min_p__gte=0, min_p__lte=1), name="story_min_p_in_range"),
            models.CheckConstraint(condition=Q(repetition_penalty__gt=0), name="story_repetition_penalty_positive"),
            models.CheckConstraint(
                condition=Q(finish_reason__in=FinishReason.values), name="story_finish_reason_known"
            ),
        ]
        indexes = [
            models.Index(fields=["run", "created_at"], include=["finish_reason"], name="story_by_run"),
            models.Index(fields=["policy", "engine"], include=["finish_reason", "created_at"], name="story_by_author"),
        ]
        verbose_name_plural = "stories"

    def __str__(self) -> str:
        return self.text[:80]


class SamplingRow(models.Model):
    """One place of the sampling plan: how the story at `sample_index` is drawn (generation/plan.py)."""

    sample_index = models.PositiveSmallIntegerField(unique=True)
    temperature = models.FloatField(_("temperature"))
    top_p = models.FloatField(_("top-p"), default=1.0)
    top_k = models.PositiveIntegerField(_("top-k"), default=0)
    min_p = models.FloatField(_("min-p"), default=0.02)
    repetition_penalty = models.FloatField(_("repetition penalty"), default=1.0)
    seed = models.PositiveIntegerField(_("seed"), default=0, help_text="another one gives other stories")

    class Meta:
        ordering = ("sample_index",)
        constraints = [
            models.CheckConstraint(condition=Q(sample_index__lt=5), name="sampling_row_at_most_five"),
            models.CheckConstraint(condition=Q(temperature__gte=0, temperature__lte=2), name="sampling_row_heat"),
            models.CheckConstraint(condition=Q(top_p__gt=0, top_p__lte=1), name="sampling_row_top_p"),
            models.CheckConstraint(condition=Q(min_p__gte=0, min_p__lt=1), name="sampling_row_min_p"),
            models.CheckConstraint(
                condition=Q(repetition_penalty__gte=1, repetition_penalty__lte=2),
                name="sampling_row_penalty",
            ),
            models.CheckConstraint(condition=Q(seed__lt=1_000_000), name="sampling_row_seed"),
        ]

    def __str__(self) -> str:
        return f"story {self.sample_index + 1}"


class RunState(models.TextChoices):
    RUNNING = "running", _("writing")
    DONE = "done", _("finished")
    CANCELLED = "cancelled", _("cancelled")
    FAILED = "failed", _("failed")


class WritingRunQuerySet(models.QuerySet["WritingRun"]):
    def at_work(self) -> Self:
        """Runs that are not over, with a worker or without one."""
        return self.filter(state=RunState.RUNNING)


class WritingRun(models.Model):
    """A policy writes what is missing of `count` stories a prompt; workers share it (generation/runs.py)."""

    policy = models.ForeignKey(Policy, on_delete=models.PROTECT, related_name="runs")
    count = models.PositiveSmallIntegerField(help_text="stories a prompt")
    engine = models.CharField(max_length=40, blank=True)
    state = models.CharField(max_length=10, choices=RunState, default=RunState.RUNNING)
    message = models.TextField(blank=True)
    wanted = models.PositiveIntegerField(help_text="stories that were missing when it began")
    stored = models.PositiveIntegerField(default=0)
    cut_off = models.PositiveIntegerField(default=0, help_text="of the stored ones: at the length limit")
    launched_by = models.ForeignKey("auth.User", null=True, blank=True, on_delete=models.SET_NULL, related_name="+")
    started_at = models.DateTimeField(auto_now_add=True)
    seen_at = models.DateTimeField(auto_now_add=True, help_text="when a worker last reported")
    ended_at = models.DateTimeField(null=True, blank=True)

    objects = WritingRunQuerySet.as_manager()

    class Meta:
        ordering = ("-pk",)
        constraints = [
            models.UniqueConstraint(fields=["policy"], condition=Q(state="running"), name="run_one_at_work_a_policy"),
            models.CheckConstraint(condition=Q(state__in=RunState.values), name="run_state_known"),
            models.CheckConstraint(condition=Q(count__gte=1, count__lte=5), name="run_count_in_range"),
            models.CheckConstraint(
                condition=Q(state="running", ended_at=None) | (~Q(state="running") & Q(ended_at__isnull=False)),
                name="run_ended_has_a_time",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.policy} {self.started_at:%Y-%m-%d %H:%M}"


class Fault(models.TextChoices):
    """Why a draw was not kept (generation/acceptance.py)."""

    EMPTY = "empty", _("empty")
    CUT_OFF = "cut_off", _("cut off at the length limit")
    LANGUAGE = "language", _("in the wrong language")
    SAME = "same", _("the same as a sister")
    NEAR = "near", _("nearly the same as a sister")
    TOO_LONG = "too_long", _("the prompt is too long for the model")


class Redraw(models.Model):
    """How many draws of a run were not kept for a fault."""

    run = models.ForeignKey(WritingRun, on_delete=models.CASCADE, related_name="redraws")
    fault = models.CharField(max_length=10, choices=Fault)
    draws = models.PositiveIntegerField(default=0)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["run", "fault"], name="redraw_once_a_fault"),
            models.CheckConstraint(condition=Q(fault__in=Fault.values), name="redraw_fault_known"),
        ]

    def __str__(self) -> str:
        return f"{self.fault}: {self.draws}"


class EmptyPlace(models.Model):
    """A place that a run gave up: no draw of it could be kept."""

    run = models.ForeignKey(WritingRun, on_delete=models.CASCADE, related_name="empty_places")
    prompt = models.ForeignKey(Prompt, on_delete=models.CASCADE, related_name="+")
    sample_index = models.PositiveSmallIntegerField()
    fault = models.CharField(max_length=10, choices=Fault, help_text="of the last draw")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["run", "prompt", "sample_index"], name="empty_place_once"),
            models.CheckConstraint(condition=Q(fault__in=Fault.values), name="empty_place_fault_known"),
            models.CheckConstraint(condition=Q(sample_index__lt=5), name="empty_place_at_most_five"),
        ]

    def __str__(self) -> str:
        return f"{self.prompt} ({self.sample_index + 1}): {self.fault}"


class EngineCheck(models.Model):
    """What manage.py check_engine found, for the page: the web process loads no model."""

    engine = models.CharField(max_length=40)
    version = models.CharField(max_length=40, blank=True)
    policy = models.ForeignKey(Policy, null=True, blank=True, on_delete=models.SET_NULL, related_name="+")
    well = models.BooleanField()
    message = models.TextField(help_text="what it wrote, or why it could not")
    start_seconds = models.FloatField(null=True, blank=True, help_text="until it could write")
    write_seconds = models.FloatField(null=True, blank=True, help_text="for the one story asked of it")
    checked_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("-pk",)

    def __str__(self) -> str:
        return f"{self.engine}: {'well' if self.well else 'not well'}"


class PolicyFigures(models.Model):
    """What the automatic measures found in a policy's stories, kept so that no page reads them again.

    generation/figures.py renews it when the stories are others than those it was computed from.
    """

    policy = models.OneToOneField(Policy, on_delete=models.CASCADE, primary_key=True, related_name="figures")
    version = models.PositiveSmallIntegerField(help_text="of the measures")
    written = models.PositiveIntegerField(help_text="stories there were, unfinished ones too")
    finished = models.PositiveIntegerField()
    withdrawn = models.PositiveIntegerField()
    newest = models.PositiveBigIntegerField(help_text="the highest id among them; 0 without any")
    summaries = models.JSONField(help_text="means and counts, by language; '' is all of them")
    by_prompt = models.JSONField(help_text="means of each prompt's stories")
    computed_at = models.DateTimeField()

    class Meta:
        verbose_name_plural = "policy figures"
        constraints = [
            models.CheckConstraint(condition=Q(finished__lte=F("written")), name="figures_finished_are_written"),
        ]

    def __str__(self) -> str:
        return f"figures of {self.policy}"


class JudgeModel(models.Model):
    """Which policy reads stories for their structure and message; without this row only the rules do."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    policy = models.ForeignKey(Policy, on_delete=models.CASCADE, related_name="+")
    message = models.TextField(blank=True, help_text="why its last reading failed")

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(pk=1), name="judge_model_only_one")]

    def __str__(self) -> str:
        return f"judge: {self.policy}"


class StoryReading(models.Model):
    """What a judge model said of a story. structure, message: None where its answer could not be read."""

    story = models.ForeignKey(Story, on_delete=models.CASCADE, related_name="readings")
    detector = models.CharField(max_length=100, help_text="its version and the hash of its weights")
    structure = models.BooleanField(null=True)
    message = models.BooleanField(null=True)
    said = models.CharField(max_length=200, help_text="its answers as they came")
    read_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("pk",)
        constraints = [
            models.UniqueConstraint(fields=["story", "detector"], name="reading_once_a_detector"),
            models.CheckConstraint(condition=~Q(detector=""), name="reading_has_a_detector"),
        ]

    def __str__(self) -> str:
        return f"{self.detector} of {self.story_id}"


class LabelledReading(models.Model):
    """What a judge model said of the labelled stories that ship: how good it is follows from it."""

    detector = models.CharField(max_length=100)
    labels = models.CharField(max_length=64, help_text="hash of the labelled stories' file")
    readings = models.JSONField(help_text="[structure, message] of each, in their order")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["detector", "labels"], name="labelled_reading_once"),
        ]

    def __str__(self) -> str:
        return f"{self.detector} of the labelled stories"
