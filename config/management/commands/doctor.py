import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from config import readiness
from config.doctor import Check, Finding, fault, installation, model_store, servers, software

WITHOUT_DATABASE: list[Check] = [
    software.python,
    software.packages,
    installation.addresses,
    installation.misspelt,
    installation.deployment,
    installation.static,
    installation.folders,
    model_store.tried,
    servers.engine,
    servers.mail,
    servers.database,
]


def examine() -> Iterator[Finding]:
    """All findings. Nothing is asked of a database that does not answer, or of tables that are not there yet."""
    for check in WITHOUT_DATABASE:
        yield from _asked(check)
    found = readiness.examine()
    if found["database"] == readiness.OK:
        yield from _asked(servers.migrations)
        yield from _asked(servers.broker)
    if found["migrations"] == readiness.OK:
        yield from _asked(servers.processes)
        yield from _asked(installation.policies)
        yield from _asked(installation.audit_log)
        yield from _asked(model_store.policies)


def _asked(check: Check) -> Iterator[Finding]:
    try:
        yield from check()
    except Exception as error:  # one broken check must not hide what the others find
        said = f"This check broke: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
        yield fault(check.__name__, said, "Mend what is above first; if it stays, report it.")


class Command(BaseCommand):
    help = (
        "Say what is wrong with this installation, and how to mend it (docs/running.md). Exit status 1 if there is a "
        "fault."
    )
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="a list of {level, of, said, todo}")

    def handle(self, *args: Any, **options: Any) -> None:
        found = list(examine())
        if options["json"]:
            self.stdout.write(json.dumps([asdict(one) for one in found], ensure_ascii=False, indent=1))
        else:
            for one in found:
                self.stdout.write(f"{one.level:8} {one.of}: {one.said}")
                if one.todo:
                    self.stdout.write(f"{'':8} -> {one.todo}")
        faults = sum(one.level == "fault" for one in found)
        if not options["json"]:
            warnings = sum(one.level == "warning" for one in found)
            self.stdout.write(f"{faults} faults, {warnings} warnings.")
        if faults:
            raise SystemExit(1)
