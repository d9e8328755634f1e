"""Whether the engine is well: it is started, and writes one short story with a policy's weights."""

import time
from dataclasses import replace

from generation.engines.opening import TRANSFORMERS, opened
from generation.engines.values import TOO_LONG, Completion, EngineError, Request, SamplingParams, taking
from generation.models import EngineCheck, Policy, Prompt
from generation.writers import engine_settings, writing_of

TOKENS = 32
PROMPT = "Write a story about a brave fox, for children aged 5-6."
KEPT = 50  # the latest checks


def check_engine(*, policy: Policy, engine: str, compare: bool = False) -> EngineCheck:
    """Start `engine`, have it write greedily, and keep what came of it.

    compare: the same with transformers; other tokens mean that the engine is not well.
    """
    found = EngineCheck(engine=engine, policy=policy, well=False)
    try:
        completion = _write(found, policy, engine)
        if completion.finish_reason == TOO_LONG:
            raise EngineError(f"The prompt and {TOKENS} tokens do not fit the model: it cannot write stories.")
        found.message = completion.text.replace("\x00", "") or "(an empty story)"
        found.well = True
        if compare and engine != TRANSFORMERS:
            _compare(found, policy, completion)
    except (EngineError, OSError) as error:
        found.well, found.message = False, str(error)
    found.save()
    kept = EngineCheck.objects.values_list("pk")[:KEPT]
    EngineCheck.objects.exclude(pk__in=kept).delete()
    return found


def _write(found: EngineCheck, policy: Policy, name: str) -> Completion:
    begin = time.monotonic()
    writing = writing_of(policy, name)
    # a look must not take the weights from under somebody who writes
    with opened(writing.weights, replace(engine_settings(name), reload=False)) as engine:
        found.version = engine.version[:40]
        ready = time.monotonic()
        prompt = Prompt.objects.first()
        sampling = SamplingParams(temperature=0.0, top_p=1.0, min_p=0.0, seed=1, max_tokens=TOKENS)
        (completion,) = engine.write(taking([Request(0, prompt.text if prompt else PROMPT, sampling)]))
        for reported in (engine.weights_hash, completion.weights_hash):
            if reported not in writing.accepted:
                raise EngineError(
                    f"The weights of {policy.name} have changed since it was registered: it has {reported[:12]} now."
                )
    found.start_seconds, found.write_seconds = ready - begin, time.monotonic() - ready
    return completion


def _compare(found: EngineCheck, policy: Policy, completion: Completion) -> None:
    other = _write(EngineCheck(engine=TRANSFORMERS), policy, TRANSFORMERS)
    same = sum(a == b for a, b in zip(completion.token_ids, other.token_ids, strict=False))
    if completion.token_ids != other.token_ids:
        found.well = False
        found.message = (
            f"The engine writes other stories than transformers does: of {len(other.token_ids)} greedy tokens {same} "
            f"are the same. {found.message}"
        )
