"""Who may use the API, what it has answered once for all, and who may come in (models_people.py)."""

from typing import Self

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from config.models_audit import AuditEntry
from config.models_people import CacheEntry, Invitation, InvitedAs
from config.models_processes import Process

__all__ = ["ApiAnswer", "ApiToken", "AuditEntry", "CacheEntry", "Invitation", "InvitedAs", "Process"]


class ApiTokenQuerySet(models.QuerySet["ApiToken"]):
    def usable(self) -> Self:
        """Neither revoked nor expired, of a person who may log in."""
        still = Q(expires_at=None) | Q(expires_at__gt=Now())
        return self.filter(still, revoked_at=None, user__is_active=True)


class ApiToken(models.Model):
    """What a program says instead of a password. The token itself is nowhere: digest is its SHA-256, in hex.

    prefix: its first characters, by which a person knows it again. last_used_at: within the last minute or so.
    """

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="api_tokens")
    name = models.CharField(_("name"), max_length=60)
    digest = models.CharField(max_length=64, unique=True)
    prefix = models.CharField(max_length=12)
    created_at = models.DateTimeField(db_default=Now())
    last_used_at = models.DateTimeField(null=True, blank=True)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    busy_until = models.DateTimeField(null=True, blank=True, help_text="its requests take time: config/api/limit.py")

    objects = ApiTokenQuerySet.as_manager()

    class Meta:
        ordering = ("-pk",)
        constraints = [
            models.UniqueConstraint(
                fields=["user", "name"], condition=Q(revoked_at=None), name="api_token_name_once_in_use"
            ),
            models.CheckConstraint(condition=~Q(name=""), name="api_token_has_a_name"),
            models.CheckConstraint(condition=Q(digest__regex="^[0-9a-f]{64}$"), name="api_token_is_a_digest"),
            models.CheckConstraint(
                condition=Q(expires_at=None) | Q(expires_at__gt=F("created_at")), name="api_token_expires_later"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.prefix}… ({self.name})"


class ApiAnswer(models.Model):
    """What a request with an Idempotency-Key was answered, so that the same request again does nothing new.

    digest: SHA-256 of the request's body, in hex.
    """

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    key = models.CharField(max_length=100)
    digest = models.CharField(max_length=64)
    answer = models.JSONField(default=dict)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ("pk",)
        constraints = [
            models.UniqueConstraint(fields=["user", "key"], name="api_answer_once_a_key"),
            models.CheckConstraint(condition=~Q(key=""), name="api_answer_has_a_key"),
        ]

    def __str__(self) -> str:
        return self.key
