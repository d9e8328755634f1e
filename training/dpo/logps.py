"""Log-probabilities of completions, a token at a time, in fp32.

Two ways to the same numbers: packed (packing.py, attention.py: each prompt once, no padding), and
padded, an ordinary forward pass of transformers, which is right for every causal model and against
which the packed one is checked before a run.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from training.dpo import head
from training.dpo.attention import NAME, NotSupported
from training.dpo.data import Group
from training.dpo.distributed import unwrapped
from training.dpo.packing import Pack, pack

# between packed and padded, nats a token: at most, in fp32; a story's mean, where weights are in bfloat16
TOLERANCE, ROUNDED_TOLERANCE = 1e-3, 5e-2
# what some models do to their logits behind the output layer
LOGIT_CHANGES = ("final_logit_softcapping", "logit_scale", "logits_scaling")


@dataclass
class Scorer:
    """Computes log-probabilities with `model`, in the way that suits it.

    packed: lay groups out without padding. fused: the output layer and its loss in one step.
    precision "bf16": matrix products in bfloat16; sums in fp32 in any case.
    """

    model: Any
    pad_id: int
    packed: bool = True
    fused: bool = True
    precision: str = "fp32"

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def token_logps(self, groups: Sequence[Group]) -> list[torch.Tensor]:
        """For each completion of all groups, in order: log-probabilities [its tokens], nats, fp32."""
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16"):
            if not self.packed:
                return padded_token_logps(self.model, groups, self.pad_id)
            packed = pack(groups).to(self.device)
            found = self._fused(packed) if self.fused else self._plain(packed)
        return list(found.split(packed.lengths))

    def _plain(self, packed: Pack) -> torch.Tensor:
        logits = self.model(**_inputs(packed), logits_to_keep=packed.predictors).logits[0]
        return -F.cross_entropy(logits.float(), packed.targets, reduction="none")

    def _fused(self, packed: Pack) -> torch.Tensor:
        inner = unwrapped(self.model)
        hidden = inner.get_decoder()(**_inputs(packed)).last_hidden_state[0, packed.predictors]
        if self.precision == "bf16":
            hidden = hidden.to(torch.bfloat16)  # autocast leaves the residual stream in fp32
        return head.token_logps(hidden, inner.get_output_embeddings().weight, packed.targets)


def _inputs(packed: Pack) -> dict[str, Any]:
    return {"input_ids": packed.ids, "position_ids": packed.positions, "use_cache": False, "pack": packed}


def padded_token_logps(model: Any, groups: Sequence[Group], pad_id: int) -> list[torch.Tensor]:
    """The same as Scorer.token_logps, one row a completion, padded behind; prompt tokens and padding
    count nothing, the end token counts."""
    rows = [(g.prompt_ids, c) for g in groups for c in g.completions]
    width = max(len(p) + len(c) for p, c in rows)
    device = next(model.parameters()).device
    ids = torch.full((len(rows), width), pad_id)
    mask = torch.zeros(len(rows), width, dtype=torch.long)
    for index, (prompt, completion) in enumerate(rows):
        end = len(prompt) + len(completion)
        ids[index, :end] = torch.tensor(prompt + completion)
        mask[index, :end] = 1
    logits = model(input_ids=ids.to(device), attention_mask=mask.to(device), use_cache=False).logits
    found = []
    for row, (prompt, completion) in zip(logits, rows, strict=True):
        # position t predicts token t + 1
        predicted = row[len(prompt) - 1 : len(prompt) - 1 + len(completion)].float()
        found.append(-F.cross_entropy(predicted, torch.tensor(completion, device=device), reduction="none"))
    return found


def scorer_for(model: Any, pad_id: int, probe: Group, *, precision: str, fused: bool = True) -> Scorer:
    """The quickest Scorer that gives the numbers of the padded pass on `probe`: the longest story to come,
    behind another of its prompt, so that windows and chunks of attention show."""
    inner = unwrapped(model)
    usual = inner.config._attn_implementation
    with torch.no_grad():
        right = Scorer(model, pad_id, packed=False).token_logps([probe])
        inner.set_attn_implementation(NAME)
        for candidate in (True, False) if fused else (False,):
            scorer = Scorer(model, pad_id, fused=candidate)
            if _agrees(scorer, probe, right):
                return Scorer(model, pad_id, fused=candidate, precision=precision)
    inner.set_attn_implementation(usual)
    return Scorer(model, pad_id, packed=False, precision=precision)


def _agrees(scorer: Scorer, probe: Group, right: list[torch.Tensor]) -> bool:
    inner = unwrapped(scorer.model)
    changed = any(getattr(inner.config, name, None) not in (None, 1.0) for name in LOGIT_CHANGES)
    if scorer.fused and (changed or not head.fits(inner.get_output_embeddings())):
        return False
    try:
        found = scorer.token_logps([probe])
    except torch.OutOfMemoryError:
        raise
    except (NotSupported, TypeError, AttributeError, ValueError, IndexError, RuntimeError):
        return False  # a model that is built in another way: the padded pass asks nothing of it
    differences = [(a - b).abs() for a, b in zip(found, right, strict=True)]
    if all(p.dtype == torch.float32 for p in scorer.model.parameters()):
        return all(d.max().item() < TOLERANCE for d in differences)
    return all(d.mean().item() < ROUNDED_TOLERANCE for d in differences)
