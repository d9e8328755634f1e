"""Thin tasks: ids in, one call, state in the database. Delivered twice, they do it once."""

from celery import shared_task

from generation import jobs


@shared_task
def check_engine() -> None:
    jobs.check()


@shared_task
def read_stories(policy_id: int) -> None:
    jobs.read(policy_id)


@shared_task
def sweep_runs() -> None:
    """Put back what a dead worker or a lost message left behind."""
    for run_id in jobs.lonely_runs():
        write_run.delay(run_id)


@shared_task
def write_run(run_id: int) -> None:
    jobs.write(run_id)
