"""The output layer and its log-probabilities in one step, without logits that stay in memory.

With a vocabulary of 150,000, the logits of one optimizer batch are larger than the model. They are
made a chunk of positions at a time, and made again in the backward pass if they were too many to keep
(as Liger Kernel and TRL do on GPUs; Hsu et al., 2024).
"""

from typing import Any

import torch

from training.dpo.linear import onednn_is_faster, product
from training.dpo.shapes import CHUNK

GPU_CHUNKS = 8  # a GPU takes so many at once: small products would leave it idle


def fits(layer: Any) -> bool:
    """Whether the output layer is a plain matrix, so that this module computes what it would."""
    return type(layer) is torch.nn.Linear and layer.bias is None


def token_logps(hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """log softmax(hidden [n, d] times weight [vocabulary, d] transposed) at targets [n]; [n], fp32."""
    return _TokenLogps.apply(hidden, weight, targets)


def _rows_at_once(weight: torch.Tensor) -> int:
    return max(1, CHUNK * (GPU_CHUNKS if weight.device.type == "cuda" else 1) // weight.shape[0])


def _times(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """x times weight transposed, in fp32, whatever the factors' precision."""
    if x.dtype == torch.float32:
        return product(x, weight) if x.device.type == "cpu" and onednn_is_faster() else x @ weight.t()
    if x.device.type == "cuda":
        return torch.mm(x, weight.t(), out_dtype=torch.float32)
    return x.float() @ weight.float().t()


class _TokenLogps(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        with torch.autocast(hidden.device.type, enabled=False):
            factor = weight.to(hidden.dtype)
            rows = _rows_at_once(weight)
            kept = []
            found = hidden.new_empty(len(targets), dtype=torch.float32)
            sums = torch.empty_like(found)
            for start in range(0, len(targets), rows):
                part = slice(start, start + rows)
                logits = _times(hidden[part], factor)
                sums[part] = logits.logsumexp(1)
                found[part] = logits.gather(1, targets[part, None])[:, 0] - sums[part]
                kept = [logits]
        wanted = any(ctx.needs_input_grad)
        ctx.logits = kept[0] if wanted and len(targets) <= rows else None
        ctx.save_for_backward(hidden, weight, targets, sums)
        return found

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # type: ignore[override]
        hidden, weight, targets, sums = ctx.saved_tensors
        with torch.autocast(hidden.device.type, enabled=False):
            factor = weight.to(hidden.dtype)
            rows = _rows_at_once(weight)
            to_hidden = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
            to_weight = torch.zeros_like(weight) if ctx.needs_input_grad[1] else None
            for start in range(0, len(targets), rows):
                part = slice(start, start + rows)
                logits = _times(hidden[part], factor) if ctx.logits is None else ctx.logits
                # d log p(target) / d logits = (one-hot of target) - softmax
                slope = logits.sub_(sums[part, None]).exp_()
                slope[torch.arange(len(slope), device=slope.device), targets[part]] -= 1
                slope = slope.mul_(-grad[part, None]).to(hidden.dtype)
                if to_hidden is not None:
                    to_hidden[part] = _times(slope, factor.t())
                if to_weight is not None:
                    to_weight += _times(slope.t(), hidden[part].t())
        ctx.logits = None
        return to_hidden, to_weight, None
