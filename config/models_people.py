"""Who may come in, and what is counted while they try."""

from typing import Self

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from annotate.models import Audience


class InvitedAs(models.TextChoices):
    EXPERT = "expert", _("expert")
    ADJUDICATOR = "adjudicator", _("expert and adjudicator")
    ADMIN = "admin", _("admin")


class InvitationQuerySet(models.QuerySet["Invitation"]):
    def usable(self) -> Self:
        """Neither used nor revoked nor expired."""
        return self.filter(used_at=None, revoked_at=None, expires_at__gt=Now())


class Invitation(models.Model):
    """A link that makes one account. The link's token is nowhere: digest is its SHA-256, in hex.

    email: of the only person who may use it; "": whoever has the link. note: whom the admin means.
    """

    role = models.CharField(max_length=12, choices=InvitedAs)
    audience = models.CharField(max_length=12, choices=Audience, blank=True)
    email = models.EmailField(blank=True)
    note = models.CharField(max_length=100, blank=True)
    digest = models.CharField(max_length=64, unique=True)
    made_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    created_at = models.DateTimeField(db_default=Now())
    expires_at = models.DateTimeField()
    revoked_at = models.DateTimeField(null=True, blank=True)
    used_at = models.DateTimeField(null=True, blank=True)
    used_by = models.OneToOneField(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="invitation"
    )

    objects = InvitationQuerySet.as_manager()

    class Meta:
        ordering = ("-pk",)
        constraints = [
            models.CheckConstraint(condition=Q(role__in=InvitedAs.values), name="invitation_role_known"),
            models.CheckConstraint(
                condition=Q(role=InvitedAs.ADMIN, audience="")
                | (~Q(role=InvitedAs.ADMIN) & Q(audience__in=Audience.values)),
                name="invitation_audience_of_experts",
            ),
            models.CheckConstraint(condition=Q(digest__regex="^[0-9a-f]{64}$"), name="invitation_keeps_a_digest"),
            models.CheckConstraint(condition=Q(expires_at__gt=F("created_at")), name="invitation_expires_later"),
            models.CheckConstraint(
                condition=Q(used_at=None) | Q(revoked_at=None), name="invitation_is_used_or_revoked"
            ),
            models.CheckConstraint(
                condition=Q(used_by=None) | Q(used_at__isnull=False), name="invitation_is_used_by_somebody_once_used"
            ),
        ]

    def __str__(self) -> str:
        return self.note or self.email or f"#{self.pk}"


class CacheEntry(models.Model):
    """A row of the default cache, which all processes share (config/account_settings.py). Django's own code reads
    and writes it; as a model it comes with the migrations."""

    cache_key = models.CharField(max_length=255, primary_key=True)
    value = models.TextField()
    expires = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return self.cache_key
