"""One running vLLM server, spoken to over HTTP: OpenAI's completions, vLLM's adapters and reload.

Every way in which a server can say no becomes one of two exceptions: ServerGone (wait, or ask
another one) and Refused (asking again changes nothing).
"""

import contextlib
import json
import socket
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakSet

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

from generation.engines.values import EngineError

CONNECT_SECONDS = 10.0
ANSWER_SECONDS = 900.0  # a long story behind a long queue
ADMIN_SECONDS = 300.0  # loading weights
RELOADING = "reloading"  # the version of weights that are nobody's
DEFAULT_VERSION = "default"  # what vLLM calls the weights that it was started with


class ServerGone(EngineError):
    """The server does not answer, or died while it answered: what was asked may be asked again."""


class Refused(EngineError):
    """The server has understood, and says no."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Card:
    """A model that the server offers: the base (parent is None) or an adapter."""

    name: str
    parent: str | None
    max_model_len: int | None


@dataclass(frozen=True)
class Answer:
    """What came back for one prompt. token_ids as sampled, the end token with them."""

    model: str
    token_ids: list[int]
    finish_reason: str
    logps: list[float]


class Server:
    """A vLLM server at `url`. Safe to use from several threads."""

    def __init__(self, url: str, *, api_key: str = "", connections: int = 128) -> None:
        self.url = url.rstrip("/")
        self._open: WeakSet[HTTPConnection] = WeakSet()
        self._lock = threading.Lock()
        self._hung_up = False
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._pool = urllib3.connection_from_url(
            self.url, maxsize=connections, block=True, retries=False, headers=headers
        )
        server = self

        class Tracked(HTTPSConnection if self.url.startswith("https") else HTTPConnection):  # type: ignore[misc]
            """Known while it is open, so that hang_up() can end what waits on it."""

            def connect(self) -> None:
                super().connect()
                with server._lock:
                    server._open.add(self)
                    if server._hung_up:
                        raise OSError("hung up")

        self._pool.ConnectionCls = Tracked

    # --- what it is ---------------------------------------------------------------------------------

    def version(self) -> str:
        return str(self._call("GET", "/version", seconds=CONNECT_SECONDS)["version"])

    def models(self) -> list[Card]:
        found = self._call("GET", "/v1/models", seconds=CONNECT_SECONDS)
        if "data" not in found:
            raise Refused(200, f"What {self.url} answers is not what a vLLM server says: is it another program's?")
        return [Card(card["id"], card.get("parent"), card.get("max_model_len")) for card in found["data"]]

    def weight_version(self) -> str | None:
        """What was said of its base weights when they were last changed; None if they cannot be changed."""
        try:
            return str(self._call("GET", "/weight_info", seconds=CONNECT_SECONDS)["weight_version"])
        except Refused as no:
            if no.status in (404, 405):
                return None
            raise

    # --- what it writes -----------------------------------------------------------------------------

    def complete(self, model: str, token_ids: list[int], sampling: dict[str, Any], *, logps: bool = False) -> Answer:
        """One story by `model`. `sampling` in vLLM's words."""
        body = {"model": model, "prompt": token_ids, "return_token_ids": True, **sampling}
        found = self._call("POST", "/v1/completions", {**body, "logprobs": 0} if logps else body)
        (choice,) = found["choices"]
        numbers = (choice.get("logprobs") or {}).get("token_logprobs") or []
        return Answer(found["model"], choice["token_ids"], choice["finish_reason"], numbers)

    # --- its weights --------------------------------------------------------------------------------

    def load_adapter(self, name: str, path: Path) -> None:
        """Load the adapter under a new name. Raises Refused; 404 if it takes none, or cannot read `path`."""
        self._call("POST", "/v1/load_lora_adapter", {"lora_name": name, "lora_path": str(path)}, seconds=ADMIN_SECONDS)

    def unload_adapter(self, name: str) -> None:
        """Stories in work on it are finished. An adapter that is not there is no fault."""
        with contextlib.suppress(Refused):
            self._call("POST", "/v1/unload_lora_adapter", {"lora_name": name}, seconds=ADMIN_SECONDS)

    def reload(self, directory: Path, version: str) -> None:
        """Replace the base weights by those in `directory`, known as `version` from then on.

        Stories in work are finished first. Until all is done the weights are nobody's: whoever dies in
        the middle, or fails, leaves a server that the next one reloads again.
        """
        self._call("POST", "/update_weight_version", {"new_version": RELOADING}, seconds=ADMIN_SECONDS)
        self._call("POST", "/pause?mode=wait", seconds=ADMIN_SECONDS)
        body = {"method": "reload_weights", "kwargs": {"weights_path": str(directory)}}
        self._call("POST", "/collective_rpc", body, seconds=ADMIN_SECONDS)
        # what was computed with the old weights would be taken for the new ones'
        self._call("POST", "/reset_prefix_cache", seconds=ADMIN_SECONDS)
        self._call("POST", "/resume", seconds=ADMIN_SECONDS)
        self._call("POST", "/update_weight_version", {"new_version": version}, seconds=ADMIN_SECONDS)

    def settled_version(self, seconds: float = ADMIN_SECONDS) -> str | None:
        """weight_version when nobody is replacing the weights any more; "reloading" if that takes too long."""
        deadline = time.monotonic() + seconds
        while (version := self.weight_version()) == RELOADING and time.monotonic() < deadline:
            time.sleep(0.2)
        return version

    # --- the wire -----------------------------------------------------------------------------------

    def hang_up(self) -> None:
        """End every request that waits for its answer, and every later one: vLLM stops writing those stories."""
        with self._lock:
            self._hung_up = True
            waiting = [connection.sock for connection in self._open if connection.sock]
        for sock in waiting:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def open_again(self) -> None:
        self._hung_up = False

    def _call(
        self, method: str, path: str, body: dict[str, Any] | None = None, *, seconds: float = ANSWER_SECONDS
    ) -> dict[str, Any]:
        timeout = urllib3.Timeout(connect=CONNECT_SECONDS, read=seconds)
        try:
            answer = self._pool.request(method, path, json=body, timeout=timeout)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise ServerGone(f"{self.url} does not answer: {_reason(error)}") from error
        if answer.status >= 500:
            raise ServerGone(f"{self.url} answers {answer.status}: {_said(answer.data)}")
        if answer.status >= 400:
            raise Refused(answer.status, f"{self.url} refuses ({answer.status}): {_said(answer.data)}")
        return _json(answer.data)


def _reason(error: Exception) -> str:
    cause = error.__cause__ or error
    return f"{type(cause).__name__} {cause}".strip()


def _json(data: bytes) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except ValueError:
        return {}  # the adapter routes answer in words
    return found if isinstance(found, dict) else {}


def _said(data: bytes) -> str:
    """The message in an answer that is an error, in OpenAI's form or FastAPI's."""
    found = _json(data)
    error = found.get("error", found)
    said = error.get("message") or error.get("detail") if isinstance(error, dict) else error
    return str(said or data.decode(errors="replace"))[:500]
