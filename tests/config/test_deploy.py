"""What lies in deploy/: units that systemd takes, and settings that there are."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.environment import ROOT

UNITS = sorted((ROOT / "deploy" / "systemd").iterdir())
EXAMPLE = (ROOT / "deploy" / "storyloop.env.example").read_text()
TABLE = (ROOT / "docs" / "settings.md").read_text()
PYTHON = "/opt/storyloop/.venv/bin/python"


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="there is no systemd here")
def test_systemd_takes_the_units(tmp_path: Path) -> None:
    for unit in UNITS:  # it asks whether the programs are there
        (tmp_path / unit.name).write_text(unit.read_text().replace(PYTHON, sys.executable))
    command = ["systemd-analyze", "verify", "--man=no", *(str(tmp_path / unit.name) for unit in UNITS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("unit", [unit for unit in UNITS if unit.suffix == ".service"], ids=lambda unit: unit.name)
def test_a_service_is_no_root_and_writes_in_its_folders_alone(unit: Path) -> None:
    said = unit.read_text().splitlines()
    for line in (
        "User=storyloop",
        "NoNewPrivileges=yes",
        "ProtectSystem=strict",
        "CapabilityBoundingSet=",
        "UMask=0077",
    ):
        assert line in said
    assert not [line for line in said if line.startswith("Environment=")]  # secrets do not stand in a unit


def test_the_example_names_settings_that_there_are_and_no_secret() -> None:
    named = re.findall(r"^#?([A-Z][A-Z_]+)=(.*)$", EXAMPLE, re.MULTILINE)
    assert len(named) > 8
    for name, value in named:
        plain = name.removesuffix("_FILE")
        assert f"`{plain}`" in TABLE or plain == "HF_HUB_OFFLINE", name
        assert plain == name or value.startswith("/")
    assert not {"STORYLOOP_SECRET_KEY", "DATABASE_URL"} & {name for name, _value in named}
