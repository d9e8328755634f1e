from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from annotate.imports import withdraw_origin
from annotate.models import Origin


class Command(BaseCommand):
    help = "Delete all pairs that were imported from an origin. Its record stays, and so do rounds trained on them."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("origin", help="the name that they were imported under")

    def handle(self, *args: Any, origin: str, **options: Any) -> None:
        found = Origin.objects.filter(name=origin).first()
        if found is None:
            known = ", ".join(Origin.objects.in_use().values_list("name", flat=True)) or "none"
            raise CommandError(f"There is no origin “{origin}”. In use: {known}.")
        self.stdout.write(f"{withdraw_origin(origin=found)} pairs deleted.")
