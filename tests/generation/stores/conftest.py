"""Two machines on one model store: a bucket, or a folder that both see."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from generation.stores.backends import backends
from generation.stores.places import store
from tests import s3


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    with s3.running() as address:
        yield address


class Machines:
    """`on(name)`: from now on this process is that machine, with folders of its own."""

    def __init__(self, settings, tmp_path: Path) -> None:
        self.settings, self.root = settings, tmp_path

    def on(self, name: str) -> Path:
        folder = self.root / name
        self.settings.MODEL_DIR, self.settings.EXPORT_DIR = folder / "models", folder / "exports"
        self.settings.IMPORT_DIR = folder / "imports"
        folder.mkdir(exist_ok=True)
        return self.settings.MODEL_DIR


def use(settings, url: str, address: str = "", secret: str = "secret") -> None:
    found = {"endpoint_url": address, "region_name": "us-east-1", "access_key": "access", "secret_key": secret}
    settings.MODEL_STORE = url
    settings.STORAGES = {**settings.STORAGES, **backends(url, settings.MODEL_DIR, found)}


@pytest.fixture
def machines(settings, tmp_path: Path) -> Machines:
    return Machines(settings, tmp_path)


@pytest.fixture(params=["s3", "folder"])
def apart(request: pytest.FixtureRequest, machines: Machines, tmp_path: Path) -> Machines:
    """Machine "one", with a store apart."""
    machines.on("one")
    if request.param == "s3":
        address = request.getfixturevalue("s3_server")
        use(machines.settings, f"{s3.URL}/{tmp_path.name}", address)
    else:
        (tmp_path / "shared").mkdir()
        use(machines.settings, f"file://{tmp_path}/shared")
        store().begin()
    return machines
