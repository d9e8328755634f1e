import json
from functools import partial
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from annotate.models import Audience
from generation.models import Language
from training import schedule
from training.described import described, lasting, size
from training.dpo.settings import LOSSES, METHODS
from training.launching import CannotLaunch, prepare, settings_of
from training.limits import REFERENCES
from training.models import Round
from training.preview import DryRun, dry_run
from training.rounds import launch_round
from training.selection import CRITERIA, Rounds, Selection, Which
from training.tasks import run_round

CHOICES = {"method": METHODS, "loss": LOSSES, "reference": REFERENCES}
SELECTION = {
    "rounds": ("--rounds", Rounds.values),
    "languages": ("--language", Language.values),
    "themes": ("--theme", None),
    "audiences": ("--audience", Audience.values),
    "which": ("--pairs", Which.values),
    "origins": ("--origin", None),
}
LISTS = ("languages", "themes", "audiences", "origins")
OBJECTIVES = f'"structure=1,creativity=0.5"; criteria: {", ".join(CRITERIA)}'
SAID = {
    "rounds": "whose stories: of this round, of all, or a mix in which older ones count less",
    "which": "of an order: all pairs, neighbours, or best and worst",
    "origins": "imported pairs of that name too; may be given several times",
}


class Command(BaseCommand):
    help = (
        "Launch a round of DPO from the current policy, as the page does. What is not given is as shipped, or as in "
        "--from-round. --dry-run checks everything and launches nothing. Exit status 1 if it cannot be launched, or if "
        "a dry run found something in its way (docs/training.md)."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        add = parser.add_argument
        add("--dry-run", action="store_true", help="say what would be trained on, and stop")
        add("--json", action="store_true", help="print JSON")
        add("--from-round", type=int, metavar="N", help="begin with that round's settings")
        add("--include-simulated", action="store_true", default=None, help="simulated experts' judgements count")
        add("--people-only", dest="include_simulated", action="store_false", default=None, help="they don't")
        data = parser.add_argument_group("data")
        for name, (option, choices) in SELECTION.items():
            action = "append" if name in LISTS else "store"
            said = SAID.get(name, "may be given several times; all if not")
            data.add_argument(option, dest=f"data_{name}", action=action, choices=choices, help=said)
        data.add_argument(
            "--older-weight", dest="data_older_weight", type=float, help="in a mix, for each round between"
        )
        data.add_argument(
            "--min-agreement", dest="data_min_agreement", type=float, help="share of experts who agree, 0.5 to 1"
        )
        data.add_argument(
            "--imported-weight", dest="data_imported_weight", type=float, help="of an imported pair, 0.05 to 1"
        )
        settings = parser.add_argument_group("settings")
        for name, value in schedule.DEFAULTS.items():
            if name not in ("selection", "stages"):
                option = f"--{name.replace('_', '-')}"
                said = OBJECTIVES.replace("%", "%%") if name == "objectives" else f"default {value}"
                settings.add_argument(option, type=type(value), choices=CHOICES.get(name), help=said)
        settings.add_argument(
            "--stage", dest="stages", action="append", metavar="CRITERION[:BETA]", help="may be given several times"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        given = _settings(options)
        try:
            if options["dry_run"]:
                return self._try(given, as_json=options["json"])
            with transaction.atomic():
                launched = launch_round(**given)
                transaction.on_commit(partial(run_round.delay, launched.pk))
        except CannotLaunch as error:
            raise CommandError(str(error)) from error
        if options["json"]:
            found = {"round": launched.number, "id": launched.pk, "state": launched.state, **settings_of(launched)}
            self.stdout.write(json.dumps(found, ensure_ascii=False))
        else:
            self.stdout.write(f"Round {launched.number} is queued.")
        return None

    def _try(self, given: dict[str, Any], *, as_json: bool) -> None:
        tried = dry_run(prepare(**given))
        self.stdout.write(json.dumps(tried.as_dict(), ensure_ascii=False) if as_json else _as_text(tried))
        if tried.problems:
            raise CommandError("Not launched (dry run), and this is in its way:\n" + "\n".join(tried.problems))


def _settings(options: dict[str, Any]) -> dict[str, Any]:
    """What `launch_round` takes. Raises CommandError."""
    given: dict[str, Any] = {**schedule.DEFAULTS, "include_simulated": False}
    if options["from_round"]:
        like = Round.objects.filter(number=options["from_round"]).first()
        if like is None:
            raise CommandError(f"There is no round {options['from_round']}.")
        given = settings_of(like)
    names = [name for name in given if name not in ("selection", "stages")]
    given |= {name: options[name] for name in names if options.get(name) is not None}
    data = {name.removeprefix("data_"): value for name, value in options.items() if name.startswith("data_")}
    given["selection"] = {**given["selection"], **{name: value for name, value in data.items() if value is not None}}
    if options["stages"]:
        given["stages"] = [_stage(text, given["beta"]) for text in options["stages"]]
    return given


def _stage(text: str, beta: float) -> dict[str, Any]:
    criterion, _, own = text.partition(":")
    try:
        return {"criterion": criterion, "beta": float(own) if own else beta}
    except ValueError as error:
        raise CommandError(f"--stage {text}: give CRITERION or CRITERION:BETA, as in structure:0.2.") from error


def _as_text(tried: DryRun) -> str:
    launch, summary, estimate = tried.launch, tried.summary, tried.estimate
    selection: Selection = launch.selection
    lines = [
        f"From {launch.policy}: {summary.pairs} pairs of {summary.comparisons} comparisons, {summary.prompts} prompts, "
        f"{summary.experts} experts; {100 * summary.simulated:.0f} % of the votes are simulated"
    ]
    if summary.imported:
        said = ", ".join(f"{name} ({count})" for name, count in summary.imported.items())
        lines.append(f"Imported pairs on top, {100 * summary.imported_share:.0f} % of all: {said}")
    if summary.thin:
        lines.append("Thinly covered: " + ", ".join(f"{one.label} ({one.prompts} prompts)" for one in summary.thin))
    if estimate:
        lines.append(
            f"About {estimate.steps} steps, {lasting(estimate.seconds)}, {size(estimate.memory)} of memory and "
            f"{size(estimate.disk)} of disk"
        )
    lines += [
        f"  {line.label}: {line.value}" for line in described(selection, {**schedule.DEFAULTS, **launch.settings})
    ]
    for one in tried.examples:
        lines += ["", f"PROMPT    {one.prompt.text}", f"CHOSEN    {one.pair.chosen.text}"]
        lines.append(f"REJECTED  {one.pair.rejected.text}")
    return "\n".join([*lines, "", "Nothing was frozen, and no round was made."])
