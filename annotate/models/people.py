"""Who judges."""

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from generation.models import Language


class Audience(models.TextChoices):
    EDUCATOR = "educator", _("educator")
    PARENT = "parent", _("parent")
    WRITER = "writer", _("writer")


def all_languages() -> list[str]:
    return list(Language.values)


class Expert(models.Model):
    """A person who judges. A simulated expert plays one, and is never counted as a person."""

    user = models.OneToOneField(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="expert")
    audience = models.CharField(max_length=12, choices=Audience)
    simulated = models.BooleanField(default=False)
    languages = ArrayField(
        models.CharField(max_length=8, choices=Language), default=all_languages, help_text="of stories they read"
    )
    keys_enabled = models.BooleanField(default=True, help_text="single keys act on the judging page (WCAG 2.1.4)")
    practised_at = models.DateTimeField(null=True, blank=True, help_text="when the calibration set was done")
    adjudicates = models.BooleanField(
        default=True, db_default=True, help_text="may be asked to decide where others disagree"
    )
    judged = models.PositiveIntegerField(default=0, help_text="judgements, counted under this row's lock")

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(audience__in=Audience.values), name="expert_audience_known"),
            models.CheckConstraint(
                condition=Q(languages__contained_by=Language.values, languages__len__gt=0),
                name="expert_reads_known_languages",
            ),
        ]

    def __str__(self) -> str:
        return self.user.get_username()
