"""What a worker of a machine claims, and when it is refused: with what to do."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from config import services, supervisor, workers
from generation.queues import DEFAULT, GENERATION, QUEUES, TRAINING
from tests.config.test_settings import load
from tests.environment import ROOT
from tests.factories import make_policy


@pytest.fixture(autouse=True)
def _machine(settings, tmp_path: Path, monkeypatch) -> None:
    """Without a GPU, whatever the one that the tests run on has."""
    settings.MODEL_DIR, settings.EXPORT_DIR = tmp_path / "models", tmp_path / "exports"
    settings.ENGINE, settings.QUEUES = "transformers", []
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


@pytest.fixture
def gpu(monkeypatch, tmp_path: Path) -> None:
    """A driver that names one."""
    program = tmp_path / "bin" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho 'GPU 0: NVIDIA H200 (UUID: GPU-1)'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")


def claimed(*told: str) -> list[str]:
    return [claim.queue for claim in workers.claims(told) if claim.claimed]


class TestClaims:
    def test_without_a_gpu_it_writes_but_does_not_train(self) -> None:
        assert claimed() == [DEFAULT, GENERATION]
        assert "to train on the CPU: say --queues" in str(workers.claims()[2])

    def test_with_a_gpu_it_does_all(self, gpu: None) -> None:
        assert claimed() == list(QUEUES)

    def test_without_torch_it_does_neither(self, gpu: None, monkeypatch) -> None:
        monkeypatch.setattr(workers.importlib.util, "find_spec", lambda name: None)
        assert claimed() == [DEFAULT]
        assert "torch is not installed here" in str(workers.claims()[1])

    def test_servers_of_vllm_need_no_hardware_here(self, settings, monkeypatch) -> None:
        monkeypatch.setattr(workers.importlib.util, "find_spec", lambda name: None)
        settings.ENGINE, settings.VLLM_URLS = "vllm-server", ["http://gpu:8100"]
        assert claimed() == [DEFAULT, GENERATION]

    def test_vllm_needs_its_python_and_a_gpu(self, settings, tmp_path: Path, request) -> None:
        settings.ENGINE, settings.VLLM_PYTHON = "vllm", tmp_path / "none" / "python"
        assert claimed() == [DEFAULT]
        settings.VLLM_PYTHON = Path(sys.executable)
        assert claimed() == [DEFAULT]
        request.getfixturevalue("gpu")
        assert claimed() == list(QUEUES)

    def test_what_it_is_told_it_claims_without_a_gpu(self) -> None:
        assert claimed(TRAINING) == [TRAINING]

    def test_what_loads_a_model_onto_a_gpu_is_alone_there(self, settings, request) -> None:
        assert [workers.concurrency(queue) for queue in QUEUES] == [2, 2, 1]
        request.getfixturevalue("gpu")
        assert [workers.concurrency(queue) for queue in QUEUES] == [2, 1, 1]
        assert [workers.concurrency(queue, 4) for queue in QUEUES] == [4, 4, 1]
        settings.ENGINE = "vllm-server"
        assert workers.concurrency(GENERATION) == 2

    def test_claiming_imports_no_torch(self) -> None:
        code = "import django; django.setup(); import sys; from config import workers; workers.claims()"
        done = subprocess.run(
            [sys.executable, "-c", f"{code}; sys.exit('torch' in sys.modules)"],
            cwd=ROOT, env={**os.environ, "DJANGO_SETTINGS_MODULE": "config.settings"}, check=False,
        )  # fmt: skip
        assert done.returncode == 0


@pytest.mark.django_db
class TestRefused:
    def check(self, said: str, *arguments: str) -> None:
        with pytest.raises(CommandError, match=said):
            call_command("worker", *arguments)

    def test_a_queue_that_there_is_not(self) -> None:
        self.check(
            "There is no queue 'traning': say --queues with default, generation, training", "--queues", "traning"
        )

    @pytest.mark.parametrize("arguments", [["--queues", ""], ["--queues", ","], ["--concurrency", "-1"]])
    def test_nonsense(self, arguments: list[str]) -> None:
        self.check("Say --queues with one name or more", *arguments)

    def test_training_without_torch(self, monkeypatch) -> None:
        monkeypatch.setattr(workers.importlib.util, "find_spec", lambda name: None)
        self.check("cannot work on the queue training: torch is not installed here.*make install", "--queues", TRAINING)

    def test_writing_without_vllm(self, settings, tmp_path: Path) -> None:
        settings.ENGINE, settings.VLLM_PYTHON = "vllm", tmp_path / "python"
        self.check("vLLM's Python is not here.*make install-vllm", "--queues", GENERATION)

    def test_a_folder_of_models_that_is_none(self, settings, tmp_path: Path) -> None:
        settings.MODEL_DIR = tmp_path / "file" / "models"
        (tmp_path / "file").write_text("")
        self.check("STORYLOOP_MODEL_DIR.* cannot be read and written here", "--queues", TRAINING)
        assert claimed(DEFAULT) == [DEFAULT]  # which has no need of it

    def test_older_code_than_the_database(self) -> None:
        with connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO django_migrations (app, name, applied) VALUES ('training', '0999_later', now())"
            )
        for command in ("worker", "beat"):
            with pytest.raises(CommandError, match="it has training.0999_later.*Update Storyloop on this machine"):
                call_command(command)

    def test_newer_code_than_the_database(self) -> None:
        with connection.cursor() as cursor:
            cursor.execute("DELETE FROM django_migrations WHERE app = 'annotate'")
        self.check("The database is older.* it lacks .*manage.py migrate")


def test_a_database_that_does_not_answer_is_one_clear_line(tmp_path: Path) -> None:
    values = {"PATH": "/usr/bin:/bin", "STORYLOOP_VAR": str(tmp_path)}
    values["DATABASE_URL"] = "postgres://nobody@127.0.0.1:1/none"
    done = subprocess.run(
        [sys.executable, "manage.py", "worker"], cwd=ROOT, env=values, capture_output=True, text=True, check=False
    )
    assert "The database does not answer" in done.stderr
    assert "correct DATABASE_URL" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.django_db
def test_a_policy_in_use_that_is_not_seen_here_is_a_warning(tiny_model: Path) -> None:
    policy = make_policy("base", current=True)
    assert [policy.path in line for line in workers.unseen_policy()] == [True]
    type(policy).objects.update(path=str(tiny_model))
    assert list(workers.unseen_policy()) == []


def test_an_unknown_queue_in_the_environment_is_one_clear_line(tmp_path: Path) -> None:
    done = load(tmp_path, STORYLOOP_QUEUES="default,gpu")
    assert "STORYLOOP_QUEUES has 'gpu': it may have default, generation, training" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_worker_of_one_machine_claims_everything() -> None:
    assert services.worker_command()[-1] == "default,generation,training"


class TestSupervisor:
    """Processes of the shell's: what is asked is who is started and ended."""

    def test_one_that_ends_at_its_start_ends_all(self, tmp_path: Path) -> None:
        commands = {"first": ["sleep", "60"], "second": ["sh", "-c", "exit 3"]}
        with pytest.raises(supervisor.EndedAtStart, match=r"The second ended at its start \(3\)"):
            supervisor.supervise(commands, print)

    def test_one_that_lived_is_started_anew_and_sigterm_ends_them(self, tmp_path: Path, monkeypatch) -> None:
        monkeypatch.setattr(supervisor, "YOUNG", 0.0)
        monkeypatch.setattr(supervisor, "LOOK", 0.01)
        said: list[str] = []

        def say(line: str) -> None:
            said.append(line)
            if len(said) == 2:
                os.kill(os.getpid(), 15)

        supervisor.supervise({"worker": ["sh", "-c", f"echo >> {tmp_path}/born; exit 0"]}, say)
        assert said[0] == "The worker has ended (0); it is started anew."
        assert 2 <= len((tmp_path / "born").read_text().splitlines()) <= 3

    def test_one_that_was_started_anew_may_end_at_once(self, tmp_path: Path, monkeypatch) -> None:
        """As while its code is being replaced: the others are at work."""
        monkeypatch.setattr(supervisor, "PAUSE", 0.01)
        monkeypatch.setattr(supervisor, "LOOK", 0.01)
        born = tmp_path / "born"
        said: list[str] = []

        def say(line: str) -> None:
            said.append(line)
            if len(said) == 3:
                os.kill(os.getpid(), signal.SIGTERM)

        first_is_killed = f"echo >> {born}; test $(wc -l < {born}) -gt 1 || kill -9 $$; exit 3"
        supervisor.supervise({"worker": ["sh", "-c", first_is_killed]}, say)
        assert [line.partition(";")[0] for line in said[:2]] == [
            "The worker has ended (-9)",
            "The worker has ended (3)",
        ]

    def test_a_second_interrupt_ends_what_goes_on_with_its_tasks(self, monkeypatch) -> None:
        monkeypatch.setattr(supervisor, "LOOK", 0.01)
        busy = "trap '' TERM INT; while true; do sleep 0.1; done"
        for delay in (0.5, 1.0):
            threading.Timer(delay, os.kill, (os.getpid(), signal.SIGINT)).start()
        supervisor.supervise({"worker": ["sh", "-c", busy]}, print)
