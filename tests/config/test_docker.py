"""Docker: no engine is at hand. The files are read, and what they start is started without a container."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from config import postgres
from config.services import free_port
from tests.config import docker
from tests.environment import ROOT, VAR

SERVICES = docker.services()
OURS = [name for name, service in SERVICES.items() if str(service["image"]).startswith("storyloop")]
READ = re.compile(r'env\.\w+\(\s*"([A-Z_]+)"')
OTHERS = {"POSTGRES_PASSWORD_FILE", "POSTGRES_INITDB_ARGS"}  # of the image postgres


class TestImage:
    def test_what_is_copied_is_there_and_not_ignored(self) -> None:
        for name in ("packages", "storyloop", "vllm"):
            for source in docker.sources(name):
                assert (ROOT / source).exists()
                assert not docker.ignored(source)
        assert "." not in docker.sources("storyloop")

    @pytest.mark.parametrize(
        "path", [".git", ".git/config", "var/secret_key", ".venv/bin/python", "tests/apart.py", "compose.yaml",
                 "deploy/docker/secrets/secret_key", "config/.env", "config/__pycache__/env.pyc"],
    )  # fmt: skip
    def test_what_is_nobodys_business_does_not_reach_the_engine(self, path: str) -> None:
        assert docker.ignored(path)

    def test_packages_are_the_pinned_ones(self) -> None:
        assert "constraints.txt" in docker.sources("packages")
        assert any("tools/install.py" in step.said for step in docker.stage("packages") if step.word == "RUN")

    @pytest.mark.parametrize("name", ["storyloop", "vllm"])
    def test_it_runs_as_nobody_special(self, name: str) -> None:
        (*_, user) = (step.said for step in docker.stage(name) if step.word == "USER")
        assert user == "10001:10001"

    def test_an_init_reaps_what_dies(self) -> None:
        (entry,) = (step.said for step in docker.stage("storyloop") if step.word == "ENTRYPOINT")
        assert entry == '["/usr/bin/tini", "--"]'

    def test_the_web_server_is_the_units_but_for_its_address(self) -> None:
        unit = (ROOT / "deploy" / "systemd" / "storyloop-web.service").read_text()
        (line,) = (line for line in unit.splitlines() if line.startswith("ExecStart="))
        assert docker.command("storyloop")[1:] == line.replace("127.0.0.1", "0.0.0.0").split()[1:]

    def test_it_has_no_secret(self) -> None:
        for step in docker.steps():
            assert step.word not in ("ENV", "ARG") or not re.search("KEY|TOKEN|PASSWORD|DATABASE_URL", step.said)


@pytest.mark.parametrize("name", SERVICES)
class TestService:
    def test_it_can_do_little(self, name: str) -> None:
        service = SERVICES[name]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        user, group = service["user"].split(":")
        assert int(user) > 0 < int(group)
        assert any(mount.startswith("/tmp") for mount in service["tmpfs"])
        assert not {"privileged", "cap_add", "pid", "network_mode"} & set(service)
        assert not [mount for mount in service.get("volumes", []) if "docker.sock" in mount]
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))

    def test_it_is_looked_after(self, name: str) -> None:
        service = SERVICES[name]
        if name == "setup":
            assert service["restart"] == "no"
        else:
            assert service["restart"] == "unless-stopped"
            assert service["healthcheck"]["test"]

    def test_it_waits_for_what_can_be_waited_for(self, name: str) -> None:
        for other, wait in SERVICES[name].get("depends_on", {}).items():
            condition = wait["condition"]
            assert condition == ("service_completed_successfully" if other == "setup" else "service_healthy")
            assert other == "setup" or SERVICES[other]["healthcheck"]["test"]
        assert name in ("setup", "postgres", "redis") or "setup" in SERVICES[name]["depends_on"]

    def test_its_variables_are_read_and_its_secrets_are_files(self, name: str) -> None:
        read = set(
            READ.findall("".join((ROOT / "config" / f"{part}settings.py").read_text() for part in ("", "account_")))
        )
        for variable, value in SERVICES[name].get("environment", {}).items():
            assert variable in OTHERS or variable.removesuffix("_FILE") in read, variable
            if variable.endswith("_FILE"):
                assert value.removeprefix("/run/secrets/") in SERVICES[name]["secrets"]
            else:
                assert not re.search("KEY|TOKEN|PASSWORD|DATABASE_URL", variable)
        assert set(SERVICES[name].get("secrets", [])) <= set(docker.top("secrets"))
        assert set(SERVICES[name]["networks"]) <= set(docker.top("networks"))
        for mount in SERVICES[name].get("volumes", []):
            source = mount.split(":")[0]
            assert source in docker.top("volumes") or source.startswith("./")


def test_the_databases_and_the_models_server_are_reached_by_nobody_outside() -> None:
    assert docker.top("networks")["inside"] == {"internal": True}
    for name in ("postgres", "redis", "vllm"):
        assert SERVICES[name]["networks"] == ["inside"]
        assert "ports" not in SERVICES[name]


def test_one_script_makes_all_secrets_once(tmp_path: Path) -> None:
    folder = tmp_path / "docker" / "secrets"
    folder.mkdir(parents=True)
    shutil.copy(ROOT / "deploy" / "docker" / "secrets.sh", folder.parent)

    def made() -> dict[str, str]:
        subprocess.run(["sh", str(folder.parent / "secrets.sh")], check=True, capture_output=True)
        return {path.name: path.read_text() for path in folder.iterdir()}

    first = made()
    assert set(first) == {secret["file"].rpartition("/")[2] for secret in docker.top("secrets").values()}
    assert made() == first
    assert len(first["secret_key"]) == 60
    assert first["database_url"] == f"postgres://storyloop:{first['database_password']}@postgres/storyloop"
    assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(not (postgres.binaries() / "psql").exists(), reason="the wheel has no psql")
def test_the_database_is_made_for_a_role_that_is_no_superuser(transactional_db: None, tmp_path: Path) -> None:
    import psycopg

    secret = tmp_path / "database_password"
    secret.write_text("it's a secret")
    script = (ROOT / "deploy" / "docker" / "database.sh").read_text()
    script = script.replace("/run/secrets/database_password", str(secret)).replace(" storyloop", " from_docker")
    path = f"{postgres.binaries()}:{os.environ['PATH']}"
    where = postgres.url(VAR / "postgres", "postgres")
    found = psycopg.conninfo.conninfo_to_dict(where)
    known = {f"PG{theirs}": str(found[ours]) for ours, theirs in
             {"host": "HOST", "user": "USER", "password": "PASSWORD", "dbname": "DATABASE"}.items()}  # fmt: skip
    with psycopg.connect(where, autocommit=True) as admin:
        try:
            subprocess.run(["sh", "-c", script], env={"PATH": path, **known}, check=True, capture_output=True)
            role = admin.execute(
                "SELECT rolsuper, rolcreatedb, rolcanlogin FROM pg_roles WHERE rolname = 'from_docker'"
            )
            assert role.fetchone() == (False, False, True)
            own = {
                **known,
                "host": known["PGHOST"],
                "user": "from_docker",
                "password": "it's a secret",
                "dbname": "from_docker",
            }
            psycopg.connect(**{k: v for k, v in own.items() if not k.startswith("PG")}).close()
        finally:
            admin.execute("DROP DATABASE IF EXISTS from_docker")
            admin.execute("DROP ROLE IF EXISTS from_docker")


class Container:
    """What a service would see: the image's files, read-only; its own environment; secrets; an unprivileged user."""

    def __init__(self, folder: Path) -> None:
        self.code, self.var, self.secrets = folder / "code", folder / "var", folder / "secrets"
        self.port = str(free_port())
        self.started: list[subprocess.Popen[bytes]] = []
        self.code.mkdir()
        for source in docker.sources("storyloop"):
            origin = ROOT / source
            if origin.is_dir():
                shutil.copytree(origin, self.code / source, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(origin, self.code / source)
        subprocess.run(["chmod", "-R", "a+rX,a-w", str(self.code)], check=True)
        for made in (self.var, self.secrets):
            made.mkdir()
        os.chmod(self.var, 0o777)  # noqa: S103
        for name in ("secret_key", "metrics_token", "vllm_api_key"):
            (self.secrets / name).write_text("0123456789" * 6)
        (self.secrets / "database_url").write_text(postgres.url(VAR / "postgres", "storyloop_test"))

    def environment(self, name: str) -> dict[str, str]:
        said = {"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"}
        places = {"/run/secrets": str(self.secrets), "/var/lib/storyloop": str(self.var)}
        for variable, value in SERVICES[name]["environment"].items():
            said[variable] = str(value)
            for there, here in places.items():
                said[variable] = said[variable].replace(there, here)
        said.pop("CELERY_BROKER_URL_FILE", None)  # of redis.yaml: there is no Redis here
        return said

    def start(self, name: str, command: list[str]) -> subprocess.Popen[bytes]:
        said = [part.replace("8000", self.port).replace(".venv/bin/python", sys.executable) for part in command]
        log = (self.var.parent / f"{name}.log").open("ab")
        process = subprocess.Popen(
            postgres._as_server(said), cwd=self.code, env=self.environment(name), stdout=log, stderr=log
        )
        self.started.append(process)
        return process

    def succeeds(self, name: str, command: list[str]) -> bool:
        return self.start(name, command).wait(120) == 0

    def said(self) -> str:
        return "\n".join(f"{path.name}:\n{path.read_text()[-1500:]}" for path in self.var.parent.glob("*.log"))


@pytest.fixture
def container(transactional_db: None) -> Iterator[Container]:
    folder = Path(tempfile.mkdtemp(prefix="storyloop-docker-"))  # pytest's own folders are their owner's alone
    folder.chmod(0o755)
    made = Container(folder)
    yield made
    for process in made.started:
        process.terminate()
    for process in made.started:
        with suppress(subprocess.TimeoutExpired):
            process.wait(30)
        process.kill()
        process.wait()
    subprocess.run(["chmod", "-R", "u+w", str(folder)], check=True)
    shutil.rmtree(folder)


def check_of(name: str) -> list[str]:
    test: list[Any] = SERVICES[name]["healthcheck"]["test"]
    assert test[0] == "CMD"
    return [str(part) for part in test[1:]]


@pytest.mark.slow
def test_setup_web_worker_and_beat_become_healthy_without_a_right(container: Container) -> None:
    assert container.succeeds("setup", SERVICES["setup"]["command"]), container.said()
    running = {"web": docker.command("storyloop"), **{name: SERVICES[name]["command"] for name in ("worker", "beat")}}
    assert docker.check("storyloop") == check_of("web")
    assert not container.succeeds("web", check_of("web"))  # it can fail
    services = [container.start(name, command) for name, command in running.items()]
    for name in running:
        deadline = time.monotonic() + 120
        while not container.succeeds(name, check_of(name)):
            assert time.monotonic() < deadline, container.said()
            assert [service.poll() for service in services] == [None] * 3, container.said()
            time.sleep(1)
    with urllib.request.urlopen(f"http://127.0.0.1:{container.port}/readyz", timeout=30) as answer:
        assert answer.status == 200
    assert not (container.code / "var").exists()
