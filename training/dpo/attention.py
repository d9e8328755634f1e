"""Attention over a pack: each completion sees its own prompt and itself.

Registered with transformers' AttentionInterface, so that no model's code is changed. Without a
mask of tokens x tokens: every branch (prompt + completion) is an ordinary causal sequence, which
is what the fast kernels know. The few prompt positions that a second branch computes again are
thrown away.
"""

from typing import Any

import torch
import torch.nn.functional as F
from transformers import AttentionInterface, AttentionMaskInterface

from training.dpo.packing import Pack

NAME = "storyloop_pack"


class NotSupported(RuntimeError):
    """The model's attention is of another kind; its stories are trained padded."""


def pack_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    pack: Pack | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of query [1, heads, tokens, d] on key and value [1, kv heads, tokens, d] of a pack.

    Returns [1, tokens, heads, d]. Raises NotSupported for what causal attention alone is not.
    """
    if pack is None or softcap or others.get("s_aux") is not None or others.get("position_bias") is not None:
        raise NotSupported("its attention is not plain causal attention")
    if sliding_window and sliding_window < max(branch.length for branch in pack.branches):
        raise NotSupported("its sliding window is shorter than the stories")
    options = {"scale": scaling, "is_causal": True, "enable_gqa": query.shape[1] != key.shape[1]}
    if query.device.type == "cpu":
        return _branch_by_branch(query, key, value, pack, options), None
    return _in_rows(query, key, value, pack, options), None


def _branch_by_branch(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, pack: Pack, options: Any) -> torch.Tensor:
    """One call a branch: no cell of padding is computed. A CPU has no launch to pay for."""
    # split, not slices: the gradient of a slice is a whole pack of zeros
    pieces = [t.split(pack.pieces, dim=2) for t in (q, k, v)]
    found, at, prompt = [], -1, 0
    for branch in pack.branches:
        if branch.first:
            at, prompt = at + 1, at + 1
        at += 1
        query, key, value = (torch.cat([p[prompt], p[at]], dim=2) for p in pieces)
        out = F.scaled_dot_product_attention(query, key, value, **options)
        skipped = 0 if branch.first else branch.prompt[1] - branch.prompt[0]
        found.append(out.transpose(1, 2)[:, skipped:])
    return torch.cat(found, dim=1)


def _in_rows(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, pack: Pack, options: Any) -> torch.Tensor:
    """One call for all branches, padded behind: a causal row never looks at what follows it."""
    gather, scatter = pack.padded.gather, pack.padded.scatter
    # [branches, heads, width, d]
    query, key, value = (
        t[0].transpose(0, 1).index_select(0, gather.flatten()).unflatten(0, gather.shape).transpose(1, 2)
        for t in (q, k, v)
    )
    out = F.scaled_dot_product_attention(query, key, value, **options)
    return out.transpose(1, 2).flatten(0, 1).index_select(0, scatter)[None]


def no_mask(*_: Any, **__: Any) -> None:
    """The pack says who sees whom."""


AttentionInterface.register(NAME, pack_attention)
AttentionMaskInterface.register(NAME, no_mask)
