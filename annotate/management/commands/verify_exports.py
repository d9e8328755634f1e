from typing import Any

from django.core.management.base import BaseCommand, CommandError

from annotate.exports import verify_exports


class Command(BaseCommand):
    help = "Hash the files of all finished exports anew, and say which differ or are gone. Exit status 1 if any is."

    def handle(self, *args: Any, **options: Any) -> None:
        checked, faults = 0, 0
        for finding in verify_exports():
            checked += 1
            if finding.fault:
                faults += 1
                self.stdout.write(f"export {finding.export.pk}, {finding.fault}")
        if faults:
            raise CommandError(
                f"{faults} of {checked} files are not what was exported. Put them back from a backup, or make them "
                "anew: manage.py export_pairs --like NUMBER (the SHA-256 says whether it is the same again)."
            )
        self.stdout.write(f"{checked} files are as they were exported.")
