"""Backups are made while people work, and restored into a second, empty database."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from config import postgres
from config.backups import database, files, manifest
from config.backups.making import CannotBackUp, write_backup
from config.backups.restoring import CannotRestore, check_code
from generation.models import Policy, Prompt
from tests.environment import ROOT, VAR
from tests.factories import judge_by_story, make_comparison, make_expert, make_prompt
from tests.training.test_models import make_round

pytestmark = pytest.mark.django_db(transaction=True)
SECOND = "storyloop_restored"
LOG = "config_auditentry"  # a command adds to it
HALF = "half written"


@pytest.fixture
def installation(settings, tmp_path: Path) -> Path:
    """A base model outside of the model directory, a round that trains with its files, and a judgement."""
    settings.MODEL_DIR, settings.EXPORT_DIR = tmp_path / "models", tmp_path / "exports"
    base = write(tmp_path / "hub" / "base" / "model.safetensors", "base").parent
    policy = Policy.objects.create(name="base", path=str(base), weights_hash="0" * 64, is_current=True)
    export = write(settings.EXPORT_DIR / "round-1.jsonl", "{}\n")
    training = make_round(
        policy=policy, state="training", export_path=str(export), export_sha256="a" * 64, pair_count=1
    )
    for name, text in {
        "checkpoint/position.json": "7",
        "checkpoint/state.safetensors": "state",
        "checkpoint.new/state.safetensors": HALF,
        "checkpoint.old/position.json": HALF,
        "policy.new/model.safetensors": HALF,
        "metrics.jsonl": "{}\n",
    }.items():
        write(training.folder / name, text)
    write(settings.EXPORT_DIR / ".export-2.tmp", HALF)
    judge_by_story(make_expert(), list(make_comparison(2, policy=policy).stories.order_by("pk")))
    return tmp_path


@pytest.fixture
def second() -> Iterator[psycopg.Connection]:
    """An empty database beside the suite's."""
    with psycopg.connect(postgres.url(VAR / "postgres", "postgres"), autocommit=True) as admin:
        admin.execute(f"DROP DATABASE IF EXISTS {SECOND} WITH (FORCE)")
        admin.execute(f"CREATE DATABASE {SECOND}")
        yield admin
        admin.execute(f"DROP DATABASE {SECOND} WITH (FORCE)")


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def backup(installation: Path, **options: object) -> Path:
    target = installation / "backup"
    call_command("backup", target, verbosity=0, **options)
    return target


def restore(folder: Path, *options: str, new: Path) -> "subprocess.CompletedProcess[str]":
    """As on another machine: a database and folders of its own."""
    own = {"STORYLOOP_DATABASE": SECOND, "STORYLOOP_MODEL_DIR": new / "models", "STORYLOOP_EXPORT_DIR": new / "exports"}
    command = [sys.executable, "manage.py", "restore", str(folder), *options]
    environment = {**os.environ, **{name: str(value) for name, value in own.items()}}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def rows(name: str) -> dict[str, list[str]]:
    """All rows of all tables, as text."""
    with psycopg.connect(postgres.url(VAR / "postgres", name)) as asked:
        tables = [table for (table,) in asked.execute(database.TABLES) if table not in (*database.PASSING, LOG)]
        query = 'SELECT t::text FROM "{}" t ORDER BY 1'
        return {table: [row for (row,) in asked.execute(query.format(table))] for table in tables}


def log(name: str) -> list[tuple[int, str]]:
    with psycopg.connect(postgres.url(VAR / "postgres", name)) as asked:
        return asked.execute(f"SELECT id, kind FROM {LOG} ORDER BY id").fetchall()


def contents(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_what_is_restored_is_what_was_there_when_the_backup_began(installation: Path, second, settings) -> None:
    before = rows(connection.settings_dict["NAME"])

    def somebody_goes_on(said: str) -> None:
        make_prompt()

    folder = installation / "backup"
    write_backup(folder, checkpoints=True, say=somebody_goes_on)
    models, exports = contents(settings.MODEL_DIR), contents(settings.EXPORT_DIR)
    shutil.rmtree(installation / "hub")  # the other machine has no such folder
    new = installation / "new"
    done = restore(folder, new=new)
    assert done.returncode == 0, done.stderr
    after = rows(SECOND)
    *as_it_was, (_id, last) = log(SECOND)
    assert set(as_it_was) <= set(log(connection.settings_dict["NAME"]))
    assert (bool(as_it_was), last) == (True, "backup_restored")
    with psycopg.connect(postgres.url(VAR / "postgres", SECOND)) as asked, pytest.raises(psycopg.IntegrityError):
        asked.execute(f"TRUNCATE {LOG}")  # its triggers came along
    renamed = {str(settings.MODEL_DIR): str(new / "models"), str(settings.EXPORT_DIR): str(new / "exports")}
    renamed[str(installation / "hub" / "base")] = str(new / "models" / "restored-0-base")
    for old, moved in renamed.items():
        for table in database.PATHS:
            before[table] = [row.replace(old, moved) for row in before[table]]
    assert after == before
    assert Prompt.objects.count() > len(before["generation_prompt"])
    assert contents(new / "exports") == {name: text for name, text in exports.items() if text != HALF}
    base = {"restored-0-base/model.safetensors": "base"}
    assert contents(new / "models") == {name: text for name, text in models.items() if text != HALF} | base
    again = restore(folder, new=new)
    assert again.returncode == 1
    assert "The database is not empty" in again.stderr
    assert restore(folder, "--replace", new=new).returncode == 0
    assert rows(SECOND) == before
    write(new / "models" / "restored-0-base" / "model.safetensors", "mine")
    second.execute(f"DROP DATABASE {SECOND} WITH (FORCE)")
    second.execute(f"CREATE DATABASE {SECOND}")
    assert "is there already, and is another file" in restore(folder, new=new).stderr


def test_a_backup_is_for_its_owner_alone_and_holds_no_secret_of_the_machine(installation: Path, client, settings):
    client.force_login(make_expert().user)
    folder = backup(installation)
    assert folder.stat().st_mode & 0o077 == 0
    everything = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    assert settings.SECRET_KEY.encode() not in everything
    read = subprocess.run(
        [postgres.binaries() / "pg_restore", "--file=-", folder / manifest.DATABASE], capture_output=True, check=True
    )
    assert client.session.session_key.encode() not in read.stdout
    assert b"COPY public.django_session" not in read.stdout


def test_checkpoints_can_stay_behind(installation: Path) -> None:
    folder = backup(installation, no_checkpoints=True)
    assert not [path for path in folder.rglob("*") if "checkpoint" in path.name]


def test_files_from_before_a_folder_moved_are_taken_along(installation: Path, settings) -> None:
    with connection.cursor() as cursor:  # as versions wrote it that did not store paths below their folder
        cursor.execute("UPDATE training_round SET export_path = %s", [str(settings.EXPORT_DIR / "round-1.jsonl")])
    settings.EXPORT_DIR = installation / "moved"
    write(installation / "exports" / "a-strangers", "not ours")
    folder = backup(installation)
    assert manifest.read(folder).missing == []
    assert [path.name for path in (folder / "elsewhere").rglob("*.*")] == ["model.safetensors", "round-1.jsonl"]


def test_what_the_disk_no_longer_has_is_said(installation: Path, capsys) -> None:
    shutil.rmtree(installation / "hub")
    folder = backup(installation)
    assert str(installation / "hub" / "base") in capsys.readouterr().err
    assert manifest.read(folder).missing == [str(installation / "hub" / "base")]


@pytest.mark.parametrize("name", ["backup", "models/backup"])
def test_nothing_is_written_over_or_into_what_is_copied(installation: Path, name: str) -> None:
    (installation / "backup").mkdir()
    with pytest.raises(CannotBackUp, match="is there already|is to be copied"):
        write_backup(installation / name, checkpoints=True, say=str)


def test_a_backup_that_fails_leaves_nothing(installation: Path, settings) -> None:
    def fail(said: str) -> None:
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        write_backup(installation / "backup", checkpoints=True, say=fail)
    assert not [path for path in installation.iterdir() if "backup" in path.name]


def changed(folder: Path) -> None:
    (folder / "models" / "x").write_text("more")


def flipped(folder: Path) -> None:
    data = bytearray((folder / manifest.DATABASE).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / manifest.DATABASE).write_bytes(data)


def lied(folder: Path) -> None:
    told = json.loads((folder / manifest.NAME).read_text())
    told["counts"]["auth_user"] += 1
    (folder / manifest.NAME).write_text(json.dumps(told))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda folder: (folder / manifest.NAME).unlink(), "One that was interrupted has none"),
        (lambda folder: (folder / "exports" / "round-1.jsonl").unlink(), "is missing: the backup is not whole"),
        (changed, "is not in the manifest"),
        (flipped, "is not as it was"),
        (lied, "was changed since the backup was made"),
    ],
)
def test_a_backup_that_is_half_there_or_changed_is_refused(installation: Path, spoil, said: str) -> None:
    folder = backup(installation)
    call_command("restore", folder, check=True, verbosity=0)
    spoil(folder)
    with pytest.raises(CommandError, match=said):
        call_command("restore", folder, check=True)


def test_no_file_of_a_backup_leads_out_of_it(installation: Path) -> None:
    folder = backup(installation)
    found = manifest.read(folder)
    found.files["models/../../secret"] = manifest.Entry(1, "0" * 64)
    found.write(folder)
    with pytest.raises(manifest.BadBackup, match="names a file outside"):
        manifest.read(folder)


def test_older_code_leaves_a_newer_backup_alone(installation: Path) -> None:
    found = manifest.read(backup(installation))
    check_code(found)
    found.migrations["annotate"].append("9999_of_the_future")
    with pytest.raises(CannotRestore, match="is newer than this one .* it knows annotate.9999_of_the_future"):
        check_code(found)


def test_a_dump_that_breaks_off_changes_nothing(installation: Path) -> None:
    folder, before = backup(installation), rows(connection.settings_dict["NAME"])
    whole = (folder / manifest.DATABASE).read_bytes()
    (folder / manifest.DATABASE).write_bytes(whole[: len(whole) * 3 // 4])
    with pytest.raises(database.DatabaseFailed, match="as it was"):
        database.restore(folder / manifest.DATABASE, {})
    assert rows(connection.settings_dict["NAME"]) == before


def test_a_database_that_refuses_the_dump_keeps_what_it_has(installation: Path, monkeypatch) -> None:
    folder, before = backup(installation), rows(connection.settings_dict["NAME"])
    monkeypatch.setattr(database, "CLEAR", database.CLEAR + b"SELECT 1/0;\n")
    with pytest.raises(database.DatabaseFailed, match="as it was: .*division by zero"):
        database.restore(folder / manifest.DATABASE, {})
    assert rows(connection.settings_dict["NAME"]) == before


def test_a_folder_is_copied_whole_though_it_is_replaced_meanwhile(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    for name in ("a", "b"):
        write(source / "checkpoint" / name, "first")
    copied = files.copy_tree(source, target)
    next(copied)
    shutil.rmtree(source / "checkpoint")
    for name in ("a", "b"):
        write(source / "checkpoint" / name, "second")
    list(copied)
    assert contents(target) == {"checkpoint/a": "first", "checkpoint/b": "first"}
