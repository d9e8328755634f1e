import socket
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from config.models_processes import Process, Role


class Command(BaseCommand):
    help = (
        "Whether this host's worker (with a process for each queue of STORYLOOP_QUEUES) or beat has said in the last "
        "90 seconds that it runs; exit status 1 if not: a container's health check."
    )
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("role", choices=Role.values, help="of which a process of this host must be alive")

    def handle(self, *args: Any, role: str, **options: Any) -> None:
        here = Process.objects.alive().filter(role=role, host=socket.gethostname()[:255])
        queues = {queue for process in here for queue in process.queues}
        if not here:
            raise CommandError(f"No {role} of this host has said lately that it runs.")
        if role == Role.WORKER and (silent := set(settings.QUEUES) - queues):
            raise CommandError(f"Nothing of this host works on {', '.join(sorted(silent))}.")
        self.stdout.write(f"{role} runs")
