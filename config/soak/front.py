"""The production configuration on this machine: the units' own commands, and what a browser's request looks like
when it has come through deploy/nginx.conf. There is no TLS on the way: the web server speaks none in production either.
"""

import shlex
import sys
from collections.abc import Mapping

from django.conf import settings

from config import services

UNITS = settings.BASE_DIR / "deploy" / "systemd"
HOST = "stories.example.org"  # reserved for examples: nobody's
ORIGIN = f"https://{HOST}"
# as in deploy/storyloop.env.example; the secret key is the folder's own
ENVIRONMENT = {
    "STORYLOOP_URL": ORIGIN,
    "STORYLOOP_HOSTS": f"{HOST},127.0.0.1",
    "STORYLOOP_BEHIND_PROXY": "true",
    "STORYLOOP_LOG_FORMAT": "json",
    "OMP_NUM_THREADS": "1",  # the trainer leaves the other cores to the pages, as on a GPU it would
}


def commands(port: int) -> dict[str, list[str]]:
    """Of web, worker and beat. The worker claims all queues, since there may be no GPU for the last."""
    web = unit_command("web")
    web[web.index("--port") + 1] = str(port)
    return {"web": web, "worker": services.worker_command(), "beat": unit_command("beat")}


def unit_command(name: str) -> list[str]:
    """What storyloop-NAME.service starts, with this Python."""
    lines = (UNITS / f"storyloop-{name}.service").read_text().splitlines()
    (started,) = (line.removeprefix("ExecStart=") for line in lines if line.startswith("ExecStart="))
    return [sys.executable, *shlex.split(started)[1:]]


def headers(number: int) -> Mapping[str, str]:
    """Of the client `number`. nginx opens a connection for each request and closes it."""
    address = f"198.18.{number // 250}.{number % 250 + 1}"  # RFC 2544: for benchmarks
    return {"Host": HOST, "X-Forwarded-Proto": "https", "X-Forwarded-For": address, "Connection": "close"}
