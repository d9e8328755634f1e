from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from config.audit.entries import record
from config.backups.client import NoClient
from config.backups.database import DatabaseFailed
from config.backups.files import CannotCopy
from config.backups.making import CannotBackUp, write_backup


class Command(BaseCommand):
    help = (
        "Write the database, the models and the exports into the new folder PATH, with a SHA-256 of each file. People "
        "may go on judging, and a round may train. What is in it and what is not: docs/running.md."
    )
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("path", type=Path, help="is made; nothing is written over")
        parser.add_argument(
            "--no-checkpoints",
            action="store_true",
            help="leave out the checkpoints: a round that is under way would train from its first step again",
        )

    def handle(self, *args: Any, path: Path, no_checkpoints: bool, **options: Any) -> None:
        target = path.expanduser().absolute()
        try:
            made = write_backup(target, checkpoints=not no_checkpoints, say=self.stdout.write)
        except (CannotBackUp, DatabaseFailed, CannotCopy, NoClient) as error:
            raise CommandError(str(error)) from error
        except OSError as error:
            raise CommandError(f"{error}. Nothing is left of this backup: free the disk and make it again.") from error
        record("backup_made")
        for missing in made.missing:
            self.stderr.write(f"Not in the backup, as it is not on the disk: {missing}")
        size = sum(entry.bytes for entry in made.files.values())
        self.stdout.write(
            f"{target}: {len(made.files)} files, {size / 2**20:.1f} MB, {sum(made.counts.values())} rows."
        )
