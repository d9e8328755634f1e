"""The audit log: who did what to which object, and when. Entries are added and never changed (docs/audit-log.md)."""

from typing import Self

from django.contrib.auth.models import User
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _


class Source(models.TextChoices):
    """By which way it was done."""

    WEB = "web", _("pages")
    API = "api", _("API")
    TASK = "task", _("worker")
    COMMAND = "command", _("command line")
    DATABASE = "database", _("the database itself, past Storyloop")


class AuditEntryQuerySet(models.QuerySet["AuditEntry"]):
    def about(self, user_id: int) -> Self:
        """What the person did, and what was done to their account."""
        return self.filter(Q(actor=user_id) | Q(object_type="user", object_id=user_id))

    def before(self, entry: "AuditEntry") -> Self:
        """Those that come after `entry` in a list that begins with the newest."""
        return self.filter(Q(at__lt=entry.at) | Q(id__lt=entry.pk), at__lte=entry.at)


class AuditEntry(models.Model):
    """One act. The table, its constraints and its triggers are made by a migration in SQL: a table that refuses to be
    emptied is none that Django may manage.

    No name of a person is stored, only whose account it is: who leaves is former-… here, too.
    kind: config/audit/words.py. through: the page, endpoint, task, or command with the user of the operating system.
    object_id: a round's number, otherwise a row's id. label: its name then, but never a person's. facts: {column:
    [before, after]}, or {column: value} of a row that is new or gone, of columns on an allow-list; {"changed":
    [columns whose values are not kept]}.
    """

    at = models.DateTimeField(db_default=models.functions.Now())
    kind = models.CharField(max_length=40)
    actor = models.ForeignKey(
        User, null=True, blank=True, on_delete=models.DO_NOTHING, db_constraint=False, related_name="+"
    )
    source = models.CharField(max_length=10, choices=Source)
    through = models.CharField(max_length=120, blank=True, db_default="")
    request_id = models.CharField(max_length=64, blank=True, db_default="")
    object_type = models.CharField(max_length=20, blank=True, db_default="")
    object_id = models.BigIntegerField(null=True, blank=True)
    label = models.CharField(max_length=200, blank=True, db_default="")
    facts = models.JSONField(db_default={}, blank=True)

    objects = AuditEntryQuerySet.as_manager()

    class Meta:
        managed = False
        db_table = "config_auditentry"
        ordering = ("-at", "-id")
        verbose_name_plural = "audit entries"

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M:%S} {self.kind}"
