"""A policy's folder goes to another machine by the store, whole and checked, or not at all."""

import json
import os
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from django.core.files.base import ContentFile

from generation.engines.whole import require_whole
from generation.stores import cache, folders, manifest
from generation.stores.faults import StoreFault
from generation.stores.places import key_of, store
from tests.apart import apart as process_apart
from tests.generation.stores.conftest import Machines

HEADER = json.dumps({"weight": {"dtype": "U8", "shape": [5000], "data_offsets": [0, 5000]}}).encode()
WEIGHTS = struct.pack("<Q", len(HEADER)) + HEADER + bytes(range(1, 251)) * 20
SMALL = {"config.json": b"{}", "tokenizer.json": b"{}", "LICENSE": b"Apache License", "code.py": b"run me"}


def make_model(folder: Path, extra: bytes = b"") -> Path:
    folder.mkdir(parents=True)
    for name, content in {**SMALL, "model.safetensors": WEIGHTS + extra}.items():
        (folder / name).write_bytes(content)
    return folder


def published(machines: Machines) -> Path:
    """A policy of machine "one"; afterwards this is machine "two", and the path is as that one sees it."""
    folder = make_model(machines.on("one") / "round-1" / "policy")
    folders.publish(folder)
    return machines.on("two") / "round-1" / "policy"


def test_another_machine_has_the_same_files_as_long_as_it_uses_them(apart: Machines) -> None:
    folder = published(apart)
    with folders.at_hand([folder]):
        assert (folder / "model.safetensors").read_bytes() == WEIGHTS
        assert {path.name for path in folder.iterdir()} == {*SMALL, "model.safetensors"} - {"code.py"}
        assert not cache.forget(folder)  # somebody uses it
    assert cache.forget(folder)
    assert not folder.exists()


def test_without_its_manifest_a_folder_in_the_store_is_nothing(apart: Machines) -> None:
    folder = published(apart)
    store().save(f"{key_of(folder)}/{manifest.NAME}", ContentFile(b'{"made": "2026-'))  # torn
    with pytest.raises(StoreFault, match="has no whole"), folders.at_hand([folder]):
        pass
    assert not folder.exists()
    folders.publish(apart.on("one") / "round-1" / "policy")  # what is not whole is put there anew
    with folders.at_hand([apart.on("two") / "round-1" / "policy"]):
        pass


def test_what_was_changed_in_the_store_is_not_taken_for_the_policy(apart: Machines) -> None:
    folder = published(apart)
    store().save(f"{key_of(folder)}/model.safetensors", ContentFile(WEIGHTS[:-1] + b"!"))
    with pytest.raises(StoreFault, match="SHA-256 differs"), folders.at_hand([folder]):
        pass
    assert list(folder.parent.iterdir()) == []


def test_a_file_that_is_gone_from_the_store_is_named(apart: Machines) -> None:
    folder = published(apart)
    store().delete(f"{key_of(folder)}/tokenizer.json")
    with pytest.raises(StoreFault, match=r"tokenizer\.json"), folders.at_hand([folder]):
        pass


def test_what_only_looks_gets_an_outline_with_headers_and_sizes(apart: Machines) -> None:
    folder = published(apart)
    outline = folders.seen(folder)
    assert outline != folder
    require_whole(outline)
    assert (outline / "LICENSE").read_bytes() == SMALL["LICENSE"]
    weights = (outline / "model.safetensors").read_bytes()
    assert (len(weights), weights.count(0)) == (len(WEIGHTS), 5000 + WEIGHTS.count(0))  # of the weights nothing
    assert folders.seen(folder) == outline
    with folders.at_hand([folder]):
        assert folders.seen(folder) == folder


def test_a_download_begins_anywhere_and_has_every_byte(apart: Machines) -> None:
    listed = {one.name: one for one in folders.listed(published(apart))}
    found = listed["model.safetensors"]
    assert found.size == len(WEIGHTS)
    assert b"".join(found.chunks(0)) == WEIGHTS
    assert b"".join(found.chunks(4000)) == WEIGHTS[4000:]


def test_an_interrupted_deletion_can_be_seen_and_finished(apart: Machines) -> None:
    folder = published(apart)
    manifest.delete(key_of(folder))
    store().delete(f"{key_of(folder)}/LICENSE")
    left = len(WEIGHTS) + sum(len(SMALL[name]) for name in ("config.json", "tokenizer.json"))
    assert folders.left_in_store(folder) == folders.size_in_store(folder) == left
    folders.delete(folder)
    assert folders.left_in_store(folder) == 0


def test_deleted_it_is_gone_for_every_machine_and_a_second_time_is_no_fault(apart: Machines) -> None:
    folder = published(apart)
    folders.seen(folder)
    for _ in range(2):
        folders.delete(folder)
    assert list(manifest.names_in(key_of(folder))) == []
    assert folders.seen(folder) == folder
    with pytest.raises(StoreFault, match="has no whole"):
        folders.require(folder)


def test_two_who_want_it_fetch_it_once(apart: Machines, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = published(apart)
    fetches: list[Path] = []
    fetch = folders._fetch
    monkeypatch.setattr(folders, "_fetch", lambda one: (fetches.append(one), fetch(one)))

    def take() -> None:
        with folders.at_hand([folder]):
            assert (folder / "model.safetensors").stat().st_size == len(WEIGHTS)

    threads = [threading.Thread(target=take) for _ in range(4)]  # a lock of a file: threads are as processes
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert fetches == [folder]


def test_who_finds_nothing_while_another_one_fetches_and_uses_it_waits_for_the_fetch_alone(
    apart: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = published(apart)
    monkeypatch.setattr(folders, "MOMENT", 0.05)
    between, came = threading.Event(), threading.Event()
    locked = cache.locked

    @contextmanager
    def locked_late(one: Path, **how: bool) -> Iterator[bool]:
        if how.get("exclusive") and threading.current_thread() is thread:
            between.set()  # it has found nothing
            assert used.wait(20)  # and now somebody has it
        with locked(one, **how) as mine:
            yield mine

    def take() -> None:
        with folders.at_hand([folder]):
            came.set()

    thread, used = threading.Thread(target=take), threading.Event()
    monkeypatch.setattr(cache, "locked", locked_late)
    thread.start()
    assert between.wait(20)
    with folders.at_hand([folder]):
        used.set()
        assert came.wait(20)
    thread.join()


def test_two_who_find_another_copy_hash_it_once_each_and_one_puts_the_stores_in_its_place(
    apart: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_model(apart.on("two") / "round-1" / "policy", b"other")
    folder = published(apart)
    monkeypatch.setattr(folders, "MOMENT", 0.05)
    hashed: list[Path] = []
    of_folder = manifest.of_folder

    def slowly(one: Path) -> manifest.Manifest:
        hashed.append(one)
        time.sleep(0.5)
        return of_folder(one)

    monkeypatch.setattr(manifest, "of_folder", slowly)
    found: list[bytes] = []

    def take(later: float) -> None:
        time.sleep(later)
        with folders.at_hand([folder]):
            found.append((folder / "model.safetensors").read_bytes())

    threads = [threading.Thread(target=take, args=[later]) for later in (0, 0.3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert found == [WEIGHTS, WEIGHTS]
    assert len(hashed) <= 2


def test_a_copy_that_somebody_goes_on_using_is_a_fault_with_a_next_step(
    apart: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_model(apart.on("two") / "round-1" / "policy", b"other")
    folder = published(apart)
    monkeypatch.setattr(folders, "MOMENT", 0.05)
    monkeypatch.setattr(folders, "PATIENCE", 0.3)
    busy = pytest.raises(StoreFault, match="uses another copy of models/round-1/policy")
    with cache.locked(folder), busy, folders.at_hand([folder]):  # taken when the store was away
        pass
    assert folder.is_dir()


def test_a_copy_that_is_not_what_the_store_has_is_set_aside(apart: Machines) -> None:
    make_model(apart.on("two") / "round-1" / "policy", b"of an upload that was killed")
    folder = published(apart)  # another machine trained the round again
    with folders.at_hand([folder]):
        assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    (other,) = folder.parent.glob(".policy.other.*")
    assert (other / "model.safetensors").read_bytes().endswith(b"killed")


def test_a_copy_with_a_mark_is_compared_by_it(apart: Machines) -> None:
    folder = published(apart)
    with folders.at_hand([folder]):
        pass
    one = apart.on("one") / "round-1" / "policy"
    (one / "config.json").write_bytes(b'{"new": 1}')
    folders.publish(one)
    folder = apart.on("two") / "round-1" / "policy"
    with folders.at_hand([folder]):
        assert (folder / "config.json").read_bytes() == b'{"new": 1}'


def test_work_that_the_store_has_too_is_used_as_it_is(apart: Machines) -> None:
    published(apart)
    folder = apart.on("one") / "round-1" / "policy"
    cache.unmark(folder)  # a backup was put back: the files are of another time, and the same
    for path in folder.iterdir():
        os.utime(path, (1, 1))
    with folders.at_hand([folder]):
        assert (folder / "code.py").exists()
    assert cache.is_marked(folder)


def test_what_killed_processes_left_goes_after_a_while(machines: Machines) -> None:
    root = machines.on("one")
    names = [
        "round-1/.policy.fetch.a",
        "round-1/.policy.gone.7",
        ".base-1.fetch.b",
        ".outlines/round-1/.policy.drawn.c",
    ]
    for name in [*names, "round-1/.policy.other.7", "round-1/policy"]:
        (root / name).mkdir(parents=True)
        os.utime(root / name, (time.time() - 2 * cache.DAY,) * 2)
    (root / "round-1" / ".policy.fetch.new").mkdir()
    cache.clear_away()
    assert [name for name in names if (root / name).exists()] == []
    left = sorted(path.name for path in (root / "round-1").iterdir())
    assert left == [".policy.fetch.new", ".policy.other.7", "policy"]


def test_least_lately_used_copies_go_first_and_none_that_is_used(apart: Machines, settings) -> None:
    names = ["round-1", "round-2", "round-3", "round-4"]
    for name in names:
        folders.publish(make_model(apart.on("one") / name / "policy", bytes(400_000)))
    first, second, third, fourth = copies = [apart.on("two") / name / "policy" for name in names]
    with folders.at_hand([first]):
        with folders.at_hand([second, third]):
            pass
        os.utime(settings.MODEL_DIR / ".store" / "round-3~policy.lock", (1, 1))  # used long ago
        settings.MODEL_CACHE_GB = 0.0013  # three of them
        with folders.at_hand([fourth]):
            assert [folder.is_dir() for folder in copies] == [True, True, False, True]
        settings.MODEL_CACHE_GB = 0.0001  # whatever the limit, what is used stays
        with folders.at_hand([third]):
            assert [folder.is_dir() for folder in copies] == [True, False, True, False]


def test_work_that_is_not_in_the_store_is_never_deleted(apart: Machines, settings) -> None:
    folder = published(apart)
    own = make_model(apart.on("two") / "round-2" / "policy")
    settings.MODEL_CACHE_GB = 0.000_000_1
    with folders.at_hand([own, folder]):
        pass
    cache.make_room(1, folder)
    assert own.is_dir()
    assert not cache.forget(own)


def test_a_copy_that_does_not_fit_is_a_full_disk(apart: Machines, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = published(apart)
    monkeypatch.setattr(cache, "SPARE", 1 << 60)
    with pytest.raises(OSError, match="No space left"), folders.at_hand([folder]):
        pass
    assert not folder.exists()


def test_a_fetch_that_was_killed_leaves_nothing_that_counts(apart: Machines) -> None:
    folder = published(apart)
    left = folder.parent / f".{folder.name}.fetch.dead"
    left.mkdir(parents=True)
    (left / "model.safetensors").write_bytes(b"half")
    with folders.at_hand([folder]):
        assert not left.exists()


def test_a_lock_ends_with_its_process(apart: Machines) -> None:
    folder = published(apart)
    with folders.at_hand([folder]):
        pass
    code = (
        "from pathlib import Path; from generation.stores import cache\n"
        f"with cache.locked(Path({str(folder)!r})): print('held', flush=True); input()"
    )
    process = process_apart(code, STORYLOOP_MODEL_DIR=str(apart.settings.MODEL_DIR))
    assert process.stdout
    assert process.stdout.readline() == "held\n"
    assert not cache.forget(folder)
    process.kill()
    process.communicate()
    assert cache.forget(folder)


def test_names_that_lead_elsewhere_make_no_manifest() -> None:
    one = {"bytes": 1, "sha256": ""}
    assert manifest.parse(json.dumps({"made": "2026-01-01", "files": {"../key": one}}).encode()) is None
    assert manifest.parse(json.dumps({"made": "2026-01-01", "files": {"key": one}}).encode())


def test_without_a_store_apart_nothing_is_copied(machines: Machines) -> None:
    folder = make_model(machines.on("one") / "round-1" / "policy")
    folders.publish(folder)
    with folders.at_hand([folder]):
        assert folders.seen(folder) == folder
    folders.delete(folder)
    assert sorted(path.name for path in machines.on("one").iterdir()) == ["round-1"]
    assert folder.is_dir()
