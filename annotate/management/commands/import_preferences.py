from pathlib import Path
from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError, CommandParser

from annotate import foreign
from annotate.imports import BadImport, Report, Source, check_preferences, import_preferences
from generation.models import Language


class Command(BaseCommand):
    help = (
        "Import preference pairs from elsewhere, JSONL or Parquet: TRL's (prompt, chosen, rejected) or scored "
        "completions as UltraFeedback has them (docs/data.md). All rows or none; they are never counted among "
        "experts' judgements."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path, help="JSONL or Parquet")
        parser.add_argument("--origin", required=True, help="a name for where they come from; one for each file")
        parser.add_argument("--licence", required=True, help="under which they may be used")
        parser.add_argument("--language", required=True, choices=Language.values, help="of all of them")
        parser.add_argument("--rendered", action="store_true", help="prompts hold a chat template already")
        parser.add_argument(
            "--pairs", choices=[foreign.EVERY, foreign.EXTREMES], default=foreign.EVERY, help="of scored completions"
        )
        parser.add_argument("--by", help="the account in whose name")
        parser.add_argument("--dry-run", action="store_true", help="only say what is in the file")

    def handle(self, *args: Any, file: Path, **options: Any) -> None:
        by = None
        if options["by"] and not (by := User.objects.filter(username=options["by"]).first()):
            raise CommandError(f"There is no account {options['by']}.")
        source = Source(
            options["origin"], options["licence"], options["language"], options["rendered"], options["pairs"]
        )
        try:
            if options["dry_run"]:
                report = check_preferences(file, source)
                self.stdout.write(_said(report, "would be new"))
                if report.fault_count:
                    raise CommandError("\n".join(_faults(report)))
                return
            report = import_preferences(file, source, by=by)[1]
        except BadImport as error:
            told = _faults(error.report) if error.report else []
            raise CommandError("\n".join([str(error), *told])) from error
        self.stdout.write(_said(report, "imported"))


def _said(report: Report, what: str) -> str:
    more = f"; {report.several_turns} of several turns, which no round trains on" if report.several_turns else ""
    return (
        f"{report.rows} rows: {report.new} pairs {what}, {report.known} known already, "
        f"{report.equal} rows that prefer nothing{more}"
    )


def _faults(report: Report) -> list[str]:
    more = [f"and {report.faults_untold} more"] if report.faults_untold else []
    return [*report.faults, *more]
