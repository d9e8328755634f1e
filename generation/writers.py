"""The engine of this installation, and the weights that it writes a policy's stories with."""

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

from generation.engines.adapters import read_config, stack_adapters
from generation.engines.opening import TRANSFORMERS, VLLM_SERVER, EngineSettings
from generation.engines.values import EngineError, Weights, adapter_hash, combined_hash
from generation.engines.vllm_options import VllmOptions
from generation.models import Policy
from generation.policies import require_weights
from generation.stores.folders import at_hand, hold

log = logging.getLogger(__name__)

MOST_RANK = 64  # of the adapters of one policy together; see server_process.LORA_RANK


@dataclass(frozen=True)
class Writing:
    """What a policy is written with. accepted: the hashes by which an engine may report these weights."""

    weights: Weights
    accepted: frozenset[str]


def engine_settings(name: str = "") -> EngineSettings:
    """The engine `name`, or the one of STORYLOOP_ENGINE."""
    return EngineSettings(
        name=name or settings.ENGINE,
        vllm=VllmOptions(
            python=settings.VLLM_PYTHON,
            gpu_memory=settings.VLLM_GPU_MEMORY / 100,
            max_model_len=settings.VLLM_MAX_MODEL_LEN,
        ),
        scratch=_scratch(),
        logs=settings.VAR_DIR / "log",
        urls=tuple(settings.VLLM_URLS),
        api_key=settings.VLLM_API_KEY,
        patience=float(settings.VLLM_PATIENCE),
    )


def writing_of(policy: Policy, engine: str = "") -> Writing:
    """The weights for the engine: merged for transformers; for vLLM the adapters of the policy's rounds on the
    base that they began with, so that one server's base serves every round. EngineError if they were deleted.

    They lie on this machine until this process ends: not for the web, nor for a worker.
    """
    require_weights(policy)
    if (engine or settings.ENGINE) != TRANSFORMERS:
        try:
            if found := _on_base(*_adapters(policy)):
                hold(found.weights.directory)
                return found
        except EngineError as error:
            log.warning("%s is written with its merged weights: %s", policy.name, error)
    hold(Path(policy.path))
    return Writing(Weights(Path(policy.path), None, policy.weights_hash), frozenset({policy.weights_hash}))


def announce_adapter(*, parent: Policy, adapter: Path) -> int:
    """Give the vLLM servers a round's adapter the moment it is trained; how many have it now.

    For speed alone: a server that cannot take it now is asked again when stories are written.
    """
    if settings.ENGINE != VLLM_SERVER:
        return 0
    from generation.engines.vllm_fleet import Fleet

    root, adapters = _adapters(parent)
    chosen = engine_settings()
    try:
        writing = _on_base(root, [*adapters, (adapter, adapter_hash(adapter))])
        if writing is None or not writing.weights.directory.is_dir():
            return 0
        fleet = Fleet(
            writing.weights, chosen.urls, api_key=chosen.api_key, scratch=chosen.scratch, patience=1.0, reload=False
        )
        return fleet.prepare_all()
    except EngineError as error:
        log.warning("%s is not on the vLLM servers yet: %s", adapter, error)
        return 0


def _on_base(root: Policy, adapters: list[tuple[Path, str]]) -> Writing | None:
    """`adapters` on the weights of `root`; None if there are none, or too many."""
    if not adapters or sum(int(read_config(path)["r"]) for path, _ in adapters) > MOST_RANK:
        return None
    key = hashlib.sha256("+".join([root.weights_hash, *(known for _, known in adapters)]).encode()).hexdigest()
    adapter = stack_adapters([path for path, _ in adapters], _scratch() / f"stack-{key[:24]}")
    found = combined_hash(root.weights_hash, adapter_hash(adapter))
    return Writing(Weights(Path(root.path), adapter, root.weights_hash), frozenset({found}))


def server_weights(policy: Policy) -> Path:
    """The full weights that a server is started with to serve this policy and the rounds that follow.

    EngineError if they were deleted.
    """
    require_weights(policy)
    root, adapters = _adapters(policy)
    found = Path(root.path if adapters else policy.path)
    hold(found)
    return found


def _adapters(policy: Policy) -> tuple[Policy, list[tuple[Path, str]]]:
    """(the policy with full weights that it all began with, the adapters since, oldest first: folder and hash).

    No adapters if one of them is gone or has changed: the merged weights are still there.
    """
    found: list[tuple[Path, str]] = []
    for one in policy.lineage():
        if not one.adapter_path:
            return one, found
        path = Path(one.adapter_path)
        try:
            with at_hand([path]):  # small: it is fetched here, and not held
                pass
            if not one.adapter_hash or adapter_hash(path) != one.adapter_hash:
                break
        except EngineError:
            break
        found.insert(0, (path, one.adapter_hash))
    return policy, []


def _scratch() -> Path:
    return Path(settings.MODEL_DIR) / "adapters"
