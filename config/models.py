"""Who may use the API, what it has answered once for all, and which processes run."""

from datetime import timedelta
from typing import Self

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _


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


class Role(models.TextChoices):
    WORKER = "worker", "worker"
    BEAT = "beat", "beat"


class ProcessQuerySet(models.QuerySet["Process"]):
    def alive(self) -> Self:
        """Those that have said so lately (config/alive.py says it every 20 seconds)."""
        return self.filter(seen_at__gt=Now() - timedelta(seconds=90))


class Process(models.Model):
    """A worker or beat that runs, or has run until `seen_at`. version: of Storyloop. queues: a worker's."""

    role = models.CharField(max_length=8, choices=Role)
    host = models.CharField(max_length=255)
    pid = models.PositiveIntegerField()
    version = models.CharField(max_length=64)
    queues = ArrayField(models.CharField(max_length=80), default=list, blank=True)
    seen_at = models.DateTimeField(db_default=Now())

    objects = ProcessQuerySet.as_manager()

    class Meta:
        ordering = ("role", "host", "pid")
        constraints = [
            models.UniqueConstraint(fields=["host", "pid"], name="process_once"),
            models.CheckConstraint(condition=Q(role__in=Role.values), name="process_role_known"),
        ]

    def __str__(self) -> str:
        return f"{self.role} {self.pid} on {self.host}"
