"""Real vLLM on the CPU, the demo writer, and two rounds' adapters trained on it by DPO."""

import json
import random
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from generation.demo_writer import corpus
from generation.engines import processes
from generation.engines.adapters import stack_adapters
from generation.engines.server_process import ServerOptions, start_server, wait_for_server
from generation.engines.values import Completion, Engine, Request, SamplingParams, Weights, taking
from generation.engines.vllm_engine import VllmEngine
from generation.engines.vllm_http import Server
from generation.engines.vllm_options import VllmOptions
from generation.engines.vllm_server import VllmServerEngine
from training.dpo import command as train
from training.dpo import merge

PROMPTS = (
    "Write a story about a brave fox who learns to share, for children aged 5-6.",
    "Tell a fairy tale about a turtle named Dot and family. Readers are 5-6 years old.",
    "写一个关于小熊学会诚实的故事，给5-6岁的孩子。",
    "Write a story about two rabbits and a storm.",
)


@dataclass(frozen=True)
class Writers:
    """The base, and two rounds on it: each with its adapter and its merged weights."""

    base: Path
    one: Path
    one_merged: Path
    two: Path
    two_merged: Path
    both: Path  # one and two stacked: two's policy on the base


def asked(key: int, *, prompt: str = "", tokens: int = 48, logps: bool = False, **sampling: Any) -> Request:
    """A request for a story with a seed of its own."""
    given = {"temperature": 1.0, "top_p": 1.0, "min_p": 0.02, "seed": 1000 + 5 * key, **sampling}
    text = prompt or PROMPTS[key % len(PROMPTS)]
    return Request(key, text, SamplingParams(max_tokens=tokens, **given), logps=logps)


def greedy(key: int, **more: Any) -> Request:
    return asked(key, temperature=0.0, min_p=0.0, logps=True, **more)


def written(engine: Engine, requests: list[Request]) -> dict[int, Completion]:
    """What the engine writes, by key."""
    return {completion.key: completion for completion in engine.write(taking(requests))}


def interrupted(engine: Engine, requests: list[Request], act: Callable[[], object]) -> dict[int, Completion]:
    """What the engine writes while `act()` happens, once, after the first story."""
    found: dict[int, Completion] = {}
    for completion in engine.write(taking(requests)):
        if not found:
            act()
        found[completion.key] = completion
    return found


def ids(completions: dict[int, Completion]) -> dict[int, tuple[int, ...]]:
    return {key: completion.token_ids for key, completion in completions.items()}


@pytest.fixture(scope="session")
def base_writer() -> Path:
    """The demo writer, built once a machine."""
    from django.conf import settings

    from generation.demo_writer.build import build
    from generation.demo_writer.recipe import Recipe

    return build(settings.WRITER_CACHE / f"demo-writer-{Recipe().key()}")


@pytest.fixture(scope="package")
def writers(base_writer: Path, starting: "Starting", tmp_path_factory: pytest.TempPathFactory) -> Writers:
    """The demo writer and two rounds of LoRA on it, by the real trainer, while a server starts."""
    folder = tmp_path_factory.mktemp("rounds")
    one = _trained(base_writer, folder / "one", seed=1)
    two = _trained(one / "merged", folder / "two", seed=2)
    both = stack_adapters([one / "policy", two / "policy"], folder / "both")
    return Writers(base_writer, one / "policy", one / "merged", two / "policy", two / "merged", both)


def _trained(model: Path, out: Path, *, seed: int) -> Path:
    rows = list(corpus.pairs(seed, 120))
    chooser = random.Random(seed)
    pairs = [(*chooser.choice(rows), chooser.choice(rows)[1]) for _ in range(16)]
    data = out.with_suffix(".jsonl")
    data.write_text("\n".join(json.dumps({"prompt": p + "\n", "chosen": c, "rejected": r}) for p, c, r in pairs))
    options = ["--method", "lora", "--lora-rank", "8", "--learning-rate", "5e-3", "--epochs", "3", "--batch-pairs", "8"]
    assert train.main(["--model", str(model), "--data", str(data), "--out", str(out), *options]) == 0
    assert merge.main([str(model), str(out / "policy"), str(out / "merged")]) == 0
    return out


@pytest.fixture(scope="session")
def options(vllm_python: Path) -> VllmOptions:
    return VllmOptions(vllm_python)


# Each start of vLLM takes seconds: the engines in process serve all tests here, and end with them.


@pytest.fixture(scope="package")
def on_base(writers: Writers, options: VllmOptions, tmp_path_factory: pytest.TempPathFactory) -> Iterator[VllmEngine]:
    """The engine in process with the base's weights."""
    engine = VllmEngine(Weights(writers.base), options, logs=tmp_path_factory.mktemp("base"))
    yield engine
    engine.close()


@pytest.fixture(scope="package")
def on_both(writers: Writers, options: VllmOptions, tmp_path_factory: pytest.TempPathFactory) -> Iterator[VllmEngine]:
    """The engine in process with both rounds' adapters on the base."""
    engine = VllmEngine(Weights(writers.base, writers.both), options, logs=tmp_path_factory.mktemp("both"))
    yield engine
    engine.close()


@dataclass(frozen=True)
class Running:
    """A server process and how it is reached."""

    process: "subprocess.Popen[str]"
    server: Server
    options: ServerOptions
    log: Path

    @property
    def url(self) -> str:
        return self.server.url


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Starting:
    """A server process that may not answer yet."""

    process: "subprocess.Popen[str]"
    options: ServerOptions
    log: Path

    def ready(self) -> Running:
        server = wait_for_server(self.process, self.options, log=self.log, seconds=180)
        return Running(self.process, server, self.options, self.log)


@contextmanager
def begun(directory: Path, options: VllmOptions, log: Path, **more: Any) -> Iterator[Starting]:
    """A real server for the model in `directory`, ended with all its processes."""
    chosen = ServerOptions(options, **{"port": free_port(), "finish_seconds": 2, **more})
    process = start_server(directory, chosen, log=log)
    try:
        yield Starting(process, chosen, log)
    finally:
        processes.stop(process, grace=10)


@pytest.fixture(scope="package")
def starting(base_writer: Path, options: VllmOptions, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Starting]:
    """The server of `shared`, as early as possible: it takes its time."""
    with begun(base_writer, options, tmp_path_factory.mktemp("log") / "server.log", reloadable=True) as found:
        yield found


@pytest.fixture(scope="package")
def shared(starting: Starting, writers: Writers) -> Running:
    """One server for all tests that leave it as it was: the base, adapters welcome, weights replaceable."""
    return starting.ready()


@pytest.fixture
def through(tmp_path: Path) -> Iterator[Callable[..., VllmServerEngine]]:
    """Makes engines over servers, closed at the end of the test."""
    with ExitStack() as stack:

        def make(weights: Weights, *servers: "Running | str", **more: Any) -> VllmServerEngine:
            urls = [one if isinstance(one, str) else one.url for one in servers]
            engine = VllmServerEngine(weights, urls, scratch=tmp_path, **{"patience": 60.0, **more})
            stack.callback(engine.close)
            return engine

        yield make
