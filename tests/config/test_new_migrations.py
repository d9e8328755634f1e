"""What changes after a release can be migrated while that release's code goes on (docs/running.md, A new version).

A column that the old code does not know must not be needed, and one that it uses must not go: that takes two releases.
"""

import gzip
import re
from pathlib import Path

import pytest
from django.db.migrations.loader import MigrationLoader
from django_migration_linter import MigrationLinter

RELEASES = Path(__file__).with_name("releases")
OURS = ("config", "annotate", "generation", "training")
pytestmark = pytest.mark.django_db


def released() -> set[tuple[str, str]]:
    """(app, name) of each migration of the newest release."""
    newest = max(RELEASES.glob("[0-9]*.sql.gz"), key=lambda path: [int(part) for part in re.findall(r"\d+", path.name)])
    dump = gzip.decompress(newest.read_bytes()).decode()
    rows = dump.split("INSERT INTO public.django_migrations VALUES")[1].split(";\n")[0]
    return set(re.findall(r"\(\d+, '(\w+)', '(\w+)'", rows))


def breaks_the_old_code(app: str, name: str) -> bool:
    linter = MigrationLinter(no_cache=True, no_output=True)
    linter.lint_migration(linter.migration_loader.disk_migrations[app, name])
    return bool(linter.has_errors)


def test_a_released_migration_is_not_taken_away() -> None:
    assert {key for key in released() if key[0] in OURS} <= set(MigrationLoader(None).disk_migrations)


def test_the_old_code_works_with_what_has_been_migrated_since() -> None:
    new = [key for key in MigrationLoader(None).disk_migrations if key[0] in OURS and key not in released()]
    assert [key for key in new if breaks_the_old_code(*key)] == []


def test_a_migration_that_the_old_code_does_not_bear_is_seen() -> None:
    assert breaks_the_old_code("annotate", "0002_judging")
