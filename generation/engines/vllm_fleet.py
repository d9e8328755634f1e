"""The vLLM servers of an installation, and how they come to have a policy's weights.

A server says which weights it has by the names it answers to: `sha256-...` is the hash of its base,
or of base and adapter together (values.combined_hash); it refuses every other name. A round's adapter
is loaded while the server runs, always under a new name and a new path: the prefix cache
and the files of another version can never be taken for it.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

from generation.engines import loading
from generation.engines.adapters import zero_adapter
from generation.engines.values import EngineError, Weights, WrongWeights, adapter_hash, combined_hash, weights_hash
from generation.engines.vllm_http import DEFAULT_VERSION, RELOADING, Card, Refused, Server, ServerGone
from generation.engines.vllm_options import KEPT_ADAPTERS

log = logging.getLogger(__name__)

PREFIX, UNCHANGED = "sha256-", "unchanged-"  # the second: a zero adapter on that base
ON_GPU = "storyloop-gpu"  # a second name of the base, said by servers that keep base and adapter rows apart
NO_ROUTE = "Not Found"
ALREADY = "has already been loaded"
AT_ONCE = 128  # stories asked of one server at a time
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 10.0  # seconds until a server that failed is asked again
SETTLE_SECONDS = 60.0  # that another worker may take to replace the weights
START_SECONDS = 30.0  # for the first server to answer


@dataclass
class Served:
    """A server, and what we know of it."""

    server: Server
    model: str = ""  # the name to ask by; "" until it has been prepared
    limit: int = 0
    changeable: bool = False  # its base weights can be replaced while it runs
    in_flight: int = 0
    pause: float = 0.0
    not_before: float = 0.0  # when to ask it again
    said: str = ""  # why it cannot be used now
    hopeless: bool = False  # it answers, and has other weights: asking again changes nothing
    asked: Future[bool] | None = None  # whether it can be used again


class Fleet:
    """Servers that write with `weights`. patience: seconds without any that answers.

    scratch: a folder that the servers can read, too, for the adapter that changes nothing.
    reload: full weights that a server lacks may replace its own (it needs VLLM_SERVER_DEV_MODE=1).
    """

    def __init__(
        self,
        weights: Weights,
        urls: Sequence[str],
        *,
        api_key: str = "",
        scratch: Path,
        patience: float = 120.0,
        reload: bool = True,
    ) -> None:
        if not urls:
            raise EngineError("No vLLM server is named: set STORYLOOP_VLLM_URLS, for example http://127.0.0.1:8100.")
        self.patience, self._weights, self._scratch, self._reload = patience, weights, scratch, reload
        self._limit = loading.context_length(weights.directory)
        self._base = weights.directory_hash or weights_hash(weights.directory)
        self.identity = combined_hash(self._base, adapter_hash(weights.adapter) if weights.adapter else None)
        self._preparing = threading.Lock()
        self.servers = [Served(Server(url, api_key=api_key, connections=AT_ONCE + 4)) for url in urls]

    def limit(self) -> int:
        """Tokens of prompt and story together that every server takes."""
        return min([served.limit for served in self.servers if served.limit] or [self._limit])

    def wait_for_one(self) -> Served:
        """The first server that is ready. EngineError if none is."""
        deadline = time.monotonic() + min(self.patience, START_SECONDS)
        while True:
            for served in self.servers:
                if self.prepared(served):
                    return served
            if time.monotonic() > deadline or all(served.hopeless for served in self.servers):
                raise EngineError(self.none_ready())
            time.sleep(FIRST_PAUSE)

    def prepare_all(self) -> int:
        """Give every server that answers the weights; how many have them now."""
        return sum(self.prepared(served) for served in self.servers)

    def prepare_due(self, submit: Callable[[Callable[[Served], bool], Served], Future[bool]]) -> None:
        """Ask those again that did not answer, when their pause is over. `submit` runs that beside the writing."""
        now = time.monotonic()
        for served in self.servers:
            idle = served.asked is None or served.asked.done()
            if idle and not served.model and served.not_before <= now and not served.hopeless:
                served.asked = submit(self.prepared, served)

    def none_ready(self) -> str:
        return "No vLLM server can write this policy's stories. " + " ".join(s.said for s in self.servers)

    def hang_up(self) -> None:
        for served in self.servers:
            served.server.hang_up()

    def prepared(self, served: Served) -> bool:
        """Whether `served` has our weights now, having loaded what it lacked."""
        try:
            with self._preparing:
                served.model = served.model or self._prepare(served)
            served.hopeless = False
            return True
        except ServerGone as gone:
            self.put_aside(served, str(gone))
        except EngineError as error:
            served.said, served.hopeless = str(error), True
        return False

    def _prepare(self, served: Served) -> str:
        """The name under which the server writes with our weights. Raises EngineError."""
        cards = served.server.models()
        version = served.server.weight_version()
        served.changeable = version is not None
        limits = [card.max_model_len for card in cards if card.max_model_len]
        served.limit = min([self._limit, *limits])
        if _base_hash(cards, version) != self._base:
            self._replace_base(served, cards, version)
        if self._weights.adapter:
            return self._adapter(served, cards, self._weights.adapter)
        base = next(card.name for card in cards if card.parent is None)
        if any(card.name == ON_GPU for card in cards):
            return base
        return self._unchanged(served, cards) or base

    def _replace_base(self, served: Served, cards: list[Card], version: str | None) -> None:
        has = _base_hash(cards, version)
        if not has:
            raise EngineError(
                f"{served.server.url} does not say which weights it has. Start it with “manage.py vllm_server”, or "
                f"with --served-model-name {PREFIX}{self._base}"
            )
        if not served.changeable or not self._reload:
            raise EngineError(
                f"{served.server.url} has the weights {has[:12]}, not {self._base[:12]} of {self._weights.directory}. "
                "Start a server for this policy (manage.py vllm_server), or one whose weights can be replaced "
                "(--reloadable)."
            )
        # a reload that fails leaves the server useless
        loading.check_model_directory(self._weights.directory)
        if weights_hash(self._weights.directory) != self._base:
            raise EngineError(f"The weights in {self._weights.directory} have changed since the policy was registered.")
        if version == RELOADING and served.server.settled_version(SETTLE_SECONDS) == self._base:
            return  # another worker of this run has just done it
        log.info("%s: replacing weights %s by %s", served.server.url, has[:12], self._base[:12])
        served.server.reload(self._weights.directory, self._base)

    def _adapter(self, served: Served, cards: list[Card], path: Path) -> str:
        """The name of our adapter on the server, loaded if it was not; the oldest of ours make room."""
        name = PREFIX + self.identity
        if any(card.name == name for card in cards):
            return name
        try:
            served.server.load_adapter(name, path)
        except (Refused, ServerGone) as no:
            if ALREADY in str(no):
                return name  # by another worker of this run
            served.server.models()  # if it is gone, the adapter is not to blame
            raise EngineError(
                f"{no} The adapter in {path} could not be loaded: the server must be started with --enable-lora, "
                "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True and a --max-lora-rank that suffices, and must see this folder."
            ) from no
        ours = [card.name for card in cards if card.parent and card.name.startswith(PREFIX)]
        for old in ours[: max(0, len(ours) + 2 - KEPT_ADAPTERS)]:
            served.server.unload_adapter(old)
        return name

    def _unchanged(self, served: Served, cards: list[Card]) -> str:
        """A zero adapter's name; "" if the server takes no adapters.

        On a CPU, vLLM 0.32.0 gives rows without an adapter the last slot's when both are in one batch.
        """
        name = UNCHANGED + self._base
        if any(card.name == name for card in cards):
            return name
        try:
            path = zero_adapter(self._weights.directory, self._scratch / name[:30])
            served.server.load_adapter(name, path)
        except EngineError as no:
            if ALREADY in str(no):
                return name
            if isinstance(no, Refused) and (no.status == 404 and NO_ROUTE in str(no) or "not enabled" in str(no)):
                return ""  # it takes no adapters, so it has none to mix up
            served.server.models()  # if it is gone, the adapter is not to blame
            raise EngineError(
                f"{no} The base cannot be asked for beside adapters: the server must see {self._scratch}; a server for "
                "a model that takes no such adapter is to be started without any (manage.py vllm_server --lora-rank 0)."
            ) from no
        return name

    def put_aside(self, served: Served, why: str) -> None:
        served.pause = min(max(2 * served.pause, FIRST_PAUSE), LONGEST_PAUSE)
        served.not_before = time.monotonic() + served.pause
        served.model, served.said = "", why
        log.warning("%s (asked again in %.1f s)", why, served.pause)

    def check_writer(self, served: Served, said: str, asked: str) -> None:
        """Raise EngineError if other weights than ours have written."""
        version = served.server.settled_version() if served.changeable else None
        replaced = version not in (None, DEFAULT_VERSION, self._base)
        if said != asked or replaced:
            raise WrongWeights(
                f"{served.server.url} has written with other weights ({version if replaced else said}) than asked for "
                f"({asked}): somebody has replaced them. What it wrote was not stored. Run again when nobody else "
                "uses the server, or give each policy a server of its own."
            )


def _base_hash(cards: list[Card], version: str | None) -> str:
    """The hash of the base weights, as the server says it; "" if it does not."""
    if version and version != DEFAULT_VERSION:
        return version
    names = [card.name for card in cards if card.parent is None and card.name.startswith(PREFIX)]
    return names[0].removeprefix(PREFIX) if names else ""
