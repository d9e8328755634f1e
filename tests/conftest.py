"""The suite's own PostgreSQL server, its tiny model, and what most tests begin with."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from config import postgres
from tests.environment import VAR


@pytest.fixture(scope="session")
def django_db_modify_db_settings() -> Iterator[None]:
    """Runs the real server as long as the suite."""
    from django.db import connection

    # the queue lives in the same database, under the name that the settings know
    connection.settings_dict["TEST"]["NAME"] = connection.settings_dict["NAME"]
    with postgres.running(VAR / "postgres"):
        yield


@pytest.fixture(scope="session", autouse=True)
def _fast_passwords(django_db_setup: None) -> None:
    from django.conf import settings

    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    settings.STORAGES = {
        **settings.STORAGES,
        "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
    }


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a real causal model of random weights, made on the spot in a second."""
    from tests.models import make_tiny_model

    return make_tiny_model(tmp_path_factory.mktemp("model") / "tiny")
