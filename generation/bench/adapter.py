"""How long it takes until a round's adapter writes: a running vLLM server, busy with the base's stories."""

import socket
import threading
import time
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from generation.bench.case import Case
from generation.engines import processes
from generation.engines.adapters import WEIGHTS, zero_adapter
from generation.engines.server_process import ServerOptions, start_server, wait_for_server
from generation.engines.values import Request, SamplingParams, Weights, taking
from generation.engines.vllm_fleet import Fleet
from generation.engines.vllm_options import VllmOptions
from generation.engines.vllm_server import VllmServerEngine

SETTLED = 4.0  # seconds: until the prompts of all of them have been read, which is one long step
BUSY = 128  # stories of the base that are in work meanwhile


def adapter_in_use(case: Case, folder: Path) -> dict[str, float]:
    """{"load_seconds", "first_token_seconds"}, both from the moment that the adapter is on the disk."""
    base = Path(case.model)
    options = ServerOptions(VllmOptions(python=Path(case.vllm_python)), port=_free_port(), finish_seconds=1)
    log = folder / "server.log"
    process = start_server(base, options, log=log)
    try:
        wait_for_server(process, options, log=log)
        urls = [f"http://127.0.0.1:{options.port}"]
        busy = VllmServerEngine(Weights(base), urls, scratch=folder)
        stories = busy.write(taking(_requests(case)))
        thread = threading.Thread(target=lambda: list(stories), daemon=True)
        thread.start()
        time.sleep(SETTLED)
        # as training announces it: the base's hash is known from the policy
        return _first_token(Weights(base, _trained(base, folder), busy.weights_hash), urls, folder)
    finally:
        processes.stop(process)


def _first_token(weights: Weights, urls: list[str], folder: Path) -> dict[str, float]:
    begin = time.perf_counter()
    served = Fleet(weights, urls, scratch=folder).wait_for_one()
    loaded = time.perf_counter() - begin
    served.server.complete(served.model, [1, 2, 3], {"max_tokens": 1, "temperature": 0.0})
    return {"load_seconds": loaded, "first_token_seconds": time.perf_counter() - begin}


def _trained(base: Path, folder: Path) -> Path:
    """An adapter that changes the model, as a round would leave it."""
    directory = zero_adapter(base, folder / "round")
    arrays = load_file(directory / WEIGHTS)
    chance = np.random.default_rng(1)
    save_file({n: chance.normal(0, 0.1, a.shape).astype(np.float32) for n, a in arrays.items()}, directory / WEIGHTS)
    return directory


def _requests(case: Case) -> list[Request]:
    sampling = [SamplingParams(1.0, 1.0, 0.02, seed=5 * key, max_tokens=case.tokens) for key in range(BUSY)]
    return [Request(key, case.prompts[key % len(case.prompts)], params) for key, params in enumerate(sampling)]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
