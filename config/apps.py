from typing import Any

from django.apps import AppConfig, apps
from django.conf import settings
from django.db.models.signals import post_migrate

from config import alive
from generation.signals import stories_written


class StoryloopConfig(AppConfig):
    name = "config"

    def ready(self) -> None:
        # post_migrate is sent for apps with models only: once, after the first of ours
        post_migrate.connect(install_queue, sender=apps.get_app_config("generation"))
        stories_written.connect(open_comparisons)
        alive.connect()
        from config.audit import context, entries

        context.connect()
        entries.connect()


def install_queue(**_: object) -> None:
    """Make the default queue's tables: pgmq as plain SQL, since no extension has to be installed."""
    if not settings.CELERY_BROKER_URL.startswith("pgmq"):
        return
    import psycopg
    from pgmq.install import install_pgmq_from_sql

    with psycopg.connect(str(settings.CELERY_BROKER_TRANSPORT_OPTIONS["conn_string"])) as connection:
        row = connection.execute("SELECT to_regnamespace('pgmq')::text").fetchone()
        if row and row[0] is None:
            install_pgmq_from_sql(conn=connection)


def open_comparisons(*, run: Any, **_: object) -> None:
    """Put what the policy in use has written before experts. The writing app does not know that there are any."""
    from annotate.comparisons import open_preference_comparisons

    run.policy.refresh_from_db()
    if run.policy.is_current:
        open_preference_comparisons(policy=run.policy)
