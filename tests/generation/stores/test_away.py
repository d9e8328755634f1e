"""A store that does not answer, refuses, hangs or is not mounted: pages wait little, workers ask again."""

import socket
from pathlib import Path

import pytest
from django.test import Client
from django.test.signals import template_rendered

from generation.stores import folders, places, single
from generation.stores.faults import StoreFault
from generation.stores.places import store
from tests.generation.stores.conftest import Machines, use
from tests.generation.stores.test_folders import make_model, published


def test_a_copy_is_used_while_the_store_is_away(apart: Machines) -> None:
    folder = published(apart)
    with folders.at_hand([folder]):
        pass
    use(apart.settings, "s3://stories", "http://127.0.0.1:1")
    with folders.at_hand([folder]):
        assert folder.is_dir()


def test_a_store_that_is_not_there_says_so_and_pages_ask_it_no_more_for_a_while(
    machines: Machines, s3_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = machines.on("one") / "round-1" / "policy"
    use(machines.settings, "s3://no-such-bucket", s3_server)
    with pytest.raises(StoreFault, match="refuses this machine"):
        folders.publish(make_model(folder))
    folder = machines.on("two") / "round-1" / "policy"
    use(machines.settings, "s3://stories", "http://127.0.0.1:1")
    with pytest.raises(StoreFault, match="does not answer"):
        folders.require(folder)
    with places.in_haste():
        assert folders.seen(folder) == folder
    monkeypatch.setattr(places, "storages", {})
    with places.in_haste():  # asked again, it would be a KeyError
        assert folders.seen(folder) == folder
        assert folders.left_in_store(folder) == 0
        assert single.tail(folder / "trainer.log") is None
        assert single.find(machines.settings.EXPORT_DIR / "round-1.jsonl").name == "round-1.jsonl"
    with pytest.raises(KeyError):  # a worker asks
        folders.seen(folder)


def test_what_the_store_lacks_is_not_asked_for_at_each_look(apart: Machines, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = published(apart)
    lost = folder.parent / "lost"
    with places.in_haste():
        assert folders.seen(lost) == lost
        assert folders.seen(folder) != folder  # the store is there
        monkeypatch.setattr(places, "storages", {})
        assert folders.seen(lost) == lost


def test_a_page_gives_a_store_that_hangs_little_time(machines: Machines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("generation.stores.s3.HASTY_READ_SECONDS", 0.2)
    log = machines.on("one") / "round-1" / "trainer.log"
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes the connection and says nothing
        use(machines.settings, "s3://stories", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with places.in_haste():
            assert single.tail(log) is None
        silent.settimeout(5)
        silent.accept()[0].close()  # one attempt
        silent.settimeout(0.5)
        with pytest.raises(TimeoutError):
            silent.accept()
        log.parent.mkdir(parents=True)
        log.write_text("step 7")
        single.put_tail(log, 50)  # nor does the round wait again
        with pytest.raises(TimeoutError):
            silent.accept()


def test_a_folder_that_is_not_mounted_is_not_written(machines: Machines, tmp_path: Path) -> None:
    folder = make_model(machines.on("one") / "round-1" / "policy")
    mount = tmp_path / "mnt"
    mount.mkdir()
    use(machines.settings, f"file://{mount}/store")
    with pytest.raises(StoreFault, match="is not mounted on this machine"):
        folders.publish(folder)
    with pytest.raises(StoreFault, match=r"storyloop-store\.txt"):
        folders.require(machines.on("two") / "round-1" / "policy")
    assert list(mount.iterdir()) == []
    store().begin()
    machines.on("one")
    folders.publish(folder)


@pytest.mark.django_db
def test_who_looks_at_a_page_is_in_haste(client: Client) -> None:
    found: list[bool] = []

    def note(**_: object) -> None:
        found.append(places.is_in_haste())

    template_rendered.connect(note)
    try:
        client.get("/log-in/")
    finally:
        template_rendered.disconnect(note)
    assert set(found) == {True}
    assert not places.is_in_haste()
