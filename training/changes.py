"""Which policy was in use when: a row for each change, so that lists and pages can tell it."""

from django.conf import settings
from django.contrib.auth.models import User
from django.db import models
from django.db.models import F, Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from generation.models import Policy


class Why(models.TextChoices):
    FIRST = "first", _("the first policy")
    PROMOTED = "promoted", _("promoted")
    ROLLED_BACK = "rolled_back", _("rolled back")


class PolicyChange(models.Model):
    """From `at` on `policy` is in use, in the stead of `before`. by: None for the rule, or a command."""

    policy = models.ForeignKey(Policy, on_delete=models.PROTECT, related_name="changes")
    before = models.ForeignKey(Policy, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    why = models.CharField(max_length=12, choices=Why)
    by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+")
    at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ("-at", "-pk")
        constraints = [
            models.UniqueConstraint(models.Value(1), condition=Q(why="first"), name="policy_change_one_first"),
            models.CheckConstraint(condition=Q(why__in=Why.values), name="policy_change_why_known"),
            models.CheckConstraint(
                condition=Q(why="first", before=None) | (~Q(why="first") & Q(before__isnull=False)),
                name="policy_change_from_one_to_another",
            ),
            models.CheckConstraint(condition=~Q(before=F("policy")), name="policy_change_is_one"),
        ]

    def __str__(self) -> str:
        return f"{self.policy}: {self.why}"


def record_change(*, policy: Policy, before: Policy, why: Why, by: User | None = None) -> PolicyChange:
    """Write down that `policy` has taken the place of `before`; the very first time, what was first as well."""
    if not PolicyChange.objects.exists():
        PolicyChange.objects.create(policy=before, why=Why.FIRST, at=before.created_at)
    return PolicyChange.objects.create(policy=policy, before=before, why=why, by=by)
