"""The settings of the model store: STORYLOOP_MODEL_STORE, and for S3 its server and keys."""

import importlib.util
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from config import env
from generation.stores.backends import S3, backends
from generation.stores.places import ALIAS

HERE = ("127.0.0.1", "localhost", "::1")


def storages(url: str, model_dir: Path) -> dict[str, dict[str, Any]]:
    """The entries of STORAGES for models. Raises BadEnvironment."""
    try:
        found = backends(url, model_dir, _s3())
    except ValueError as error:
        shown = re.sub(r"//[^/]*@", "//…@", url)  # somebody may have written the key into it
        raise env.BadEnvironment(f"STORYLOOP_MODEL_STORE is {shown!r}: {error}") from error
    if found[ALIAS]["BACKEND"] == S3 and not importlib.util.find_spec("storages"):
        raise env.BadEnvironment(
            "STORYLOOP_MODEL_STORE begins with s3:// and django-storages is not installed here: "
            "pip install -c constraints.txt 'django-storages[s3]'"
        )
    return found


def _s3() -> dict[str, Any]:
    """Without keys boto3 looks where Amazon's tools do: AWS_ACCESS_KEY_ID, ~/.aws, the machine's role."""
    endpoint = env.text("STORYLOOP_S3_ENDPOINT").rstrip("/")
    access = env.secret("STORYLOOP_S3_ACCESS_KEY")
    secret = env.secret("STORYLOOP_S3_SECRET_KEY")
    if bool(access) != bool(secret):
        raise env.BadEnvironment("Of STORYLOOP_S3_ACCESS_KEY and STORYLOOP_S3_SECRET_KEY one is not set: set both")
    if endpoint:
        env.server("STORYLOOP_S3_ENDPOINT", endpoint, key="STORYLOOP_S3_ACCESS_KEY")
        if endpoint.startswith("http:") and urlsplit(endpoint).hostname not in HERE and not _plain():
            raise env.BadEnvironment(
                f"STORYLOOP_S3_ENDPOINT is {endpoint}: weights and stories could be read and changed on the way. Say "
                "https, or STORYLOOP_S3_PLAIN_HTTP=true in a network of your own"
            )
    found = {
        "endpoint_url": endpoint,
        "region_name": env.text("STORYLOOP_S3_REGION"),
        "access_key": access,
        "secret_key": secret,
    }
    return {name: value for name, value in found.items() if value}


def _plain() -> bool:
    return env.boolean("STORYLOOP_S3_PLAIN_HTTP")
