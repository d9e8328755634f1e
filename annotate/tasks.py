"""Thin tasks: ids in, one call, state in the database. Delivered twice, they do it once."""

from celery import shared_task

from annotate import exports


@shared_task
def make_export_file(export_id: int) -> None:
    exports.write_export(export_id)


@shared_task
def sweep_exports() -> None:
    """Put back what a dead worker or a lost message left behind."""
    for export_id in exports.lonely_exports():
        make_export_file.delay(export_id)
