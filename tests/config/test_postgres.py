"""The embedded PostgreSQL, started for real."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from config import postgres
from tests.environment import ROOT


def answers(directory: Path) -> bool:
    try:
        psycopg.connect(postgres.url(directory), connect_timeout=5).close()
    except psycopg.OperationalError:
        return False
    return True


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pg") / "postgres"


def test_it_runs_while_it_is_used_and_stops_after(directory: Path) -> None:
    with postgres.running(directory):
        assert answers(directory)
    assert not answers(directory)


def test_data_is_there_at_the_next_start(directory: Path) -> None:
    with postgres.running(directory), psycopg.connect(postgres.url(directory)) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS number")
    with postgres.running(directory), psycopg.connect(postgres.url(directory)) as connection:
        assert connection.execute("SELECT number FROM kept").fetchone() == (7,)


def test_the_last_one_out_stops_it(directory: Path) -> None:
    with postgres.running(directory):
        with postgres.running(directory):
            pass
        assert answers(directory)
    assert not answers(directory)


def test_a_user_that_was_killed_does_not_keep_it_running(directory: Path) -> None:
    code = (
        "import time; from pathlib import Path; from config import postgres\n"
        f"with postgres.running(Path({str(directory)!r})): print('up', flush=True); time.sleep(60)"
    )
    with postgres.running(directory):
        other = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE)
        assert other.stdout
        assert other.stdout.readline() == b"up\n"
        other.kill()
        other.wait()
        other.stdout.close()
    assert not answers(directory)


def test_it_comes_back_after_its_own_kill(directory: Path) -> None:
    with postgres.running(directory):
        pid = int((directory / "data" / "postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)  # this process started it: it counts as running until somebody has asked how it ended
        with postgres.running(directory):
            assert answers(directory)


def test_a_wrong_password_is_refused(directory: Path) -> None:
    with postgres.running(directory):
        wrong = postgres.url(directory).replace((directory / "password").read_text().strip(), "guess")
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(wrong)


def test_it_listens_on_no_port(directory: Path) -> None:
    with postgres.running(directory), psycopg.connect(postgres.url(directory)) as connection:
        assert connection.execute("SHOW listen_addresses").fetchone() == ("",)


def test_it_opens_no_folder_above_its_own(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    with postgres.running(closed / "postgres"):
        assert answers(closed / "postgres")
        assert closed.stat().st_mode & 0o777 == 0o700


def test_a_long_path_gets_its_socket_elsewhere(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 90) / "postgres"
    with postgres.running(deep):
        assert answers(deep)


def test_a_folder_that_cannot_be_written_is_a_clear_error() -> None:
    with pytest.raises(postgres.PostgresError, match="STORYLOOP_VAR"), postgres.running(Path("/proc/none/postgres")):
        pass


def test_broken_data_says_where_the_log_is(tmp_path: Path) -> None:
    (tmp_path / "postgres" / "data").mkdir(parents=True)
    with (
        pytest.raises(postgres.PostgresError, match="did not start.*server.log"),
        postgres.running(tmp_path / "postgres"),
    ):
        pass
