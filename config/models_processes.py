"""Which workers and beats run."""

from datetime import timedelta
from typing import Self

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now


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
