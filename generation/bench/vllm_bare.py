"""vLLM called directly, by vLLM's own Python: python -m generation.bench.vllm_bare CASE.json OUT.json

All requests at once, as its documentation has it: the fastest way there is to use it.
"""

import sys
from pathlib import Path

from generation.bench.case import Case, Measured, Write, measure
from generation.engines import loading
from generation.engines.values import Request


def run(case: Case) -> Measured:
    import vllm

    llm = vllm.LLM(
        model=case.model,
        dtype="float32",
        enforce_eager=True,
        kv_cache_memory_bytes=256 * 2**20,
        # a prompt cut in two whose story has a seed of its own kills the engine on a CPU
        enable_chunked_prefill=False,
        max_num_batched_tokens=8192,
    )
    return measure(case, _write(case, llm), vllm.__version__)


def _write(case: Case, llm: object) -> Write:
    import vllm

    tokenizer = loading.load_tokenizer(Path(case.model))
    ends = loading.stop_token_ids(Path(case.model), tokenizer)

    def params(request: Request) -> vllm.SamplingParams:
        how = request.sampling
        return vllm.SamplingParams(
            temperature=how.temperature,
            top_p=how.top_p,
            min_p=how.min_p,
            seed=how.seed,
            max_tokens=how.max_tokens,
            stop_token_ids=list(ends) if case.natural else [],
            ignore_eos=not case.natural,
            detokenize=False,  # the text once at the end, as ours does
        )

    def write(requests: list[Request]) -> list[int]:
        rendered = [loading.render_prompt(tokenizer, request.prompt) for request in requests]
        given = [{"prompt_token_ids": loading.encode_prompt(tokenizer, text)} for text in rendered]
        done = llm.generate(given, [params(request) for request in requests], use_tqdm=False)  # type: ignore[attr-defined]
        stories = [story.outputs[0].token_ids for story in done]
        tokenizer.batch_decode(stories, skip_special_tokens=True)
        return [len(ids) - (bool(ids) and ids[-1] in ends) for ids in stories]

    return write


def main() -> None:
    given, found = sys.argv[1:]
    run(Case.read(Path(given))).write(Path(found))


if __name__ == "__main__":
    main()
