"""Settings, folders, and the policy in use."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from django.conf import settings
from django.core import checks

from config import readiness, variables
from config.audit import triggers
from config.doctor import Finding, fault, ok, warning
from generation import policy_files
from generation.engines.loading import check_model_directory
from generation.engines.values import EngineError
from generation.engines.whole import named_files, whole_size
from generation.models import Policy

FOLDERS = ("STORYLOOP_VAR", "STORYLOOP_MODEL_DIR", "STORYLOOP_EXPORT_DIR")
LITTLE, TOO_LITTLE = 5 * 2**30, 2**29  # bytes
ROUND_TAKES = 5  # times a policy's size: itself, a checkpoint with the optimizer's averages, the one before
LOCAL = {"127.0.0.1", "localhost", "[::1]"}


def addresses() -> Iterator[Finding]:
    hosts = {host.strip() for host in settings.ALLOWED_HOSTS}
    public = hosts - LOCAL
    if settings.DEBUG:
        yield fault("settings", "STORYLOOP_DEBUG is on: error pages show code and data.", "Unset STORYLOOP_DEBUG.")
    if any(host == "*" for host in hosts):
        yield fault("settings", "STORYLOOP_HOSTS is *: links in messages may lead anywhere.", "Name your host there.")
    if settings.DEMO and public:
        yield fault("settings", "STORYLOOP_DEMO is on where others reach it.", "Unset STORYLOOP_DEMO.")
    if public and not settings.HTTPS:
        yield fault("settings", "Passwords travel unencrypted.", "Serve https and set STORYLOOP_URL=https://...")
    if public and not settings.SITE_URL:
        yield warning("settings", "Messages have no links.", "Set STORYLOOP_URL, https://stories.example.org.")
    if not public:
        yield ok("settings", "for this machine alone (STORYLOOP_HOSTS)")
    yield ok("settings", f"time zone {settings.TIME_ZONE}")


def misspelt() -> Iterator[Finding]:
    """Variables that begin like ours, and that nothing reads."""
    for name, near in sorted(variables.unknown(os.environ).items()):
        mend = f"Is {near} meant?" if near else "Unset it, or look it up in docs/settings.md."
        yield warning("settings", f"{name} is set, and nothing reads it.", mend)


def deployment() -> Iterator[Finding]:
    """Django's own checks; those of a server that is on the internet only where others reach this one."""
    public = bool({host.strip() for host in settings.ALLOWED_HOSTS} - LOCAL)
    found = [one for one in checks.run_checks(include_deployment_checks=public) if not one.is_silenced()]
    for one in found:
        level = fault if one.level >= checks.ERROR else warning
        yield level("django", f"{one.id}: {' '.join(str(one.msg).split())}", str(one.hint or "See Django's documents."))
    if not found:
        yield ok("django", "its checks find nothing")


def audit_log() -> Iterator[Finding]:
    if gone := list(triggers.missing()):
        said = f"Triggers are gone or switched off: {', '.join(gone)}."
        yield fault("audit log", said, "Find out who did it; docs/audit-log.md says how to bring them back.")
    else:
        yield ok("audit log", "its triggers are there")


def static() -> Iterator[Finding]:
    said = readiness.static()
    if said == readiness.OK:
        yield ok("static files", "collected")
    else:
        yield fault("static files", f"{said}: every page is an error.", "Run manage.py collectstatic.")


def folders() -> Iterator[Finding]:
    places = zip(FOLDERS, (settings.VAR_DIR, settings.MODEL_DIR, settings.EXPORT_DIR), strict=True)
    for name, folder in places:
        try:
            Path(folder).mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=folder, prefix=".doctor-"):
                free = shutil.disk_usage(folder).free
        except OSError as error:
            what = f"{folder} cannot be written to: {error.strerror}."
            yield fault("folders", what, f"Give this user the right to it, or name another one with {name}.")
            continue
        said = f"{folder}: {free / 2**30:.1f} GB free"
        if free < LITTLE:
            yield (fault if free < TOO_LITTLE else warning)(
                "folders", said, f"Free some, or name another one with {name}."
            )
        else:
            yield ok("folders", said)
    yield from _secrets()


def _secrets() -> Iterator[Finding]:
    for name in ("secret_key", "demo-logins.json"):
        path = Path(settings.VAR_DIR) / name
        if path.exists() and path.stat().st_mode & 0o077:
            yield fault("folders", f"Others on this machine can read {path}.", f"chmod 600 {path}")
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        yield warning("user", "This runs as root.", "Run Storyloop as a user of its own (deploy/).")


def policies() -> Iterator[Finding]:
    used = Policy.objects.current()
    if used is None:
        yield warning(
            "policy", "None is in use yet.", "Set STORYLOOP_BASE_MODEL and give manage.py begin; or make demo."
        )
        return
    try:
        check_model_directory(used.directory)
        _check_weights(used.directory)
    except (EngineError, OSError) as error:
        yield fault(
            "policy", f"{used.name} is in use and cannot be loaded: {error}", "Put its files back from a backup."
        )
    else:
        size = policy_files.size_of_folder(used.path)
        yield ok("policy", f"{used.name}, {size / 2**20:.0f} MB in {used.path}")
        if Path(settings.MODEL_DIR).exists() and shutil.disk_usage(settings.MODEL_DIR).free < ROUND_TAKES * size:
            what = f"A round of this policy may take {ROUND_TAKES * size / 2**30:.0f} GB, and less is free."
            yield warning("policy", what, "Delete weights that are not needed (manage.py delete_weights).")
    gone = [one.name for one in Policy.objects.with_weights() if one != used and not one.directory.is_dir()]
    if gone:
        what = f"The files of {', '.join(gone)} are not where they were."
        yield warning("policy", what, "Put them back from a backup: nobody can roll back to them as it is.")


def _check_weights(directory: Path) -> None:
    """Raise EngineError unless every file of weights is there and whole, by what its own header says."""
    if missing := [name for name in named_files(directory) if not (directory / name).exists()]:
        raise EngineError(f"{directory / missing[0]} is missing.")
    for path in sorted(directory.glob("*.safetensors")):
        try:
            wanted = whole_size(path)
        except EngineError as error:
            raise EngineError(f"{path} is no safetensors file.") from error
        if path.stat().st_size != wanted:
            raise EngineError(f"{path} is not whole: it was cut off, or something came behind it.")
