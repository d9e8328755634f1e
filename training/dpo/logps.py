"""Log-probabilities of completions."""

from typing import Any

import torch
import torch.nn.functional as F

from training.dpo.data import Group


def completion_logps(model: Any, groups: list[Group], pad_id: int) -> torch.Tensor:
    """Sum of log-probabilities of each completion's tokens given its prompt, in nats, fp32.

    Returns [completions of all groups, in order]. Prompt tokens and padding count nothing; the
    end token counts.
    """
    rows = [(g.prompt_ids, c) for g in groups for c in g.completions]
    width = max(len(p) + len(c) for p, c in rows)
    device = next(model.parameters()).device
    ids = torch.full((len(rows), width), pad_id)
    mask = torch.zeros(len(rows), width, dtype=torch.long)
    counted = torch.zeros(len(rows), width, dtype=torch.bool)
    for index, (prompt, completion) in enumerate(rows):
        end = len(prompt) + len(completion)
        ids[index, :end] = torch.tensor(prompt + completion)
        mask[index, :end] = 1
        counted[index, len(prompt) : end] = True
    ids, mask, counted = ids.to(device), mask.to(device), counted.to(device)
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
    # position t predicts token t + 1
    targets = ids[:, 1:].masked_fill(~counted[:, 1:], -100)
    nll = F.cross_entropy(logits[:, :-1].float().transpose(1, 2), targets, ignore_index=-100, reduction="none")
    return -nll.sum(1)


def completion_lengths(groups: list[Group]) -> torch.Tensor:
    """Tokens of each completion, the end token included; [completions of all groups, in order]."""
    return torch.tensor([float(len(c)) for g in groups for c in g.completions])
