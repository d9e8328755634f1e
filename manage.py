#!/usr/bin/env python
"""Storyloop's commands. Without DATABASE_URL the embedded PostgreSQL runs as long as it is used."""

import os
import sys
from contextlib import nullcontext


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    if sys.argv[1:2] == ["demo"]:
        os.environ.setdefault("STORYLOOP_DEMO", "true")
    from django.conf import settings
    from django.core.management import execute_from_command_line

    from config import env, postgres
    from generation.engines.processes import log_what_fits

    log_what_fits()
    try:
        own_server = settings.EMBEDDED_POSTGRES and sys.argv[1:2] not in (["help"], ["--help"], [])
        with postgres.running(settings.POSTGRES_DIR) if own_server else nullcontext():
            execute_from_command_line(sys.argv)
    except (env.BadEnvironment, postgres.PostgresError) as error:
        sys.exit(f"storyloop: {error}")


if __name__ == "__main__":
    main()
