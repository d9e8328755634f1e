from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from annotate.exports import file_fault, verify_exports
from generation.stores.faults import StoreFault
from training.models import Round


class Command(BaseCommand):
    help = (
        "Hash the files of all finished exports, and those that rounds were trained on, anew, and say which differ or "
        "are gone. Exit status 1 if any is."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        checked, faults = 0, 0
        try:
            for name, fault in _checked():
                checked += 1
                if fault:
                    faults += 1
                    self.stdout.write(f"{name}, {fault}")
        except StoreFault as error:
            raise CommandError(f"{error} {checked} files were checked before.") from error
        if faults:
            raise CommandError(
                f"{faults} of {checked} files are not what was exported. Put them back from a backup. An export can "
                "also be made anew: manage.py export_pairs --like NUMBER (the SHA-256 says whether it is the same)."
            )
        self.stdout.write(f"{checked} files are as they were exported.")


def _checked() -> Iterator[tuple[str, str]]:
    for finding in verify_exports():
        yield f"export {finding.export.pk}", finding.fault
    for frozen in Round.objects.exclude(export_path="").order_by("number"):
        yield f"round {frozen.number}", file_fault(Path(frozen.export_path), frozen.export_sha256)
