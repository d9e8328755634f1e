from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import connections

from config import services, supervisor, workers


class Command(BaseCommand):
    help = "Tell the queue `default`, again and again, what has to be looked at. One is enough; two do no harm."

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            workers.check_database()
            connections.close_all()
            supervisor.supervise({"beat": services.beat_command()}, self.stdout.write)
        except (workers.CannotWork, supervisor.EndedAtStart) as error:
            raise CommandError(str(error)) from error
