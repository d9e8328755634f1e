from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from annotate import exports
from annotate.models import Criterion, Export, ExportState, Format, Layout
from annotate.pairs import OVERALL
from annotate.selections import CRITERIA, BadSelection, Selection
from generation.models import Language

BY_SUFFIX = {".parquet": Format.PARQUET, ".csv": Format.CSV}


class Command(BaseCommand):
    help = (
        "Freeze preference pairs in a file that is kept with its SHA-256 and the selection that made it (the page "
        "Data, docs/data.md). FILE gets a copy; what is there is never overwritten."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path, nargs="?", help="gets a copy; must not be there yet")
        parser.add_argument("--format", choices=Format.values, help="if left out, what FILE's name ends with, or jsonl")
        parser.add_argument("--purpose", default="manage.py export_pairs", help="what it is for; kept with it")
        parser.add_argument("--like", type=int, metavar="NUMBER", help="run this earlier export's selection again")
        parser.add_argument("--policy", action="append", default=[], help="only of this policy's stories; repeatable")
        parser.add_argument(
            "--language", action="append", default=[], choices=Language.values, help="only of these; repeatable"
        )
        parser.add_argument("--until", default="", help="only judgements given until then (ISO 8601 with zone)")
        parser.add_argument("--people-only", action="store_true", help="leave simulated experts out")
        parser.add_argument("--by-criterion", action="store_true", help="also pairs of the winners by each criterion")
        parser.add_argument("--criterion", action="append", choices=CRITERIA, help="only pairs by this; repeatable")
        layout = parser.add_mutually_exclusive_group()
        layout.add_argument(
            "--grouped", action="store_true", help="a line a prompt, each story once: training.dpo's own"
        )
        layout.add_argument("--conversation", action="store_true", help="prompt and stories as messages")
        parser.add_argument("--reasons", action="store_true", help="each vote, with its reasons in the expert's words")
        parser.add_argument("--experts", action="store_true", help="each vote, with a pseudonym and the audience")

    def handle(self, *args: Any, file: Path | None, **options: Any) -> None:
        try:
            if file:
                exports.check_free(file)
            export = exports.begin_export(by=None, purpose=options["purpose"], **_wanted(file, options))
            exports.write_export(export.pk)
            export.refresh_from_db()
            if export.state == ExportState.FAILED:
                raise CommandError(export.message)
            if file:
                exports.copy_export(export, file)
        except (exports.BadExport, BadSelection, OSError) as error:
            raise CommandError(str(error)) from error
        self.stdout.write(
            f"{export.count} pairs ({export.simulated} with simulated votes) in {file or exports.path_of(export)}, "
            f"SHA-256 {export.sha256}"
        )


def _wanted(file: Path | None, options: dict[str, Any]) -> dict[str, Any]:
    if options["like"] is not None:
        earlier = Export.objects.filter(pk=options["like"]).first()
        if earlier is None:
            raise CommandError(f"There is no export {options['like']}: the page Data lists them.")
        return exports.repeat(earlier)
    criteria = options["criterion"] or [OVERALL]
    if options["by_criterion"]:
        criteria = [*criteria, *(name for name in Criterion.values if name not in criteria)]
    selection = Selection(
        policies=tuple(options["policy"]),
        include_simulated=not options["people_only"],
        criteria=tuple(criteria),
        languages=tuple(options["language"]),
        until=options["until"],
        reasons=options["reasons"],
        experts=options["experts"],
    )
    layout = Layout.GROUPED if options["grouped"] else Layout.CONVERSATION if options["conversation"] else Layout.PAIRS
    by_name = BY_SUFFIX.get(file.suffix.lower(), Format.JSONL) if file else Format.JSONL
    return {"selection": selection, "format": options["format"] or by_name, "layout": layout}
