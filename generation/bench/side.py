"""One engine in a process of its own: python -m generation.bench.side NAME CASE.json OUT.json"""

import sys
from pathlib import Path
from typing import Any

from generation.bench.case import Case, Measured, Write, measure
from generation.engines import loading
from generation.engines.values import Engine, Request, Weights, taking


def transformers(case: Case) -> Measured:
    import torch

    from generation.engines.transformers_engine import TransformersEngine

    torch.set_num_threads(1)
    return _of(TransformersEngine(Weights(Path(case.model)), batch=case.batch), case)


def vllm(case: Case) -> Measured:
    from generation.engines.vllm_engine import VllmEngine
    from generation.engines.vllm_options import VllmOptions

    options = VllmOptions(python=Path(case.vllm_python))
    return _of(VllmEngine(Weights(Path(case.model)), options), case)


def _of(engine: Engine, case: Case) -> Measured:
    try:
        return measure(case, lambda wanted: [len(c.token_ids) for c in engine.write(taking(wanted))], engine.version)
    finally:
        engine.close()


def generate_loop(case: Case) -> Measured:
    """What most people write: transformers' generate, batch after batch in the order of the prompts, with
    num_return_sequences (without, each prompt given as often as it has stories, it is no faster)."""
    import torch
    import transformers as library

    torch.set_num_threads(1)
    torch.manual_seed(case.seed)
    directory = Path(case.model)
    tokenizer = loading.load_tokenizer(directory)
    return measure(case, _loop(case, loading.load_model(directory), tokenizer), library.__version__)


def _loop(case: Case, model: Any, tokenizer: Any) -> Write:
    ends = set(loading.stop_token_ids(Path(case.model), tokenizer))
    pad = tokenizer.pad_token_id or 0
    tokenizer.padding_side = "left"

    def write(requests: list[Request]) -> list[int]:
        counts: list[int] = []
        firsts = requests[:: case.stories]
        each = max(case.batch // case.stories, 1)
        for start in range(0, len(firsts), each):
            part = firsts[start : start + each]
            rendered = [loading.render_prompt(tokenizer, request.prompt) for request in part]
            ids = [loading.encode_prompt(tokenizer, text) for text in rendered]
            batch = tokenizer.pad({"input_ids": ids}, return_tensors="pt")
            found = model.generate(
                **batch,
                num_return_sequences=case.stories,
                do_sample=True,
                temperature=case.temperature,
                top_p=case.top_p,
                top_k=0,
                min_p=case.min_p,
                max_new_tokens=part[0].sampling.max_tokens,
                pad_token_id=pad,
            )
            for row in found[:, batch["input_ids"].shape[1] :].tolist():
                tokenizer.decode(row, skip_special_tokens=True)
                counts.append(next((at for at, token in enumerate(row) if token in ends), len(row)))
        return counts

    return write


SIDES = {"vllm": vllm, "transformers": transformers, "generate_loop": generate_loop}


def main() -> None:
    name, given, found = sys.argv[1:]
    SIDES[name](Case.read(Path(given))).write(Path(found))


if __name__ == "__main__":
    main()
