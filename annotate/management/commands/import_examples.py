from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from annotate.practice import BadExamples, import_examples

SHOWN_FAULTS = 20


class Command(BaseCommand):
    help = (
        "Import the examples that experts practise on from a JSONL file with the fields key, language (en, zh), "
        "prompt, age_band, stories (2 to 5 texts), best, worst (positions from 1), explanation_en, explanation_zh "
        "and, if you like, sort_order. A key that is known is updated. All lines or none "
        "(docs/judging.md)."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path, help="JSONL")

    def handle(self, *args: Any, file: Path, **options: Any) -> None:
        try:
            done = import_examples(file)
        except BadExamples as error:
            shown = error.faults[:SHOWN_FAULTS]
            more = [f"and {len(error.faults) - len(shown)} more"] if len(error.faults) > len(shown) else []
            raise CommandError("\n".join([f"Nothing was imported from {file}:", *shown, *more])) from error
        self.stdout.write(f"{done.new} examples imported, {done.updated} updated.")
