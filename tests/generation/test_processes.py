"""Child processes that must not outlive the one that started them."""

import subprocess
import sys
import time
from pathlib import Path

import psutil

from generation.engines import processes
from tests.environment import ROOT

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


def test_output_goes_to_the_log(tmp_path: Path) -> None:
    log = tmp_path / "log" / "child.log"
    processes.start([sys.executable, "-c", "print('hello')"], log=log, directory=tmp_path).wait()
    assert log.read_text() == "hello\n"


def test_captured_output_is_a_pipe_and_errors_still_go_to_the_log(tmp_path: Path) -> None:
    code = "import sys; print('line'); print('fault', file=sys.stderr)"
    log = tmp_path / "child.log"
    child = processes.start([sys.executable, "-c", code], log=log, directory=tmp_path, capture=True)
    assert child.stdout
    assert child.stdout.read() == "line\n"
    processes.stop(child)
    assert log.read_text() == "fault\n"


def test_stop_ends_the_childs_children_too(tmp_path: Path) -> None:
    code = f"import subprocess; subprocess.run({SLEEP!r})"
    child = processes.start([sys.executable, "-c", code], log=tmp_path / "log", directory=tmp_path)
    while not (grandchildren := psutil.Process(child.pid).children()):
        time.sleep(0.05)
    processes.stop(child, grace=2)
    _, alive = psutil.wait_procs(grandchildren, timeout=5)
    assert alive == []


def test_stop_kills_who_does_not_listen(tmp_path: Path) -> None:
    code = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
    )
    child = processes.start([sys.executable, "-c", code], log=tmp_path / "log", directory=tmp_path, capture=True)
    assert child.stdout
    child.stdout.readline()
    processes.stop(child, grace=0.2)
    assert child.returncode == -9


def test_a_child_dies_with_its_parent(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from generation.engines import processes\n"
        f"child = processes.start({SLEEP!r}, log=Path({str(tmp_path / 'log')!r}), directory=Path('.'))\n"
        "print(child.pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert parent.stdout
    child = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.wait()
    parent.stdout.close()
    _, alive = psutil.wait_procs([child], timeout=5)
    assert [p for p in alive if p.status() != psutil.STATUS_ZOMBIE] == []


def test_last_words_are_the_end_of_the_log(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("one\ntwo\n\nthree\nfour\n")
    assert processes.last_words(tmp_path / "log", lines=2) == "three four"
