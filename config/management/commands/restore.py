from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from config.audit.entries import record
from config.backups.client import NoClient
from config.backups.database import DatabaseFailed
from config.backups.manifest import BadBackup
from config.backups.restoring import CannotRestore, checked, restore_backup

NEXT = """Everybody logs in again. Before you start the web server and the workers:
- STORYLOOP_SECRET_KEY and the other secrets are not in a backup: set those that you kept.
- manage.py doctor says what else is missing."""


class Command(BaseCommand):
    help = (
        "Restore the backup in the folder PATH into the database and folders of the settings. Every file is compared "
        "with its SHA-256 first, and a database that is not empty is left alone."
    )
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("path", type=Path, help="the backup's folder")
        parser.add_argument("--check", action="store_true", help="only say whether the backup is whole")
        parser.add_argument(
            "--replace", action="store_true", help="all that the database holds may go, and files of the same names"
        )

    def handle(self, *args: Any, path: Path, check: bool, replace: bool, **options: Any) -> None:
        folder = path.expanduser().absolute()
        try:
            if check:
                found = checked(folder, self.stdout.write)
                self.stdout.write(f"Every file is as it was on {found.made_at}, Storyloop {found.storyloop}.")
                return
            moved = restore_backup(folder, replace=replace, say=self.stdout.write)
        except (BadBackup, CannotRestore, DatabaseFailed, NoClient) as error:
            raise CommandError(str(error)) from error
        except OSError as error:
            raise CommandError(f"{error}. Mend it and give the command again: it goes on where it stopped.") from error
        record("backup_restored")
        for old, new in moved.items():
            if old != new:
                self.stdout.write(f"What lay in {old} is in {new}.")
        self.stdout.write(NEXT)
