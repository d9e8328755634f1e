"""The wheel: what is in it, and that it runs where there is no checkout."""

import json
import os
import site
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from tests.environment import ROOT

PACKED = ("annotate", "config", "deploy", "generation", "locale", "static", "storyloop", "templates", "training")
BY_HTTP = """
import json, re, urllib.request
from config import services
port = services.free_port()
site = f"http://127.0.0.1:{port}"
def get(path):
    asked = urllib.request.Request(site + path, headers={"Accept-Language": "zh-hans"})
    with urllib.request.urlopen(asked, timeout=60) as answer:
        return answer.headers["Cache-Control"], answer.read().decode()
with services.running({"web": services.web_command(port)}) as started:
    services.wait_for_web(site + "/readyz", started)
    page = get("/log-in/")[1]
    style = re.search(r'href="(/static/site[.][^"]+[.]css)"', page)[1]
    print(json.dumps([page, *get(style)]))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    (found,) = folder.glob("*.whl")
    return found


def test_all_that_git_knows_of_the_packages_is_in_it_and_nothing_else(wheel: Path) -> None:
    listed = subprocess.run(["git", "ls-files", *PACKED], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    wanted = {
        name if name.startswith("storyloop/") else f"storyloop/{name}"
        for name in [*listed.splitlines(), "manage.py", "constraints.txt"]
        if (ROOT / name).exists()
    }
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert wanted - packed == set()
    assert {name for name in packed - wanted if not _is_new(name)} == set()


def _is_new(name: str) -> bool:
    """Whether git would take it: somebody is just writing it."""
    path = name if name.startswith("storyloop/__") else name.removeprefix("storyloop/")
    done = subprocess.run(
        ["git", "ls-files", "--others", "--exclude-standard", path], cwd=ROOT, capture_output=True, check=False
    )
    return bool(done.stdout)


def test_it_names_the_version_of_the_code_its_needs_and_its_licence(wheel: Path) -> None:
    from generation.version import VERSION

    said = zipfile.ZipFile(wheel).read(f"storyloop-{VERSION}.dist-info/METADATA").decode()
    assert f"\nVersion: {VERSION}\n" in said
    assert "\nLicense-Expression: Apache-2.0\n" in said
    assert "\nRequires-Dist: torch==2.13.0\n" in said


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `storyloop` of an environment of its own, which sees this one's packages."""
    home = tmp_path_factory.mktemp("environment")
    venv.create(home)
    pip = [sys.executable, "-m", "pip", "--python", str(home / "bin" / "python")]
    subprocess.run([*pip, "install", "--quiet", "--no-deps", "--no-index", str(wheel)], check=True)
    (packages,) = home.glob("lib/python3*/site-packages")
    (packages / "dependencies.pth").write_text("\n".join(site.getsitepackages()))
    assert not (packages / "config").exists()  # names like these are everybody's
    return home / "bin" / "storyloop"


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A directory with a module in it that Storyloop must not take for its own."""
    (tmp_path / "config.py").write_text("raise RuntimeError('the wrong config')")
    return tmp_path


def run(program: Path, folder: Path, *arguments: str, **environment: str) -> str:
    ours = ("STORYLOOP_", "DJANGO_", "DATABASE_", "PYTHON")
    values = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    command = [str(program), *arguments]
    done = subprocess.run(
        command, cwd=folder, env={**values, **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_who_asks_for_help_gets_it_and_nothing_is_left_behind(installed: Path, elsewhere: Path) -> None:
    assert "launch_round" in run(installed, elsewhere, "help")
    assert run(installed, elsewhere, "--version") == "Storyloop 0.1.0\n"
    assert "--beta" in run(installed, elsewhere, "-m", "training.dpo", "--help")
    assert [path.name for path in elsewhere.iterdir()] == ["config.py"]


@pytest.mark.slow
def test_it_serves_its_pages_from_an_empty_directory(installed: Path, elsewhere: Path) -> None:
    assert f"all is kept in {elsewhere / 'var'}" in run(installed, elsewhere, "migrate", "--verbosity", "0")
    run(installed, elsewhere, "collectstatic", "--noinput", "--verbosity", "0", STORYLOOP_VAR="var")
    page, kept_for, style = json.loads(run(installed, elsewhere, "shell", "--verbosity", "0", "--command", BY_HTTP))
    assert "登录" in page
    assert "immutable" in kept_for
    assert ":root" in style
    assert {path.name for path in (elsewhere / "var").iterdir()} == {"log", "postgres", "secret_key", "static"}
    assert not list(installed.parent.parent.glob("lib/python3*/site-packages/storyloop/var"))


@pytest.mark.slow
def test_processes_that_run_elsewhere_keep_their_files_in_the_same_folder(installed: Path, elsewhere: Path) -> None:
    code = (
        "import subprocess, sys; from django.conf import settings\n"
        "command = [sys.executable, 'manage.py', 'shell', '-v0', '-c', "
        "'from django.conf import settings as s; print(s.VAR_DIR, s.MODEL_DIR, s.BASE_MODEL)']\n"
        "print(subprocess.run(command, cwd=settings.BASE_DIR, capture_output=True, text=True, check=True).stdout)"
    )
    nobody = {"DATABASE_URL": "postgres://nobody@127.0.0.1:1/none"}
    said = run(installed, elsewhere, "shell", "-v0", "-c", code, STORYLOOP_VAR="a", STORYLOOP_BASE_MODEL="b", **nobody)
    assert said.split() == [str(elsewhere / name) for name in ("a", "a/models", "b")]
