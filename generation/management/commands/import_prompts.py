from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from generation.prompts import BadPrompts, import_prompts

SHOWN_FAULTS = 20


class Command(BaseCommand):
    help = (
        "Import prompts from a JSONL or CSV file with the fields text, language (en, zh), theme, story_type, "
        "age_band and split (train, evaluation; train if left out). All rows or none."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path, help="JSONL or CSV")

    def handle(self, *args: Any, file: Path, **options: Any) -> None:
        try:
            done = import_prompts(file)
        except BadPrompts as error:
            shown = error.faults[:SHOWN_FAULTS]
            more = [f"and {len(error.faults) - len(shown)} more"] if len(error.faults) > len(shown) else []
            raise CommandError("\n".join([f"Nothing was imported from {file}:", *shown, *more])) from error
        self.stdout.write(f"{done.new} prompts imported, {done.known} were there already.")
