"""What is written and by whom."""

from typing import Self

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _


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


class Policy(models.Model):
    """A model that can write: a base model, or a round's result."""

    name = models.CharField(max_length=80, unique=True)
    parent = models.ForeignKey("self", null=True, blank=True, on_delete=models.PROTECT, related_name="children")
    path = models.TextField(help_text="directory of the full weights (an adapter's, merged into its base)")
    adapter_path = models.TextField(blank=True, help_text="directory of the PEFT adapter that was merged, if any")
    weights_hash = models.CharField(max_length=64)
    is_current = models.BooleanField(default=False)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = PolicyQuerySet.as_manager()

    class Meta:
        ordering = ("pk",)
        constraints = [
            models.UniqueConstraint(fields=["is_current"], condition=Q(is_current=True), name="policy_one_current"),
            models.CheckConstraint(condition=~Q(path=""), name="policy_has_path"),
            models.CheckConstraint(condition=~Q(parent=F("pk")), name="policy_not_its_own_parent"),
        ]

    def __str__(self) -> str:
        return self.name

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
    seed = models.BigIntegerField()
    draws = models.PositiveSmallIntegerField(default=1, help_text="times it was drawn until it was accepted")
    weights_hash = models.CharField(max_length=64, help_text="of the weights that the engine had loaded")
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
            models.CheckConstraint(
                condition=Q(finish_reason__in=FinishReason.values), name="story_finish_reason_known"
            ),
        ]
        verbose_name_plural = "stories"

    def __str__(self) -> str:
        return self.text[:80]
