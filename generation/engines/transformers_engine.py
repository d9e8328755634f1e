"""Stories through plain transformers: the embedded default, on a GPU if there is one, else the CPU.

Each story has its own uniform random numbers, drawn from its own seed before the batch begins, so
that a story does not depend on which others are written beside it. Rows that have ended leave
the batch.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from generation.engines import loading
from generation.engines.values import Completion, EngineError, Request, weights_hash


@dataclass
class _Rows:
    """The stories still being written; every tensor's first dimension is the row."""

    indices: torch.Tensor  # [rows] into the batch's requests
    temperature: torch.Tensor  # [rows, 1]
    top_p: torch.Tensor  # [rows, 1]
    min_p: torch.Tensor  # [rows, 1]
    mask: torch.Tensor  # [rows, length so far], 0 on left padding
    position: torch.Tensor  # [rows, 1] of the next token

    def keep(self, rows: torch.Tensor) -> "_Rows":
        return _Rows(*(value[rows] for value in vars(self).values()))


class TransformersEngine:
    """An engine (see values.Engine) over transformers; `batch` stories at a time."""

    def __init__(self, directory: Path, adapter: Path | None = None, *, batch: int = 64) -> None:
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.weights_hash = weights_hash(*[d for d in (directory, adapter) if d])
        self.tokenizer = loading.load_tokenizer(directory)
        self.model = loading.load_model(directory, adapter).to(self.device)
        self.limit = loading.context_length(directory)
        self.batch = batch

    def write(self, requests: Sequence[Request]) -> Iterator[Completion]:
        """Yield a completion for each request; EngineError for a prompt that leaves no room to write."""
        prompts = {r.key: loading.encode_prompt(self.tokenizer, self._render(r)) for r in requests}
        for request in requests:
            if len(prompts[request.key]) + request.sampling.max_tokens > self.limit:
                raise EngineError(
                    f"A prompt of {len(prompts[request.key])} tokens and {request.sampling.max_tokens} for the story "
                    f"do not fit the model's {self.limit}. Shorten the prompt or lower STORYLOOP_MAX_STORY_TOKENS: "
                    f"{request.prompt[:80]!r}"
                )
        # like lengths together: less padding
        ordered = sorted(requests, key=lambda r: len(prompts[r.key]))
        for start in range(0, len(ordered), self.batch):
            part = ordered[start : start + self.batch]
            yield from self._write_batch(part, [prompts[r.key] for r in part])

    def _render(self, request: Request) -> str:
        return loading.render_prompt(self.tokenizer, request.prompt)

    @torch.inference_mode()
    def _write_batch(self, requests: list[Request], prompts: list[list[int]]) -> list[Completion]:
        width = max(map(len, prompts))
        pad = self.tokenizer.pad_token_id or 0
        ids = self._tensor([[pad] * (width - len(p)) + p for p in prompts])
        mask = self._tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
        noise = self._noise(requests)
        rows = _Rows(
            indices=torch.arange(len(requests), device=self.device),
            temperature=self._tensor([[r.sampling.temperature] for r in requests]),
            top_p=self._tensor([[r.sampling.top_p] for r in requests]),
            min_p=self._tensor([[r.sampling.min_p] for r in requests]),
            mask=mask,
            position=mask.sum(1, keepdim=True),
        )
        written: list[list[int]] = [[] for _ in requests]
        reasons = ["length"] * len(requests)
        output = self.model(
            ids, attention_mask=mask, position_ids=(mask.cumsum(1) - 1).clamp(min=0), use_cache=True, logits_to_keep=1
        )
        for step in range(noise.shape[1]):
            uniform = noise[rows.indices, step]
            tokens = sample(output.logits[:, -1], rows.temperature, rows.top_p, rows.min_p, uniform)
            going = self._record(requests, rows, tokens, written, reasons)
            if not going.any():
                break
            if not going.all():
                rows, tokens = rows.keep(going), tokens[going]
                output.past_key_values.batch_select_indices(going.nonzero().squeeze(1))
            rows.mask = torch.cat([rows.mask, rows.mask.new_ones(len(tokens), 1)], 1)
            output = self.model(
                tokens[:, None],
                attention_mask=rows.mask,
                position_ids=rows.position,
                past_key_values=output.past_key_values,
                use_cache=True,
            )
            rows.position = rows.position + 1
        return [self._completion(r, ids, why) for r, ids, why in zip(requests, written, reasons, strict=True)]

    def _record(
        self,
        requests: list[Request],
        rows: _Rows,
        tokens: torch.Tensor,
        written: list[list[int]],
        reasons: list[str],
    ) -> torch.Tensor:
        """Append the sampled tokens to `written`; return [rows] bool, true where the story goes on."""
        going = []
        for index, token in zip(rows.indices.tolist(), tokens.tolist(), strict=True):
            ended = token == self.tokenizer.eos_token_id
            if ended:
                reasons[index] = "stop"
            else:
                written[index].append(token)
            going.append(not ended and len(written[index]) < requests[index].sampling.max_tokens)
        return torch.tensor(going, device=self.device)

    def _noise(self, requests: list[Request]) -> torch.Tensor:
        """[requests, longest story] uniform numbers, each row from its own seed."""
        longest = max(r.sampling.max_tokens for r in requests)
        generators = [torch.Generator().manual_seed(r.sampling.seed) for r in requests]
        return torch.stack([torch.rand(longest, generator=g) for g in generators]).to(self.device)

    def _completion(self, request: Request, ids: list[int], reason: str) -> Completion:
        text = self.tokenizer.decode(ids, skip_special_tokens=True)
        return Completion(request.key, self._render(request), text.strip(), tuple(ids), reason)

    def _tensor(self, values: Any) -> torch.Tensor:
        return torch.tensor(values, device=self.device)


def sample(
    logits: torch.Tensor,
    temperature: torch.Tensor,
    top_p: torch.Tensor,
    min_p: torch.Tensor,
    uniform: torch.Tensor,
) -> torch.Tensor:
    """Draw one token a row by inverting the distribution function at `uniform`.

    logits [rows, vocabulary]; temperature, top_p and min_p [rows, 1]; uniform [rows] in [0, 1).
    Returns token ids [rows]. Temperature 0 takes the likeliest token. Kept are the fewest tokens
    whose probability reaches top_p, and of these the ones of at least min_p times the likeliest,
    both after the temperature (see values.SamplingParams).
    """
    probabilities, order = torch.softmax(logits.float() / temperature.clamp(min=1e-6), -1).sort(-1, descending=True)
    before = probabilities.cumsum(-1) - probabilities
    kept = probabilities.masked_fill((before >= top_p) | (probabilities < min_p * probabilities[:, :1]), 0.0)
    cumulative = kept.cumsum(-1)
    drawn = torch.searchsorted(cumulative, uniform[:, None] * cumulative[:, -1:], right=True)
    # rounding must never pick a token that was left out
    drawn = torch.minimum(drawn, (kept > 0).sum(-1, keepdim=True) - 1)
    drawn = torch.where(temperature == 0, torch.zeros_like(drawn), drawn)
    return order.gather(-1, drawn).squeeze(-1)
