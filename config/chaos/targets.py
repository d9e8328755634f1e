"""Which processes of a house a target means just now, and their end."""

import psutil
import psycopg
from django.conf import settings

from config import postgres
from config.chaos.plan import Target
from config.trials.house import House, family, postmaster, running, trainers

WORKER = "storyloop-worker"  # what PostgreSQL knows the worker's connections by
CUT = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = %s"


def find(house: House, target: Target) -> list[int]:
    """Ids of the processes that `target` means just now; none if it does not run. PostgreSQL's for BROKER."""
    if target is Target.DATABASE or target is Target.BROKER:
        return [pid] if (pid := postmaster()) else []
    if target is Target.TRAINER:
        return trainers()
    if target is Target.WRITER:
        return running("write_stories")
    return family(house.started[target.value].pid)


def kill(house: House, target: Target, pid: int) -> bool:
    """Whether there was something to kill."""
    try:
        if target is Target.BROKER:
            return cut_connections() > 0
        psutil.Process(pid).kill()
    except (psutil.NoSuchProcess, psycopg.OperationalError):
        return False
    if target is Target.DATABASE:
        house.start_database()
    return True


def cut_connections() -> int:
    """End the worker's connections, the queue's among them; how many there were."""
    with psycopg.connect(postgres.url(settings.POSTGRES_DIR), connect_timeout=5) as connection:
        found = connection.execute(CUT, [WORKER]).fetchone()
    return int(found[0]) if found else 0
