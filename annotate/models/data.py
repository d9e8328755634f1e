"""Preference data that leave, and preference data from elsewhere. Neither is ever an expert's judgement."""

from typing import Self

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from generation.models import Language


class Format(models.TextChoices):
    JSONL = "jsonl", "JSONL"
    PARQUET = "parquet", "Parquet"
    CSV = "csv", "CSV"
    ARGILLA = "argilla", _("Argilla (JSON)")
    LABEL_STUDIO = "label_studio", _("Label Studio (JSON)")


class Layout(models.TextChoices):
    """What a line of JSONL or Parquet holds. The other formats know pairs only."""

    PAIRS = "pairs", _("a pair a line, as text")
    CONVERSATION = "conversation", _("a pair a line, as messages")
    GROUPED = "grouped", _("a prompt a line, each story once")


class ExportState(models.TextChoices):
    WAITING = "waiting", _("waiting")
    WRITING = "writing", _("being written")
    DONE = "done", _("finished")
    FAILED = "failed", _("failed")


AT_WORK = (ExportState.WAITING, ExportState.WRITING)


class ExportQuerySet(models.QuerySet["Export"]):
    def at_work(self) -> Self:
        """Not over yet, with a worker or without one."""
        return self.filter(state__in=AT_WORK)

    def finished(self) -> Self:
        return self.filter(state=ExportState.DONE)


class Export(models.Model):
    """A frozen file of pairs: who made it, when, what for, and of what. Once finished it never changes:
    a trigger of the database refuses."""

    made_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    purpose = models.CharField(max_length=200, help_text="what it is for")
    selection = models.JSONField(help_text="what it is made of: annotate.selections.Selection")
    format = models.CharField(max_length=12, choices=Format)
    layout = models.CharField(max_length=12, choices=Layout, default=Layout.PAIRS)
    state = models.CharField(max_length=8, choices=ExportState, default=ExportState.WAITING)
    attempts = models.PositiveSmallIntegerField(default=0)
    done = models.PositiveIntegerField(default=0, help_text="lines written so far")
    total = models.PositiveIntegerField(default=0, help_text="0: not known yet")
    message = models.TextField(blank=True, help_text="why it failed, and what to do")
    path = models.CharField(max_length=100, blank=True, help_text="name of the file in EXPORT_DIR")
    count = models.PositiveIntegerField(null=True, help_text="pairs")
    simulated = models.PositiveIntegerField(null=True, help_text="of them with votes of simulated experts")
    size = models.PositiveBigIntegerField(null=True, help_text="bytes")
    sha256 = models.CharField(max_length=64, blank=True)
    ended_at = models.DateTimeField(null=True)

    objects = ExportQuerySet.as_manager()

    class Meta:
        ordering = ("-pk",)
        constraints = [
            models.CheckConstraint(condition=~Q(purpose=""), name="export_has_a_purpose"),
            models.CheckConstraint(condition=Q(format__in=Format.values), name="export_format_known"),
            models.CheckConstraint(
                condition=Q(layout=Layout.PAIRS)
                | Q(layout__in=Layout.values, format__in=[Format.JSONL, Format.PARQUET]),
                name="export_layout_fits_the_format",
            ),
            models.CheckConstraint(condition=Q(state__in=ExportState.values), name="export_state_known"),
            models.CheckConstraint(
                condition=Q(state=ExportState.DONE, count__gt=0, size__gt=0, simulated__isnull=False)
                & Q(sha256__regex=r"^[0-9a-f]{64}$")
                & ~Q(path="")
                | ~Q(state=ExportState.DONE) & Q(path="", count=None, size=None, sha256="", simulated=None),
                name="export_whole_or_not_at_all",
            ),
            models.CheckConstraint(
                condition=Q(state__in=AT_WORK, ended_at=None) | ~Q(state__in=AT_WORK) & Q(ended_at__isnull=False),
                name="export_ended_has_a_time",
            ),
            # a name and no way out of the directory
            models.CheckConstraint(
                condition=Q(path="") | Q(path__regex=r"^[A-Za-z0-9][A-Za-z0-9._-]*$"), name="export_path_is_a_name"
            ),
            models.UniqueConstraint(fields=["path"], condition=~Q(path=""), name="export_path_once"),
        ]

    def __str__(self) -> str:
        return f"export {self.pk}"

    @property
    def at_work(self) -> bool:
        return self.state in AT_WORK


class OriginQuerySet(models.QuerySet["Origin"]):
    def in_use(self) -> Self:
        """Those whose pairs are still here."""
        return self.filter(withdrawn_at=None)


class Origin(models.Model):
    """Where imported pairs came from: one file of somebody else's. Withdrawn, its pairs go and this record stays."""

    name = models.CharField(max_length=80, unique=True)
    licence = models.CharField(max_length=80)
    language = models.CharField(max_length=8, choices=Language)
    rendered = models.BooleanField(
        default=False, help_text="prompts are the text that a policy reads, template and all"
    )
    file_name = models.CharField(max_length=200)
    file_sha256 = models.CharField(max_length=64)
    imported_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+")
    imported_at = models.DateTimeField(auto_now_add=True)
    count = models.PositiveIntegerField(help_text="pairs that were new")
    known = models.PositiveIntegerField(default=0, help_text="pairs that were there already")
    withdrawn_at = models.DateTimeField(null=True)
    withdrawn_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+")

    objects = OriginQuerySet.as_manager()

    class Meta:
        ordering = ("-pk",)
        constraints = [
            models.CheckConstraint(condition=~Q(name="") & ~Q(licence=""), name="origin_has_name_and_licence"),
            models.CheckConstraint(condition=Q(language__in=Language.values), name="origin_language_known"),
            models.CheckConstraint(condition=Q(file_sha256__regex=r"^[0-9a-f]{64}$"), name="origin_file_is_hashed"),
            models.CheckConstraint(
                condition=Q(withdrawn_by=None) | Q(withdrawn_at__isnull=False), name="origin_withdrawn_has_a_time"
            ),
        ]

    def __str__(self) -> str:
        return self.name


class ImportedPairQuerySet(models.QuerySet["ImportedPair"]):
    def trainable(self) -> Self:
        """Those of one question and its answer: a policy here is asked once, and writes one story."""
        return self.filter(turns=1)


class ImportedPair(models.Model):
    """A preference of somebody else's experts, or of a model that judged. It is in no win rate and no agreement."""

    origin = models.ForeignKey(Origin, on_delete=models.PROTECT, related_name="pairs")
    line = models.PositiveIntegerField(help_text="of the source file; of Parquet, the row")
    turns = models.PositiveSmallIntegerField(default=1, help_text="before the answer; a system's message is none")
    prompt = models.JSONField(help_text='messages before the answer: [{"role": ..., "content": ...}]')
    chosen = models.TextField()
    rejected = models.TextField()
    margin = models.FloatField(null=True, help_text="difference of the two scores, if the source had any")
    sha256 = models.CharField(max_length=64, unique=True, help_text="of prompt, chosen and rejected")

    objects = ImportedPairQuerySet.as_manager()

    class Meta:
        ordering = ("pk",)
        constraints = [
            models.CheckConstraint(condition=~Q(chosen="") & ~Q(rejected=""), name="imported_pair_has_stories"),
            models.CheckConstraint(condition=~Q(chosen=models.F("rejected")), name="imported_pair_of_two_stories"),
            models.CheckConstraint(condition=Q(sha256__regex=r"^[0-9a-f]{64}$"), name="imported_pair_is_hashed"),
            models.CheckConstraint(condition=Q(turns__gte=1), name="imported_pair_asks_something"),
        ]

    def __str__(self) -> str:
        return f"{self.origin_id}:{self.line}"
