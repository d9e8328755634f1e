"""Starting and stopping `manage.py demo`. Last of all: it stops the demo that the other tests use."""

import subprocess
import sys
import time

import psutil
import pytest

from tests.browser.conftest import Demo, start_demo
from tests.environment import ROOT

pytestmark = pytest.mark.slow


def descendants(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True)


def words(process: psutil.Process) -> list[str]:
    """Of its command line; none if it has just ended, as PostgreSQL's helpers do."""
    try:
        return [process.name(), *" ".join(process.cmdline()).split()]
    except psutil.Error:
        return []


def test_a_port_in_use_is_one_clear_line(demo: Demo) -> None:
    command = [sys.executable, "manage.py", "demo", "--port", str(demo.port)]
    environment = {"PATH": "/usr/bin:/bin", "STORYLOOP_VAR": str(demo.var)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert f"Port {demo.port} is in use" in done.stderr
    assert "make demo PORT=" in done.stderr
    assert "Traceback" not in done.stderr


def test_ctrl_c_stops_every_process_and_a_second_start_has_all_data(demo: Demo) -> None:
    counts = "SELECT (SELECT count(*) FROM generation_story), (SELECT count(*) FROM annotate_judgement)"
    before, started = demo.query(counts), descendants(demo.process.pid)
    assert {"granian", "celery", "postgres"} <= {word for p in started for word in words(p)}
    demo.stop()
    _, alive = psutil.wait_procs(started, timeout=10)
    assert alive == []
    again = start_demo(demo.var, demo.port)
    try:
        assert again.query(counts) == before
    finally:
        again.stop()


def test_a_launcher_that_is_killed_takes_its_processes_with_it(demo: Demo) -> None:
    again = start_demo(demo.var, demo.port)
    serving = [p for p in descendants(again.process.pid) if "postgres" not in words(p)]
    again.process.kill()
    deadline = time.monotonic() + 30
    while any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in serving):
        assert time.monotonic() < deadline, serving
        time.sleep(0.5)
    start_demo(demo.var, demo.port).stop()  # finds the server that was left running, and stops it
