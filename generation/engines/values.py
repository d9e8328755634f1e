"""What goes into an engine and what comes out. Values only: no database, no settings."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


class EngineError(RuntimeError):
    """The engine cannot write; the message says what to do."""


@dataclass(frozen=True)
class SamplingParams:
    """How one story is drawn.

    temperature 0 is greedy; top_p is nucleus sampling (Holtzman et al., 2020, section 3.1); min_p
    leaves out tokens less likely than min_p times the likeliest (Nguyen et al., 2024, section 3).
    """

    temperature: float
    top_p: float
    min_p: float
    seed: int
    max_tokens: int


@dataclass(frozen=True)
class Request:
    """One story wanted: `key` comes back with it."""

    key: int
    prompt: str
    sampling: SamplingParams


@dataclass(frozen=True)
class Completion:
    """One story written. token_ids are those sampled, without the end token."""

    key: int
    rendered_prompt: str  # what the model read before it: the prompt, in its chat template if it has one
    text: str
    token_ids: tuple[int, ...]
    finish_reason: str  # "stop" or "length"


class Engine(Protocol):
    """Writes stories with one policy. weights_hash is of the weights that are really loaded."""

    weights_hash: str

    def write(self, requests: Sequence[Request]) -> Iterator[Completion]:
        """Yield a completion for each request as it is finished, in any order."""
        ...


def weights_hash(*directories: Path) -> str:
    """SHA-256 over the safetensors files of a model and, in order, of its adapter."""
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
