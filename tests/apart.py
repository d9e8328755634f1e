"""Code in a process of its own, on this test's database.

Never by os.fork: the suite's processes have threads (torch's, tqdm's), and a fork takes their locks with it.
"""

import os
import subprocess
import sys

from tests.environment import ROOT

READY = "ready"
SETUP = "import django; django.setup()\n"


def apart(code: str, **environment: str) -> "subprocess.Popen[str]":
    """Start Python on `code` with Django set up, and settings of its own in the environment."""
    return subprocess.Popen(
        [sys.executable, "-c", SETUP + code],
        cwd=ROOT,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "config.settings", **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def apart_at_once(code: str, count: int) -> None:
    """Run `code` in `count` processes that begin together once all of them are set up. Each must end well."""
    waiting = f"print({READY!r}, flush=True); input()\n"
    started = [apart(waiting + code) for _ in range(count)]
    try:
        for process in started:
            assert process.stdout
            assert process.stdout.readline().strip() == READY
        for process in started:
            assert process.stdin
            process.stdin.write("\n")
            process.stdin.flush()
        assert [process.wait(60) for process in started] == [0] * count
    finally:
        for process in started:
            process.kill()
            process.communicate()
