"""What goes into an engine and what comes out. Values only: no database, no settings."""

import hashlib
from collections import deque
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

STOP, LENGTH, TOO_LONG = "stop", "length", "too_long"  # finish reasons


class EngineError(RuntimeError):
    """The engine cannot write; the message says what to do."""


class WrongWeights(EngineError):
    """Other weights than the policy's have written, or would: whoever writes with them has to stop."""


@dataclass(frozen=True)
class SamplingParams:
    """How one story is drawn. The steps come in vLLM's order: penalty, temperature, min_p, top_k, top_p.

    repetition_penalty divides the positive logits of tokens that stood before (prompt included) and
    multiplies the negative ones (Keskar et al., 2019, section 4.1); 1 leaves them. temperature 0 is
    greedy. min_p leaves out tokens less likely than min_p times the likeliest (Nguyen et al., 2024,
    section 3). top_k keeps the k likeliest, 0 all (Fan et al., 2018, section 5.1). top_p is nucleus
    sampling (Holtzman et al., 2020, section 3.1). max_tokens counts the end token.
    """

    temperature: float
    top_p: float
    min_p: float
    seed: int
    max_tokens: int
    top_k: int = 0
    repetition_penalty: float = 1.0


@dataclass(frozen=True)
class Request:
    """One story wanted: `key` comes back with it. logps: the tokens' log-probabilities are wanted, too."""

    key: int
    prompt: str
    sampling: SamplingParams
    logps: bool = False


@dataclass(frozen=True)
class Completion:
    """One story written, or refused because the prompt leaves no room for it (finish_reason "too_long")."""

    key: int
    rendered_prompt: str  # what the model read before it: the prompt, in its chat template if it has one
    text: str
    token_ids: tuple[int, ...]  # as sampled, without the end token
    finish_reason: str  # STOP, LENGTH or TOO_LONG
    weights_hash: str  # of the weights that wrote it, as the engine reports them
    logps: tuple[float, ...] = ()  # of token_ids under the bare model (temperature 1), if asked for


# Hands out up to so many requests that are ready now. An empty list means none now: there may be
# more after the completions of those in flight (a story is drawn again). An engine asks it at least
# every other second, for none if it has no room: whoever wants the writing to stop raises from it.
Take = Callable[[int], list[Request]]


class Engine(Protocol):
    """Writes stories with one policy. weights_hash is of the weights that are really loaded."""

    name: str  # as in STORYLOOP_ENGINE
    version: str  # of the library that computes
    weights_hash: str

    def write(self, take: Take) -> "Generator[Completion]":
        """Yield a completion for each request taken, as it is finished, in any order.

        Ends when nothing is in flight and `take` has nothing. Closing the iterator stops the writing.
        """
        ...

    def close(self) -> None:
        """Give back what the engine holds: memory, processes, the GPU."""
        ...


@dataclass(frozen=True)
class Weights:
    """A policy on disk: full weights, and the PEFT adapter to be applied to them, if any.

    directory_hash: what weights_hash(directory) was when the policy was registered, if it is known:
    asking a server for these weights by name needs no look at files of many gigabytes.
    """

    directory: Path
    adapter: Path | None = None
    directory_hash: str = ""

    def identity(self) -> str:
        """The hash of these files now; see combined_hash."""
        return combined_hash(weights_hash(self.directory), adapter_hash(self.adapter) if self.adapter else None)

    def stamps(self) -> list[tuple[str, int, int]]:
        """Size and time of every file: the same before and after loading, if nobody wrote to them meanwhile."""
        folders = [folder for folder in (self.directory, self.adapter) if folder]
        files = [path for folder in folders for path in sorted(folder.glob("*.safetensors"))]
        return [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files]

    def require_unchanged(self, stamps: list[tuple[str, int, int]]) -> None:
        """Raise WrongWeights if the files are not what they were."""
        if self.stamps() != stamps:
            raise WrongWeights(f"The weights in {self.directory} changed while they were loaded. Start again.")


def taking(requests: Iterable[Request]) -> Take:
    """Hands out `requests`, each once."""
    waiting = deque(requests)
    return lambda count: [waiting.popleft() for _ in range(min(count, len(waiting)))]


def combined_hash(base: str, adapter: str | None) -> str:
    """What identifies base and adapter together: the base's own hash without an adapter."""
    return hashlib.sha256(f"{base}+{adapter}".encode()).hexdigest() if adapter else base


def adapter_hash(directory: Path) -> str:
    """SHA-256 over the adapter's weights and its settings: the scale stands in these."""
    config = directory / "adapter_config.json"
    if not config.exists():
        raise EngineError(f"{directory} holds no PEFT adapter: it has no {config.name}.")
    return hashlib.sha256(weights_hash(directory).encode() + config.read_bytes()).hexdigest()


def weights_hash(*directories: Path) -> str:
    """SHA-256 over the names and bytes of the safetensors files in `directories`, in order."""
    digest = hashlib.sha256()
    for directory in directories:
        files = sorted(directory.glob("*.safetensors"))
        if not files:
            raise EngineError(f"{directory} holds no .safetensors file: other formats are not loaded")
        for path in files:
            digest.update(path.name.encode() + b"\0")
            with path.open("rb") as file:
                while chunk := file.read(1 << 20):
                    digest.update(chunk)
    return digest.hexdigest()
