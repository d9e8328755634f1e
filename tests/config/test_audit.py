"""make audit: what it finds, and that it does not take silence for an all-clear."""

import importlib.util
from pathlib import Path

import pytest

from tests.environment import ROOT

spec = importlib.util.spec_from_file_location("audit", ROOT / "tools" / "audit.py")
assert spec
assert spec.loader
audit = importlib.util.module_from_spec(spec)
spec.loader.exec_module(audit)
PLANTED = [
    "AWS = '" + "AKIA" + "ABCDEFGHIJKLMNOP'",
    "-----BEGIN RSA " + "PRIVATE KEY-----",
    "url = 'postgres://me:" + "hunter22" + "@db/x'",
    "STORYLOOP_TOKEN = " + "'q8Zr3nVx0pLw7TtYb2Kd'",
    "token: slt_" + "a1B2" * 11,
]


def found(tmp_path: Path, text: str, name: str = "a.py") -> list[str]:
    (tmp_path / name).write_text(text)
    return list(audit.secrets([name], tmp_path))


@pytest.mark.parametrize("line", PLANTED, ids=range(len(PLANTED)))
def test_a_secret_is_found_and_not_repeated(tmp_path: Path, line: str) -> None:
    (said,) = found(tmp_path, f"\n{line}\n")
    assert said.startswith("a.py:2: ")
    assert "hunter22" not in said
    assert found(tmp_path, f"{line}  # audit: no secret\n") == []


def test_a_file_whose_name_says_so_is_found(tmp_path: Path) -> None:
    assert found(tmp_path, "", ".env.production") == [".env.production: a file of this name holds secrets"]


@pytest.mark.parametrize("line", ["postgres://user:password@host/name", 'TOKEN = "a-token-of-twenty-characters"'])
def test_an_example_is_no_secret(tmp_path: Path, line: str) -> None:
    assert found(tmp_path, line) == []


def test_the_repository_holds_no_secret() -> None:
    assert list(audit.secrets(audit.tracked(), ROOT)) == []


def test_a_package_without_data_is_unknown_and_not_well() -> None:
    report = {
        "dependencies": [
            {"name": "django", "version": "5.2.1", "vulns": [{"id": "CVE-1", "fix_versions": ["5.2.19"]}]},
            {"name": "celery", "skip_reason": "not found"},
            {"name": "numpy", "version": "2.4.6", "vulns": []},
        ]
    }
    vulnerable, unknown = audit.of_report(report, "pins")
    assert vulnerable == ["pins: django 5.2.1: CVE-1, mended in 5.2.19"]
    assert unknown == ["pins: 1 of 3 packages, as no vulnerability data was reached: celery"]


@pytest.mark.parametrize(("strict", "status"), [("", 0), ("1", 1)])
def test_what_is_unknown_fails_only_when_asked_to(monkeypatch, capsys, strict: str, status: int) -> None:
    monkeypatch.setenv("AUDIT_STRICT", strict)
    monkeypatch.setattr(audit, "packages", lambda pins: ([], [f"{pins.name}: no data"]))
    assert audit.main() == status
    assert "0 findings. 2 things could not be audited" in capsys.readouterr().out


def test_a_finding_fails(monkeypatch) -> None:
    monkeypatch.setattr(audit, "packages", lambda pins: ([], []))
    monkeypatch.setattr(audit, "rules", lambda: ["x.py:1:1: S602 shell"])
    assert audit.main() == 1
