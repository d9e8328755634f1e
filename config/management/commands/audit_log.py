from datetime import UTC, datetime, time, timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError
from django.utils import timezone

from config.audit.deleting import KEPT_DAYS, delete_before
from config.audit.entries import record
from config.audit.exports import WRITERS
from config.models import AuditEntry


class Command(BaseCommand):
    help = (
        "Print the audit log, newest first, or delete what is older than a day. Both are entries themselves. What is "
        "in it and how long to keep it: docs/audit-log.md."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--format", choices=list(WRITERS), default="jsonl", help="default: %(default)s")
        parser.add_argument("--since", metavar="DATE", help="from this day on (2026-11-23), in UTC")
        parser.add_argument(
            "--delete-before",
            metavar="DATE",
            help=f"print nothing, and delete the entries from before this day; those of the last {KEPT_DAYS} days stay",
        )

    def handle(self, *args: Any, format: str, since: str | None, delete_before: str | None, **options: Any) -> None:
        if delete_before:
            self._delete(_day(delete_before))
            return
        found = AuditEntry.objects.order_by("-at", "-id")
        if since:
            found = found.filter(at__gte=_day(since))
        record("audit_exported")
        for line in WRITERS[format](found):
            self.stdout.write(line, ending="")

    def _delete(self, day: datetime) -> None:
        if day > timezone.now() - timedelta(days=KEPT_DAYS):
            raise CommandError(f"Entries of the last {KEPT_DAYS} days stay: give an earlier day.")
        try:
            gone = delete_before(day)
        except DatabaseError as error:
            raise CommandError(f"The database refuses: {str(error).splitlines()[0]}") from error
        self.stdout.write(f"{gone} entries from before {day:%Y-%m-%d} are deleted. The log says so.")


def _day(text: str) -> datetime:
    """The beginning of the day, in UTC."""
    try:
        return datetime.combine(datetime.strptime(text, "%Y-%m-%d").date(), time.min, UTC)  # noqa: DTZ007
    except ValueError as error:
        raise CommandError(f"{text!r} is no day: write it like 2026-11-23.") from error
