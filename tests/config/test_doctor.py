"""What is wrong with an installation is found, and what to do about it is said."""

import json
import struct
import subprocess
import sys
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import call_command
from django.db import connection

from config.alive import say_alive
from config.doctor import Finding, installation, servers, software
from config.metrics import queue_names
from config.models import Process
from generation.engines.whole import INDEX
from generation.models import Policy
from tests.environment import ROOT
from tests.factories import make_policy
from tests.training.test_models import make_round
from training.models import Round


def told(check: Callable) -> dict[str, list[str]]:
    """{level: what was said}."""
    found: dict[str, list[str]] = {"ok": [], "warning": [], "fault": []}
    for one in check():
        assert isinstance(one, Finding)
        assert "\n" not in one.said + one.todo
        assert bool(one.todo) is (one.level != "ok")
        found[one.level].append(one.said)
    return found


def only(found: dict[str, list[str]], level: str) -> str:
    (said,) = found[level]
    return said


def test_the_packages_here_are_those_that_were_tested() -> None:
    assert told(software.python)["fault"] == []
    assert told(software.packages)["fault"] == []


def test_packages_at_other_versions_are_named(monkeypatch) -> None:
    versions = {"torch": None, "django": "4.2.1", "celery": "5.7.99"}
    real = software._installed
    monkeypatch.setattr(software, "_installed", lambda name: versions.get(name, real(name)))
    found = told(software.packages)
    assert only(found, "fault").startswith("django is 4.2.1, and ")
    assert "torch is not installed" in found["warning"][0]
    assert "celery 5.7.99 (tested: 5.7.0)" in found["warning"][1]


@pytest.mark.django_db
def test_a_database_that_may_lose_judgements_is_a_fault() -> None:
    found = told(servers.database)  # the suite's own has fsync off
    assert "PostgreSQL 18" in only(found, "ok")
    said = only(found, "fault")
    assert all(name in said for name in ("fsync", "full_page_writes", "synchronous_commit"))


@pytest.mark.django_db
def test_newer_code_was_here(monkeypatch) -> None:
    assert only(told(servers.migrations), "ok") == "all applied"
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO django_migrations (app, name, applied) VALUES ('training', '9999_later', now())")
    assert "it has training.9999_later" in only(told(servers.migrations), "fault")


@pytest.mark.django_db
def test_without_worker_and_beat_nothing_goes_on() -> None:
    found = told(servers.processes)
    assert len(found["fault"]) == 1 + len(queue_names())
    say_alive("beat", [])
    Process.objects.create(role="worker", host="gpu-1", pid=1, version="0.0.1", queues=queue_names())
    found = told(servers.processes)
    assert found["fault"] == []
    assert "0.0.1 on gpu-1" in only(found, "warning")
    Process.objects.create(role="beat", host="gpu-1", pid=2, version="0.0.1")
    assert told(servers.processes)["warning"][0].startswith("2 run:")
    make_round()
    Round.objects.update(state_since="2026-01-01T00:00:00Z")
    assert only(told(servers.processes), "fault").startswith("Nobody has worked on round 1 for")


def test_settings_that_are_not_for_others_are_faults(settings) -> None:
    settings.ALLOWED_HOSTS = ["127.0.0.1", "localhost"]
    assert told(installation.addresses)["fault"] == []
    settings.ALLOWED_HOSTS, settings.DEBUG, settings.DEMO = ["stories.example.org", "*"], True, True
    settings.HTTPS = False
    assert len(told(installation.addresses)["fault"]) == 4
    settings.ALLOWED_HOSTS, settings.DEBUG, settings.DEMO = ["stories.example.org"], False, False
    settings.HTTPS, settings.SITE_URL = True, "https://stories.example.org"
    found = told(installation.addresses)
    assert found["fault"] == found["warning"] == []


def test_a_variable_that_is_misspelt_is_told_without_its_value(monkeypatch) -> None:
    monkeypatch.setenv("STORYLOOP_EMAIL_URI", "smtp://me:canary@localhost")
    found = only(told(installation.misspelt), "warning")
    assert "STORYLOOP_EMAIL_URI is set, and nothing reads it" in found
    assert "canary" not in found


def test_folders_that_cannot_be_written_and_secrets_that_others_read(settings, tmp_path: Path) -> None:
    settings.VAR_DIR, settings.MODEL_DIR, settings.EXPORT_DIR = tmp_path, Path("/proc/models"), tmp_path / "exports"
    (tmp_path / "secret_key").write_text("x")
    (tmp_path / "secret_key").chmod(0o644)
    found = told(installation.folders)["fault"]
    assert found[0].startswith("/proc/models cannot be written to")
    assert found[1] == f"Others on this machine can read {tmp_path / 'secret_key'}."
    assert sorted(path.name for path in tmp_path.iterdir()) == ["exports", "secret_key"]


def weights(directory: Path, *, cut: int = 0) -> Path:
    """A model directory whose weights are two floats, less the last `cut` bytes."""
    directory.mkdir(exist_ok=True)
    (directory / "config.json").write_text("{}")
    (directory / "tokenizer.json").write_text("{}")
    header = json.dumps({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    data = struct.pack("<Q", len(header)) + header + bytes(8)
    (directory / "model.safetensors").write_bytes(data[: len(data) - cut])
    return directory


@pytest.mark.django_db
def test_the_policy_in_use_must_be_there_and_whole(tmp_path: Path) -> None:
    assert "None is in use" in only(told(installation.policies), "warning")
    make_policy("old")
    Policy.objects.create(name="base", path=str(weights(tmp_path / "w")), weights_hash="0" * 64, is_current=True)
    found = told(installation.policies)
    assert only(found, "ok").startswith("base, 0 MB")
    assert only(found, "warning") == "The files of old are not where they were."
    weights(tmp_path / "w", cut=3)
    assert "model.safetensors is not whole" in only(told(installation.policies), "fault")
    (tmp_path / "w" / "model.safetensors").write_bytes(b"pickle")
    assert "is no safetensors file" in only(told(installation.policies), "fault")
    weights(tmp_path / "w")
    (tmp_path / "w" / INDEX).write_text(json.dumps({"weight_map": {"w": "model-2.safetensors"}}))
    assert "model-2.safetensors is missing" in only(told(installation.policies), "fault")


def test_servers_that_do_not_answer_are_named_without_their_secrets(settings) -> None:
    settings.ENGINE, settings.VLLM_URLS, settings.VLLM_API_KEY = "vllm-server", ["http://127.0.0.1:1"], "canary"
    said = only(told(servers.engine), "fault")
    assert said == "No vLLM server answers: http://127.0.0.1:1 does not answer."
    settings.MAIL_SERVER, settings.EMAIL_HOST, settings.EMAIL_PORT = True, "127.0.0.1", 1
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST_USER, settings.EMAIL_HOST_PASSWORD = "me", "canary"
    assert only(told(servers.mail), "fault") == "The mail server cannot be used, 127.0.0.1:1: ConnectionRefusedError."


@pytest.mark.django_db
def test_the_command_lists_what_to_do_and_ends_with_1() -> None:
    out = StringIO()
    with pytest.raises(SystemExit) as ended:
        call_command("doctor", stdout=out)
    assert ended.value.code == 1
    assert "fault    beat: None runs" in out.getvalue()
    assert "         -> Start one" in out.getvalue()
    out = StringIO()
    with pytest.raises(SystemExit):
        call_command("doctor", json=True, stdout=out)
    assert {"level", "of", "said", "todo"} == set(json.loads(out.getvalue())[0])


def test_a_database_that_is_gone_is_one_finding(tmp_path: Path) -> None:
    values = {
        "PATH": "/usr/bin:/bin",
        "STORYLOOP_VAR": str(tmp_path),
        "DATABASE_URL": "postgres://x:canary@127.0.0.1:1/x",
    }
    command = [sys.executable, "manage.py", "doctor", "--json"]
    done = subprocess.run(command, cwd=ROOT, env=values, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    (fault,) = [one for one in json.loads(done.stdout) if one["of"] == "database"]
    assert fault["said"].startswith("It does not answer")
    assert "canary" not in done.stdout
    assert "This check broke" not in done.stdout
