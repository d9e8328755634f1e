import json
import secrets
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from tqdm import tqdm

from annotate.models import Expert
from config import services
from config.bench_judging import figures, fill, load

WARM_SECONDS = 2.0
PER_SECOND = 150  # comparisons that are ready for each second of load
JOBS = 2  # connections that write at a time


class Command(BaseCommand):
    help = "How long experts wait when many judge at once without pause, with few and with many judgements stored."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--experts", type=int, default=8, help="who judge at once")
        parser.add_argument(
            "--judgements", type=int, nargs="+", default=[1_000, 1_000_000], help="stored already, one run each"
        )
        parser.add_argument("--seconds", type=float, default=20, help="of load: by form, and again by htmx")
        parser.add_argument("--seed", type=int, default=0, help="another makes other rows")
        parser.add_argument("--json", type=Path, metavar="PATH", help="write the figures here, too")

    def handle(self, *args: Any, **options: Any) -> None:
        if not settings.EMBEDDED_POSTGRES:
            raise CommandError("This needs a database of its own: unset DATABASE_URL.")
        call_command("migrate", verbosity=0)
        call_command("collectstatic", interactive=False, verbosity=0)
        try:
            fill.check_ours()
            runs = [self._run(size, options) for size in sorted(options["judgements"])]
        except (fill.NotOurs, services.ServiceDied, load.LoadFailed) as error:
            raise CommandError(str(error)) from error
        found = {"runs": runs, **figures.about(seed=options["seed"])}
        self._say(figures.table(runs))
        if options["json"]:
            options["json"].write_text(json.dumps(found, indent=1) + "\n")
        self._check(runs)

    def _run(self, size: int, options: dict[str, Any]) -> dict[str, Any]:
        password = secrets.token_urlsafe(12)
        judges = fill.make_judges(options["experts"], password)
        self._fill(size, judges, options)
        present = figures.stored()
        self._say(f"{present:,} judgements: {len(judges)} experts judge without pause")
        port = services.free_port()
        with services.running({"web": services.web_command(port)}) as started:
            services.wait_for_web(f"http://127.0.0.1:{port}/log-in/", started)
            seed = options["seed"]
            people = [load.Who(port, judge.user.username, password, seed + judge.pk) for judge in judges]
            with load.logged_in(people) as processes:
                load.run(processes, mode="look", seconds=WARM_SECONDS)
                web = started["web"].pid
                form, htmx = (
                    load.measure(processes, web=web, mode=mode, seconds=options["seconds"]) for mode in ("form", "htmx")
                )
        start = {"experts": len(judges), "judgements_in_database": present}
        return {**start, **form, "htmx": htmx, "over_booked": figures.over_booked()}

    def _fill(self, size: int, judges: list[Expert], options: dict[str, Any]) -> None:
        queue = max(int(2 * PER_SECOND * options["seconds"]), 100)
        total = fill.wanted_comparisons(judgements=size, queue=queue)
        with tqdm(total=total, desc=f"{size:,} judgements", unit=" comparisons") as bar:
            fill.fill(judgements=size, queue=queue, judges=judges, seed=options["seed"], jobs=JOBS, tick=bar.update)
        fill.settle()

    def _check(self, runs: list[dict[str, Any]]) -> None:
        for run in runs:
            for mode in (run, run["htmx"]):
                if mode["errors"] or mode["acknowledged"] != mode["stored"] or not mode["stored"]:
                    said = "; ".join(mode["first_errors"])
                    raise CommandError(
                        f"{mode['acknowledged']} acknowledged, {mode['stored']} stored, {mode['errors']} errors. {said}"
                    )
            if run["over_booked"]:
                raise CommandError(f"{run['over_booked']} comparisons have more judgements than places.")

    def _say(self, text: str) -> None:
        self.stdout.write(text)
        self.stdout.flush()
