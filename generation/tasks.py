"""Thin tasks: ids in, one call, state in the database. Delivered twice, they do it once."""

from celery import shared_task

from generation import jobs


@shared_task
def check_engine() -> None:
    jobs.check()


@shared_task
def write_run(run_id: int) -> None:
    jobs.write(run_id)
