"""Whether this process could serve a page now: database, migrations, broker, static files. No secrets in the answer."""

import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

from celery import current_app
from django.conf import settings
from django.contrib.staticfiles.storage import ManifestFilesMixin, staticfiles_storage
from django.db import Error, connection
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder

OK = "ok"
OURS = ("config", "training", "annotate", "generation")
BROKER_SECONDS = 2.0
KEPT_SECONDS = 2.0  # anybody may ask, and each answer opens a connection to the broker
_last: tuple[float, dict[str, str]] | None = None


def readiness() -> dict[str, str]:
    """{what: "ok", or in a few words what is wrong}. A few seconds old at most."""
    global _last  # noqa: PLW0603  one answer for all who ask at once
    if _last is None or time.monotonic() - _last[0] > KEPT_SECONDS:
        _last = time.monotonic(), examine()
    return _last[1]


def examine() -> dict[str, str]:
    """The same, asked anew."""
    database = _asked(_database, Error)
    return {
        "database": database,
        "migrations": _asked(_migrations, Error) if database == OK else "not known",
        "broker": broker(),
        "static": static(),
    }


def _asked(check: Callable[[], str], *faults: type[Exception]) -> str:
    try:
        return check()
    except faults:
        return "not reachable"


def _database() -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return OK


def _migrations() -> str:
    return f"{len(missing)} to be applied" if (missing := unapplied()) else OK


def unapplied() -> list[str]:
    """Migrations that this code has and the database lacks. Newer code may have been there already: that is well."""
    with connection.cursor() as cursor:
        if "django_migrations" not in connection.introspection.table_names(cursor):
            return sorted(".".join(key) for key in _known())
        cursor.execute("SELECT app, name FROM django_migrations")
        applied = {(app, name) for app, name in cursor.fetchall()}
    return sorted(".".join(key) for key in _known() - applied)


def newer() -> list[str]:
    """Our migrations that the database has and this code does not know: newer code has been there."""
    applied = MigrationRecorder(connection).applied_migrations()
    return sorted(".".join(key) for key in applied if key[0] in OURS and key not in _known())


@cache
def _known() -> frozenset[tuple[str, str]]:
    return frozenset(MigrationLoader(None).disk_migrations)


def broker() -> str:
    """Whether the queue's server answers."""
    url = current_app.conf.broker_read_url or current_app.conf.broker_url
    if str(url).startswith("pgmq"):
        return _asked(_queue_tables, Error)
    try:
        with current_app.connection_for_read(connect_timeout=BROKER_SECONDS) as asked:
            asked.ensure_connection(max_retries=1, interval_start=0, interval_step=0, timeout=BROKER_SECONDS)
            asked.default_channel  # noqa: B018  some connect only now
    except ImportError:
        return "its client is not installed"
    except Exception:  # each transport has errors of its own
        return "not reachable"
    return OK


def _queue_tables() -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT to_regnamespace('pgmq') IS NOT NULL")
        return OK if cursor.fetchone()[0] else "its tables are missing"


def static() -> str:
    """Whether `manage.py collectstatic` has been run: without its list every page is an error."""
    if isinstance(staticfiles_storage, ManifestFilesMixin):
        manifest = Path(settings.STATIC_ROOT) / staticfiles_storage.manifest_name
        return OK if manifest.exists() else "not collected"
    return OK
