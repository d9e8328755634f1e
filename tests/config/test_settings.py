"""Settings are driven by the environment and raise on nonsense; each case in a process of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.environment import ROOT


def load(tmp_path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    values = {"PATH": "/usr/bin:/bin", "STORYLOOP_VAR": str(tmp_path), **environment}
    return subprocess.run(
        [sys.executable, "manage.py", "diffsettings"], cwd=ROOT, env=values, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("name", "value", "advice"),
    [
        ("STORYLOOP_DEBUG", "perhaps", "say true or false"),
        ("STORYLOOP_STORIES_PER_PROMPT", "9", "may be 3, 4 or 5"),
        ("STORYLOOP_STORIES_PER_PROMPT", "2", "3 or more"),
        ("STORYLOOP_SECRET_KEY", "short", "50 characters"),
        ("DATABASE_URL", "sqlite:///x.db", "PostgreSQL only"),
    ],
)
def test_nonsense_is_one_clear_line(tmp_path: Path, name: str, value: str, advice: str) -> None:
    done = load(tmp_path, **{name: value})
    assert done.returncode != 0
    assert name in done.stderr
    assert advice in done.stderr
    assert "Traceback" not in done.stderr


def test_the_secret_key_is_made_once_and_kept_from_others(tmp_path: Path) -> None:
    url = {"DATABASE_URL": "postgres://nobody@127.0.0.1:1/none"}
    load(tmp_path, **url)
    kept = (tmp_path / "secret_key").read_text()
    load(tmp_path, **url)
    assert (tmp_path / "secret_key").read_text() == kept
    assert (tmp_path / "secret_key").stat().st_mode & 0o077 == 0


def test_a_var_folder_that_cannot_be_written_says_what_to_do() -> None:
    done = load(Path("/proc/storyloop"))
    assert done.returncode != 0
    assert "STORYLOOP_VAR" in done.stderr
    assert "Traceback" not in done.stderr
