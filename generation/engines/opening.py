"""Which engine writes: chosen by name, made ready with a policy's weights. Imports only what is chosen."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from generation.engines.values import Engine, EngineError, Weights
from generation.engines.vllm_options import VllmOptions

TRANSFORMERS, VLLM, VLLM_SERVER = ENGINES = ("transformers", "vllm", "vllm-server")


@dataclass(frozen=True)
class EngineSettings:
    """name: one of ENGINES. urls, api_key and patience (seconds) are of vllm-server, the rest of vllm.

    scratch: a folder for small adapters that the servers can read, too. logs: where vLLM's own output goes.
    """

    name: str
    vllm: VllmOptions
    scratch: Path
    logs: Path
    urls: tuple[str, ...] = ()
    api_key: str = ""
    patience: float = 120.0
    reload: bool = True  # the servers' full weights may be replaced
    batch: int = 64  # stories at once, with transformers


@contextmanager
def opened(weights: Weights, settings: EngineSettings) -> Iterator[Engine]:
    """The engine, ready to write with `weights`; closed at the end. Raises EngineError."""
    engine = open_engine(weights, settings)
    try:
        yield engine
    finally:
        engine.close()


def open_engine(weights: Weights, settings: EngineSettings) -> Engine:
    """See opened(). The caller closes it."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    if settings.name == VLLM:
        from generation.engines.vllm_engine import VllmEngine

        return VllmEngine(weights, settings.vllm, logs=settings.logs)
    if settings.name == VLLM_SERVER:
        from generation.engines.vllm_server import VllmServerEngine

        return VllmServerEngine(
            weights,
            settings.urls,
            api_key=settings.api_key,
            scratch=settings.scratch,
            patience=settings.patience,
            reload=settings.reload,
        )
    if settings.name == TRANSFORMERS:
        from transformers.utils import logging

        from generation.engines.transformers_engine import TransformersEngine

        logging.disable_progress_bar()
        return TransformersEngine(weights, batch=settings.batch)
    raise EngineError(f"There is no engine {settings.name!r}: STORYLOOP_ENGINE may be {', '.join(ENGINES)}.")
