"""PostgreSQL's own programs, of the version that the server wants."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from django.conf import settings
from django.db import connection

from config import postgres

PROGRAMS = ("pg_dump", "pg_restore", "psql")
DEBIAN = Path("/usr/lib/postgresql")
NAMES = {"HOST": "PGHOST", "PORT": "PGPORT", "USER": "PGUSER", "PASSWORD": "PGPASSWORD", "NAME": "PGDATABASE"}
OPTIONS = ("sslmode", "sslrootcert", "sslcert", "sslkey", "passfile", "service", "connect_timeout")


class NoClient(RuntimeError):
    """There are no PostgreSQL programs that fit; the message says which are wanted."""


def server_version() -> int:
    """The server's major version."""
    connection.ensure_connection()
    return int(connection.pg_version) // 10_000  # type: ignore[attr-defined]


def program(name: str, server: int) -> str:
    """The path of pg_dump, pg_restore or psql: of the server's own version, else of the next newer. NoClient.

    An older pg_dump refuses a newer server. A newer pg_restore can write words that an older server does not know.
    """
    versions = {major: folder for folder in _folders() for major in [_major(folder)] if major >= server}
    if not versions:
        found = ", ".join(sorted({str(_major(folder)) for folder in _folders()} - {"0"})) or "none"
        raise NoClient(
            f"The database server is PostgreSQL {server}, and {name} of that version or newer is not here (found: "
            f"{found}). Install it, on Debian or Ubuntu: apt-get install postgresql-client-{server}"
        )
    return str(versions[min(versions)] / name)


def environment() -> dict[str, str]:
    """How the programs reach the database: a password on a command line could be read by everybody here."""
    known = connection.settings_dict
    found = {theirs: str(known[ours]) for ours, theirs in NAMES.items() if known.get(ours)}
    options = known.get("OPTIONS", {})
    found |= {f"PG{name.upper().replace('_', '')}": str(options[name]) for name in OPTIONS if name in options}
    if "PGCONNECTTIMEOUT" in found:
        found["PGCONNECT_TIMEOUT"] = found.pop("PGCONNECTTIMEOUT")
    return {**{k: v for k, v in os.environ.items() if not k.startswith("PG")}, **found}


def _folders() -> Iterator[Path]:
    """Folders with the programs; of two with the same version the later counts."""
    on_path = shutil.which("pg_dump")
    ours = [postgres.binaries()] if settings.EMBEDDED_POSTGRES else postgres.all_binaries()
    for folder in [*([Path(on_path).parent] if on_path else []), *sorted(DEBIAN.glob("*/bin")), *ours]:
        if all((folder / name).exists() for name in PROGRAMS):
            yield folder


@cache
def _major(folder: Path) -> int:
    """0 if it does not say."""
    done = subprocess.run([folder / "pg_dump", "--version"], capture_output=True, text=True, check=False)
    found = re.search(r"\) (\d+)", done.stdout)
    return int(found[1]) if found else 0
