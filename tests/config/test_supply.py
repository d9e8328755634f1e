"""What is installed is what was tested: versions, hashes, and the list of what it is made of."""

import importlib.util
import re
import tomllib
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.environment import ROOT

LOCKS = ("base", "dev", "audit")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
WANTED = {"base": PROJECT["dependencies"], **PROJECT["optional-dependencies"]}


def tool(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


lock = tool("lock")


def locked(name: str) -> dict[str, str]:
    found: dict[str, str] = lock.pins((ROOT / "locks" / f"{name}.txt").read_text())
    return found


def test_the_locks_hold_the_versions_of_the_constraints_and_all_of_them() -> None:
    together = {package: version for name in LOCKS for package, version in locked(name).items()}
    assert together | {"torch": locked("cuda")["torch"]} == lock.pins((ROOT / "constraints.txt").read_text())


def test_what_is_apart_with_torch_is_its_gpus() -> None:
    """A package that constraints.txt forgot would end up there."""
    assert [name for name in locked("cuda") if not name.startswith(("torch", "nvidia-", "cuda-", "triton"))] == []


@pytest.mark.parametrize("name", [*LOCKS, "cuda"])
def test_every_package_has_a_hash(name: str) -> None:
    found = lock.blocks((ROOT / "locks" / f"{name}.txt").read_text().partition("\n")[2])
    assert found
    assert [package for package, lines in found.items() if not re.search(r"--hash=sha256:[0-9a-f]{64}\b", lines)] == []


@pytest.mark.parametrize("name", LOCKS)
def test_what_the_project_asks_for_is_locked_at_a_version_that_it_takes(name: str) -> None:
    there = {package: version for one in (*LOCKS, "cuda") for package, version in locked(one).items()}
    asked = [Requirement(line) for line in WANTED[name]]
    assert [str(one) for one in asked if not one.specifier.contains(there[canonicalize_name(one.name)])] == []


def test_a_file_that_no_lock_names_is_not_installed(monkeypatch) -> None:
    install, asked = tool("install"), []
    monkeypatch.setattr(install, "pip_install", lambda python, *options, packages: asked.append(options) or 0)
    monkeypatch.setattr(install.sys, "argv", ["install.py"])
    monkeypatch.setenv("HASHES", "1")
    monkeypatch.setenv("TORCH", "pypi")
    assert install.main() == 0
    hashed = ("--require-hashes", "--no-deps", "--requirement")
    assert asked == [(*hashed, str(ROOT / "locks" / name)) for name in ("base.txt", "cuda.txt")]


def test_the_bill_names_what_runs_its_licence_and_who_needs_it() -> None:
    bill = tool("sbom").bill()
    names = {one["name"] for one in bill["components"]}
    assert {canonicalize_name(Requirement(line).name) for line in PROJECT["dependencies"]} <= names
    assert {"sqlparse", "pgmq", "fido2", "Chart", "Sortable"} <= names  # what others ask for, extras', scripts
    assert not {"pytest", "ruff"} & names
    assert [one["name"] for one in bill["components"] if not one["licenses"]] == []
    refs = {one["bom-ref"] for one in bill["components"]}
    assert {needed for one in bill["dependencies"] for needed in one["dependsOn"]} == refs
    assert bill == tool("sbom").bill()
