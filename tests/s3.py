"""A server that speaks S3 (moto) on 127.0.0.1, in a process of its own."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from generation.engines.processes import die_with_parent

BUCKET, PREFIX = "stories", "storyloop"
URL = f"s3://{BUCKET}/{PREFIX}"
KEYS = {"STORYLOOP_S3_ACCESS_KEY": "access", "STORYLOOP_S3_SECRET_KEY": "secret", "STORYLOOP_S3_REGION": "us-east-1"}
SERVE = """
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server
server = make_server("127.0.0.1", 0, DomainDispatcherApplication(create_backend_app), threaded=True)
print(server.port, flush=True)
server.serve_forever()
"""


@contextmanager
def running() -> Iterator[str]:
    """The address of a server with an empty bucket."""
    import boto3

    process = subprocess.Popen(
        [sys.executable, "-c", SERVE],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        preexec_fn=die_with_parent,  # noqa: PLW1509
    )
    try:
        assert process.stdout
        address = f"http://127.0.0.1:{int(process.stdout.readline())}"
        boto3.client(
            "s3", endpoint_url=address, region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b"
        ).create_bucket(Bucket=BUCKET)
        yield address
    finally:
        process.kill()
        process.communicate()
