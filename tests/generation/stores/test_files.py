"""What rows name, and single files, on machines that share only the store."""

import hashlib
import os
import shutil
import time
from functools import partial
from pathlib import Path

import pytest
from django.core.files.base import ContentFile
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import CommandError, call_command
from django.db import connection

from annotate import uploads
from config.backups.making import CannotBackUp, write_backup
from config.doctor import model_store
from config.env import BadEnvironment
from config.model_store import storages
from generation.engines.values import EngineError
from generation.models import Policy
from generation.policies import register_policy
from generation.stores import cache, manifest, single
from generation.stores.faults import StoreFault
from generation.stores.fields import StoredPath
from generation.stores.folders import at_hand
from generation.stores.places import key_of, store
from generation.writers import writing_of
from tests.generation.stores.conftest import Machines, use
from tests.generation.stores.test_folders import WEIGHTS, make_model
from tests.training.test_models import make_round
from training import ends, progress
from training.bundle import export
from training.weights import delete_weights

pytestmark = pytest.mark.django_db


def stored(policy: Policy) -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT path, adapter_path FROM generation_policy WHERE id = %s", [policy.pk])
        return list(cursor.fetchone())


def make_policy(path: Path, adapter: Path | None = None, name: str = "base") -> Policy:
    adapter_path = str(adapter) if adapter else ""
    return Policy.objects.create(name=name, path=str(path), adapter_path=adapter_path, weights_hash="0" * 64)


def test_a_path_is_stored_without_the_folder_that_each_machine_has_elsewhere(
    machines: Machines, tmp_path: Path
) -> None:
    one = machines.on("one")
    inside, outside = make_policy(one / "a" / "merged", one / "a" / "policy"), make_policy(tmp_path / "hub", name="hub")
    assert stored(inside) == ["a/merged", "a/policy"]
    assert stored(outside) == [str(tmp_path / "hub"), ""]
    assert Policy.objects.get(path=str(one / "a" / "merged")) == inside
    two = machines.on("two")
    assert Policy.objects.get(pk=inside.pk).path == str(two / "a" / "merged")
    assert Policy.objects.get(pk=outside.pk).path == str(tmp_path / "hub")


def test_a_row_of_before_keeps_its_absolute_path_until_it_is_saved(machines: Machines) -> None:
    one = machines.on("one")
    old = make_policy(one / "a")
    with connection.cursor() as cursor:
        cursor.execute("UPDATE generation_policy SET path = %s", [str(one / "a")])
    found = Policy.objects.get(pk=old.pk)
    assert found.path == str(one / "a")
    found.save()
    assert stored(old) == ["a", ""]


def test_the_column_is_a_text_as_before() -> None:
    field = StoredPath(blank=True, root="EXPORT_DIR")
    field.set_attributes_from_name("export_path")
    assert field.deconstruct() == ("export_path", "django.db.models.TextField", [], {"blank": True})


def test_a_base_from_a_folder_of_one_machine_can_be_loaded_on_another(apart: Machines, tmp_path: Path) -> None:
    policy = register_policy(name="base", path=make_model(tmp_path / "hub" / "base"))
    assert stored(policy) == [f"base-{policy.weights_hash[:24]}", ""]
    apart.on("two")
    found = Policy.objects.get()
    assert not Path(found.path).exists()
    weights = writing_of(found).weights
    assert (weights.directory / "model.safetensors").read_bytes()[-1] == 250
    export(found, tmp_path / "exported")
    assert (tmp_path / "exported" / "model.safetensors").read_bytes()[-1] == 250
    assert (tmp_path / "exported" / "README.md").exists()


def test_an_export_of_what_was_changed_in_the_store_does_not_appear(apart: Machines, tmp_path: Path) -> None:
    policy = register_policy(name="base", path=make_model(tmp_path / "hub" / "base"))
    name = f"{key_of(policy.path)}/model.safetensors"
    content = b"".join(store().stream(name))
    store().delete(name)
    (apart.settings.MODEL_DIR / "other").parent.mkdir(parents=True, exist_ok=True)
    (apart.settings.MODEL_DIR / "other").write_bytes(content[:-1] + b"!")
    with (apart.settings.MODEL_DIR / "other").open("rb") as file:
        store().save(name, file)
    with pytest.raises(EngineError, match="SHA-256 differs"):
        export(policy, tmp_path / "exported")
    assert not (tmp_path / "exported").exists()


def test_a_single_file_goes_along_until_it_is_dropped(apart: Machines) -> None:
    apart.on("one")
    path = apart.settings.EXPORT_DIR / "round-1.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text("{}\n")
    single.put(path)
    apart.on("two")
    path = apart.settings.EXPORT_DIR / "round-1.jsonl"
    assert single.get(path).read_text() == "{}\n"
    single.drop(path)
    assert not single.find(path).exists()
    with pytest.raises(StoreFault, match=r"no whole exports/round-1\.jsonl"):
        single.get(path)


def test_a_file_that_is_not_the_one_that_is_named_is_fetched_again(apart: Machines) -> None:
    frozen = b"frozen anew on machine one"
    digest = hashlib.sha256(frozen).hexdigest()
    for name, content in (("one", frozen), ("two", b"of before a kill")):
        apart.on(name)
        path = apart.settings.EXPORT_DIR / "round-1.jsonl"
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
        if name == "one":
            single.put(path)
    assert single.get(path).read_bytes() == b"of before a kill"
    assert single.get(path, sha256=digest).read_bytes() == frozen
    assert [one.name for one in path.parent.iterdir()] == ["round-1.jsonl"]
    path.write_bytes(b"changed")
    for content in (b"wrong, too", None):
        store().delete(key_of(path))
        if content:
            store().save(key_of(path), ContentFile(content))
        assert single.get(path, sha256=digest).read_bytes() == b"changed"  # who compares says so


def test_an_upload_is_imported_though_the_store_does_not_let_it_go(apart: Machines) -> None:
    key = uploads.keep(SimpleUploadedFile("pairs.jsonl", b"{}"))
    use(apart.settings, "s3://stories", "http://127.0.0.1:1")
    uploads.drop(key, "pairs.jsonl")
    assert list(apart.settings.IMPORT_DIR.iterdir()) == []
    with pytest.raises(StoreFault, match="does not answer"):  # not: it is no longer here
        uploads.path_of(key, "pairs.jsonl")


def test_a_store_that_is_away_is_not_taken_for_exports_that_are_gone(apart: Machines, capsys) -> None:
    make_round(export_path=str(apart.settings.EXPORT_DIR / "round-1.jsonl"), export_sha256="0" * 64, pair_count=1)
    with pytest.raises(CommandError, match="1 of 1 files"):
        call_command("verify_exports")
    use(apart.settings, "s3://stories", "http://127.0.0.1:1")
    with pytest.raises(CommandError, match="does not answer"):
        call_command("verify_exports")


def test_weights_are_not_deleted_while_nobody_can_read_their_license(apart: Machines, tmp_path: Path) -> None:
    make_policy(apart.settings.MODEL_DIR / "current", name="current")
    policy = register_policy(name="base", path=make_model(tmp_path / "hub" / "base"))
    Policy.objects.filter(pk=policy.pk).update(is_current=False)
    apart.on("two")
    use(apart.settings, "s3://stories", "http://127.0.0.1:1")
    with pytest.raises(StoreFault, match="does not answer"):
        delete_weights(policy_id=policy.pk)
    assert not Policy.objects.get(pk=policy.pk).weights_deleted_at


def test_other_weights_under_a_policys_name_do_not_take_the_place_of_its_own(apart: Machines, tmp_path: Path) -> None:
    folder = make_model(apart.settings.MODEL_DIR / "round-1" / "policy")
    register_policy(name="round-1", path=folder)
    (folder / "model.safetensors").write_bytes(WEIGHTS[:-1] + b"+")
    with pytest.raises(EngineError, match="with other weights already"):
        register_policy(name="round-1", path=folder)
    apart.on("two")
    with at_hand([apart.settings.MODEL_DIR / "round-1" / "policy"]):
        assert (apart.settings.MODEL_DIR / "round-1" / "policy" / "model.safetensors").read_bytes() == WEIGHTS


def test_uploads_that_nobody_imported_leave_the_store_too(apart: Machines, monkeypatch: pytest.MonkeyPatch) -> None:
    old = uploads.keep(SimpleUploadedFile("old.jsonl", b"{}"))
    monkeypatch.setattr(time, "time", partial(float, time.time() + uploads.KEPT + 60))
    uploads.keep(SimpleUploadedFile("new.jsonl", b"{}"))
    apart.on("two")
    assert not uploads.path_of(old, "old.jsonl").exists()


def test_the_end_of_a_log_is_shown_on_other_machines(apart: Machines) -> None:
    log = apart.on("one") / "round-1" / "trainer.log"
    log.parent.mkdir(parents=True)
    log.write_text("long ago\n" + "." * 100 + "\nstep 7\n")
    single.put_tail(log, 50)
    log.write_text("step 8\n")
    single.put_tail(log, 50)
    assert progress.log_tail(apart.on("two") / "round-1" / "trainer.log") == "step 8"
    assert progress.log_tail(apart.on("two") / "round-2" / "trainer.log") == ""


def test_an_installation_moves_into_a_store(machines: Machines, s3_server: str, tmp_path: Path, capsys) -> None:
    one = machines.on("one")
    base = register_policy(name="base", path=make_model(tmp_path / "hub" / "base"))
    made = register_policy(name="round-1", path=make_model(one / "round-1" / "policy", b""), parent=base)
    assert stored(base) == [str(tmp_path / "hub" / "base"), ""]
    with pytest.raises(CommandError, match="STORYLOOP_MODEL_STORE is not set"):
        call_command("publish_models")
    use(machines.settings, f"s3://stories/{tmp_path.name}", s3_server)
    (one.parent / "exports").mkdir()
    (one.parent / "exports" / "round-1.jsonl").write_text("{}")
    machines.on("two")
    with pytest.raises(CommandError, match=r"not whole on this machine: round-1\."):
        call_command("publish_models")
    machines.on("one")
    call_command("publish_models")
    call_command("publish_models")
    assert "there already" in capsys.readouterr().out
    assert store().exists("exports/round-1.jsonl")
    cache.unmark_all()  # as when a backup is put back
    name = f"{key_of(made.path)}/model.safetensors"
    store().save(name, ContentFile(b"changed"))
    manifest.write(key_of(made.path), manifest.Manifest(0, {"model.safetensors": manifest.Kept(7, "0" * 64)}))
    call_command("publish_models")  # what is there is not what is here
    assert b"".join(store().stream(name)) == Path(made.path, "model.safetensors").read_bytes()
    assert stored(base) == [f"base-{base.weights_hash[:24]}", ""]
    assert manifest.read(key_of(made.path))
    assert [one.level for one in model_store.policies()] == []


def test_a_key_in_the_stores_address_is_refused_and_not_printed(tmp_path: Path) -> None:
    with pytest.raises(BadEnvironment, match="STORYLOOP_MODEL_STORE is 's3://…@stories'") as fault:
        storages("s3://access:geheim@stories", tmp_path)
    assert "geheim" not in str(fault.value)


def test_the_doctor_tries_the_store(machines: Machines, s3_server: str, tmp_path: Path) -> None:
    machines.on("one")
    assert [one.level for one in model_store.tried()] == ["ok"]
    use(machines.settings, f"s3://stories/{tmp_path.name}", s3_server)
    assert [one.level for one in model_store.tried()][0] == "ok"
    assert store().listdir("doctor") == ([], [])
    make_policy(machines.settings.MODEL_DIR / "round-1")
    assert [(one.level, "publish_models" in one.todo) for one in model_store.policies()] == [("fault", True)]
    use(machines.settings, "s3://no-such-bucket", s3_server)
    assert ["refuses" in one.said for one in model_store.tried()] == [True]
    use(machines.settings, f"file://{tmp_path}/not-mounted/store")
    os.mkfifo(tmp_path / "not-mounted")
    (found,) = model_store.tried()
    assert (found.level, bool(found.todo)) == ("fault", True)
    use(machines.settings, f"file://{tmp_path}/unmounted")
    (found,) = model_store.tried()
    assert found.said.endswith("no file storyloop-store.txt.")
    assert found.todo.startswith("Mount it.")


@pytest.mark.django_db(transaction=True)  # another session dumps it
def test_a_backup_holds_what_is_only_in_the_store(apart: Machines, tmp_path: Path) -> None:
    policy = register_policy(name="base", path=make_model(tmp_path / "hub" / "base"))
    apart.on("two")
    made = write_backup(tmp_path / "backup", checkpoints=True, say=lambda said: None)
    assert made.missing == []
    assert f"models/{Path(policy.path).name}/model.safetensors" in made.files
    assert not any(name.startswith(("models/.store", "models/.outlines")) for name in made.files)


@pytest.mark.django_db(transaction=True)
def test_a_policy_that_the_store_has_lost_keeps_nothing_else_from_a_backup(apart: Machines, tmp_path: Path) -> None:
    lost = register_policy(name="lost", path=make_model(tmp_path / "hub" / "lost"))
    other = make_model(tmp_path / "hub" / "kept")
    (other / "model.safetensors").write_bytes(WEIGHTS[:-1] + b"+")
    kept = register_policy(name="kept", path=other)
    manifest.delete(key_of(lost.path))
    apart.on("two")
    lost, kept = Policy.objects.get(pk=lost.pk), Policy.objects.get(pk=kept.pk)
    said: list[str] = []
    made = write_backup(tmp_path / "backup", checkpoints=True, say=said.append)
    assert made.missing == [lost.path]
    assert f"models/{Path(kept.path).name}/model.safetensors" in made.files
    assert any("has no whole models/base-" in line for line in said)
    shutil.rmtree(kept.path)
    use(apart.settings, "s3://stories", "http://127.0.0.1:1")
    with pytest.raises(CannotBackUp, match="Nothing was backed up"):
        write_backup(tmp_path / "other", checkpoints=True, say=said.append)


@pytest.mark.parametrize(
    "code", ["store_busy", "store_unreachable", "store_refused", "store_unmounted", "store_missing", "store_damaged"]
)
def test_a_rounds_end_says_the_stores_fault_with_a_next_step(code: str, settings) -> None:
    settings.MODEL_STORE = "s3://stories"
    found = ends.of_error(StoreFault(code, error="timeout", key="models/round-1", file="models/round-1/a", mark="a"))
    assert isinstance(found, ends.Said)
    assert "s3://stories" in found
    assert found.endswith("resume the round.")
    assert ends.in_words(found.stored()) == found
