"""Pushing a policy: what the Hub's own client really sends, to a server on this machine."""

import base64
import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from generation.policies import register_policy
from tests.environment import ROOT

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]


class Hub(ThreadingHTTPServer):
    """Answers as the Hub's API does, and keeps what it was sent."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[tuple[str, str]] = []
        self.tokens: set[str | None] = set()
        self.repository: dict[str, Any] = {}
        self.files: dict[str, bytes] = {}
        self.uploads: dict[str, bytes] = {}
        self.status = 200

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *args: object) -> None:
        pass

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _answer(self, found: object, status: int = 200) -> None:
        body = json.dumps(found).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        self.server.asked.append(("GET", self.path))
        self._answer({"error": "You may not write here."}, self.server.status)

    def do_PUT(self) -> None:
        self.server.uploads[self.path.rsplit("/", 1)[-1]] = self._body()
        self._answer({})

    def do_POST(self) -> None:
        body = self._body()
        self.server.asked.append(("POST", self.path))
        self.server.tokens.add(self.headers.get("Authorization"))
        if self.server.status != 200:
            self._answer({"error": "You may not write here."}, self.server.status)
        elif self.path == "/api/repos/create":
            self.server.repository = json.loads(body)
            self._answer({"url": f"{self.server.url}/owner/stories", "id": "owner/stories"})
        elif self.path.endswith("/preupload/main"):
            names = [file["path"] for file in json.loads(body)["files"]]
            self._answer({"files": [{"path": name, "uploadMode": mode(name), "shouldIgnore": False} for name in names]})
        elif self.path.endswith("/info/lfs/objects/batch"):
            up = f"{self.server.url}/up/"
            wanted = json.loads(body)["objects"]
            found = [{**one, "actions": {"upload": {"href": up + one["oid"]}}} for one in wanted]
            self._answer({"transfer": "basic", "objects": found})
        elif self.path.endswith("/commit/main"):
            self._commit([json.loads(line) for line in body.splitlines()])
        else:
            self._answer({"errors": [], "warnings": []})

    def _commit(self, lines: list[dict[str, Any]]) -> None:
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                self.server.files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                self.server.files[value["path"]] = self.server.uploads[value["oid"]]
        self._answer({"commitUrl": f"{self.server.url}/owner/stories/commit/abc", "commitOid": "abc", "success": True})


def mode(name: str) -> str:
    return "lfs" if name.endswith(".safetensors") else "regular"


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def push(hub: Hub, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command, in a process of its own: the client reads its environment once."""
    given = {
        "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1", "STORYLOOP_HUB_ENDPOINT": hub.url,
        "STORYLOOP_HUB_TOKEN": "hf_secret", **environment,
    }  # fmt: skip
    command = [sys.executable, "manage.py", "push_policy", "base", "owner/stories", *options]
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, **given}, capture_output=True, text=True, check=False, timeout=60
    )


def test_the_weights_and_the_card_arrive_as_they_are_in_a_private_repository(hub: Hub, tiny_model: Path) -> None:
    register_policy(name="base", path=tiny_model)
    done = push(hub)
    assert done.returncode == 0, done.stderr + str(hub.asked)
    assert f"base is at {hub.url}/owner/stories/commit/abc" in done.stdout
    assert hub.repository["visibility"] == "private", hub.repository
    assert (hub.repository["name"], hub.repository["organization"]) == ("stories", "owner")
    assert hub.tokens == {"Bearer hf_secret"}
    weights = hub.files.pop("model.safetensors")
    assert hashlib.sha256(weights).digest() == hashlib.sha256((tiny_model / "model.safetensors").read_bytes()).digest()
    assert b"\n# base\n" in hub.files.pop("README.md")
    assert hub.files == {name: (tiny_model / name).read_bytes() for name in hub.files}
    assert {"config.json", "tokenizer.json"} <= set(hub.files)


def test_what_the_hub_refuses_is_told_without_the_token(hub: Hub, tiny_model: Path) -> None:
    register_policy(name="base", path=tiny_model)
    hub.status = 403
    done = push(hub)
    assert done.returncode != 0
    assert f"{hub.url} did not take it" in done.stderr
    assert "You may not write here." in done.stderr
    assert "hf_secret" not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_without_a_token_or_offline_it_says_what_is_missing(tiny_model: Path, settings, monkeypatch) -> None:
    register_policy(name="base", path=tiny_model)
    settings.HUB_TOKEN = ""
    with pytest.raises(CommandError, match="STORYLOOP_HUB_TOKEN is not set"):
        call_command("push_policy", "base", "owner/stories")
    settings.HUB_TOKEN = "hf_secret"
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(CommandError, match="HF_HUB_OFFLINE is set"):
        call_command("push_policy", "base", "owner/stories")
