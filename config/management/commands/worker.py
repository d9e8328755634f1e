from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connections

from config import supervisor, workers
from generation.queues import QUEUES
from generation.version import VERSION


class Command(BaseCommand):
    help = (
        "Work on the queues that this machine has the hardware for, or on those that you name (docs/workers.md). "
        "Ctrl-C lets the tasks finish; a second one ends them, and they go on elsewhere."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--queues", help=f"of {','.join(QUEUES)}; if left out, STORYLOOP_QUEUES, or by the hardware"
        )
        parser.add_argument("--concurrency", type=int, default=0, help="tasks at once for each queue; rounds: always 1")

    def handle(self, *args: Any, queues: str | None, concurrency: int, **options: Any) -> None:
        told = [name.strip() for name in queues.split(",") if name.strip()] if queues else settings.QUEUES
        if concurrency < 0 or (queues is not None and not told):
            raise CommandError("Say --queues with one name or more, and --concurrency with a number above 0.")
        try:
            workers.check_database()
            claims = workers.claims(told)
        except workers.CannotWork as error:
            raise CommandError(str(error)) from error
        for line in (f"Storyloop {VERSION}", *claims, *workers.unseen_policy()):
            self._say(str(line))
        connections.close_all()
        commands = {
            f"worker of the queue {claim.queue}": supervisor.worker_command(
                claim.queue, workers.concurrency(claim.queue, concurrency)
            )
            for claim in claims
            if claim.claimed
        }
        try:
            supervisor.supervise(commands, self._say)
        except supervisor.EndedAtStart as error:
            raise CommandError(str(error)) from error

    def _say(self, line: str) -> None:
        self.stdout.write(line)
        self.stdout.flush()
