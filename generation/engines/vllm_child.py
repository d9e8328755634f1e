"""The program that writes with vLLM in a process of its own: python -m generation.engines.vllm_child.

It runs in vLLM's environment. Requests come as lines of JSON on standard input, stories leave as
lines of JSON on standard output; when its input ends it finishes what it has and leaves, and
the GPU is free. vllm_engine.py is the other end.
"""

import argparse
import json
import os
import queue
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, TextIO

from generation.engines import loading
from generation.engines.adapters import read_config
from generation.engines.values import LENGTH, STOP, TOO_LONG, EngineError, SamplingParams, Weights
from generation.engines.vllm_options import VllmOptions, engine_arguments, vllm_sampling


class Writer:
    """vLLM's engine with one policy's weights."""

    def __init__(self, weights: Weights, options: VllmOptions) -> None:
        from vllm import LLM
        from vllm.lora.request import LoRARequest
        from vllm.platforms import current_platform

        before = weights.stamps()
        self.hash = weights.identity()
        self.tokenizer = loading.load_tokenizer(weights.directory)
        self.stops = loading.stop_token_ids(weights.directory, self.tokenizer)
        rank = int(read_config(weights.adapter)["r"]) if weights.adapter else 0
        arguments = engine_arguments(weights.directory, options, cpu=current_platform.is_cpu(), lora_rank=rank)
        llm = LLM(model=str(weights.directory), disable_log_stats=True, **arguments)
        self.engine = llm.llm_engine
        self.limit = llm.llm_engine.model_config.max_model_len
        self.lora = LoRARequest("policy", 1, str(weights.adapter)) if weights.adapter else None
        # by itself: with a request on it, a fault would leave the engine waiting for ever
        if self.lora and not self.engine.add_lora(self.lora):
            raise EngineError(f"vLLM did not take the adapter in {weights.adapter}.")
        weights.require_unchanged(before)
        self.read = lru_cache(64)(self._read)  # a prompt's stories come together
        self.wanted: dict[str, tuple[dict[str, Any], int]] = {}

    def add(self, request: dict[str, Any]) -> dict[str, Any] | None:
        """Begin a story; the answer at once if the prompt leaves no room for it."""
        from vllm.inputs import TokensPrompt

        rendered, ids = self.read(request["prompt"])
        sampling = SamplingParams(**request["sampling"])
        known = {"key": request["key"], "rendered_prompt": rendered, "weights_hash": self.hash}
        if len(ids) + sampling.max_tokens > self.limit:
            return {**known, "text": "", "token_ids": [], "finish_reason": TOO_LONG, "logps": []}
        name = str(request["key"])
        self.wanted[name] = (known, sampling.max_tokens)
        params = self._params(sampling, logps=request["logps"])
        self.engine.add_request(name, TokensPrompt(prompt_token_ids=ids), params, lora_request=self.lora)
        return None

    def _read(self, prompt: str) -> tuple[str, list[int]]:
        rendered = loading.render_prompt(self.tokenizer, prompt)
        return rendered, loading.encode_prompt(self.tokenizer, rendered)

    def step(self) -> Iterator[dict[str, Any]]:
        """One token more for each story in work; those that came to their end."""
        for output in self.engine.step():
            if output.finished:
                known, most = self.wanted.pop(output.request_id)
                yield {**known, **self._story(output.outputs[0], most)}

    def busy(self) -> bool:
        return bool(self.engine.has_unfinished_requests())

    def _params(self, sampling: SamplingParams, *, logps: bool) -> Any:
        import vllm
        from vllm.sampling_params import RequestOutputKind

        return vllm.SamplingParams(
            **vllm_sampling(sampling),
            stop_token_ids=list(self.stops),
            detokenize=False,
            logprobs=0 if logps else None,
            output_kind=RequestOutputKind.FINAL_ONLY,  # not the story so far at each of its tokens
        )

    def _story(self, output: Any, most: int) -> dict[str, Any]:
        ids = list(output.token_ids)
        ended = bool(ids) and ids[-1] in self.stops
        if not ended and len(ids) < most:
            raise EngineError(f"vLLM broke a story off after {len(ids)} tokens ({output.finish_reason}).")
        kept = ids[:-1] if ended else ids
        found = output.logprobs or []
        return {
            "text": self.tokenizer.decode(kept, skip_special_tokens=True).strip(),
            "token_ids": kept,
            "finish_reason": STOP if ended else LENGTH,
            "logps": [step[token].logprob for step, token in zip(found, kept, strict=False)],
        }


def _read(lines: "queue.Queue[str | None]") -> None:
    for line in sys.stdin:
        lines.put(line)
    lines.put(None)


def serve(writer: Writer, lines: "queue.Queue[str | None]", out: TextIO) -> None:
    """Write what comes in until the input has ended and all is written."""
    open_ = True
    while open_ or writer.busy():
        while open_:
            try:
                line = lines.get(block=not writer.busy())
            except queue.Empty:
                break
            if line is None:
                open_ = False
            elif refused := writer.add(json.loads(line)):
                _say(out, {"completion": refused})
        if writer.busy():
            for completion in writer.step():
                _say(out, {"completion": completion})


def _say(out: TextIO, value: dict[str, Any]) -> None:
    out.write(json.dumps(value) + "\n")
    out.flush()


def _own_output() -> TextIO:
    """Standard output for us alone: what vLLM prints goes to standard error."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return out


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--adapter", type=Path)
    parser.add_argument("--options", required=True, help="VllmOptions as JSON")
    given = parser.parse_args()
    out = _own_output()
    try:
        import vllm

        writer = Writer(Weights(given.directory, given.adapter), VllmOptions.from_json(given.options))
    except Exception as error:  # whatever vLLM raises: the other end says it to a person
        _say(out, {"error": f"{type(error).__name__}: {error}" if not isinstance(error, EngineError) else str(error)})
        raise
    _say(out, {"ready": {"version": vllm.__version__, "weights_hash": writer.hash, "limit": writer.limit}})
    lines: queue.Queue[str | None] = queue.Queue()
    threading.Thread(target=_read, args=(lines,), daemon=True).start()
    with suppress(BrokenPipeError):  # the other end has gone
        serve(writer, lines, out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
