"""Drawing one token a row: repetition penalty, temperature, min_p, top_k, top_p, as in values.SamplingParams.

The distribution function runs over the vocabulary in its own order, so nothing has to be sorted for it;
top_k and top_p need the sorted likelihoods only to find the least that stays.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from generation.engines.values import SamplingParams


@dataclass(frozen=True)
class Sampling:
    """The SamplingParams of several stories, a row each: every tensor is [rows, 1]."""

    temperature: torch.Tensor
    top_p: torch.Tensor
    min_p: torch.Tensor
    top_k: torch.Tensor
    penalty: torch.Tensor
    greedy: bool  # some rows are
    cut: bool  # some rows have a top_k or a top_p
    penalised: bool  # some rows have a repetition penalty

    @classmethod
    def of(cls, rows: Sequence[SamplingParams], device: str = "cpu") -> "Sampling":
        def column(values: Sequence[float], dtype: torch.dtype = torch.float32) -> torch.Tensor:
            return torch.tensor(values, dtype=dtype, device=device)[:, None]

        return cls(
            temperature=column([row.temperature for row in rows]),
            top_p=column([row.top_p for row in rows]),
            min_p=column([row.min_p for row in rows]),
            top_k=column([row.top_k for row in rows], torch.long),
            penalty=column([row.repetition_penalty for row in rows]),
            greedy=any(row.temperature == 0 for row in rows),
            cut=any(row.top_k > 0 or row.top_p < 1 for row in rows),
            penalised=any(row.repetition_penalty != 1 for row in rows),
        )


def sample(
    logits: torch.Tensor, sampling: Sampling, uniform: torch.Tensor, seen: torch.Tensor | None = None
) -> torch.Tensor:
    """Draw one token a row by inverting the distribution function at `uniform`.

    logits [rows, vocabulary]; uniform [rows] in [0, 1); seen [rows, vocabulary] bool, the tokens that stood
    before, needed where sampling.penalised. Returns token ids [rows]; one past the vocabulary where the
    logits are not numbers.
    """
    scores = logits.float()
    if sampling.penalised and seen is not None:
        scores = torch.where(seen, penalise(scores, sampling.penalty), scores)
    kept = likelihoods(scores, sampling)
    cumulative = kept.cumsum(-1, dtype=torch.float64)  # so that uniform * total stays below the total
    drawn = torch.searchsorted(cumulative, uniform[:, None] * cumulative[:, -1:], right=True).squeeze(-1)
    if sampling.greedy:
        numbers = drawn < scores.shape[-1]
        drawn = torch.where((sampling.temperature.squeeze(-1) == 0) & numbers, scores.argmax(-1), drawn)
    return drawn


def penalise(scores: torch.Tensor, penalty: torch.Tensor) -> torch.Tensor:
    """Divide positive scores and multiply negative ones, as Keskar et al. (2019) do in section 4.1."""
    return torch.where(scores > 0, scores / penalty, scores * penalty)


def likelihoods(scores: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """[rows, vocabulary] likelihoods after the temperature, the likeliest token's 1, those left out 0."""
    warmed = scores / torch.where(sampling.temperature > 0, sampling.temperature, 1.0)
    found = (warmed - warmed.amax(-1, keepdim=True)).exp()
    found = found * (found >= sampling.min_p)
    if sampling.cut:
        found = found * (found >= least_kept(found, sampling))
    return found


def least_kept(found: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """[rows, 1] the likelihood of the last token that top_k and then top_p keep; its equals stay with it."""
    ordered = descending(found)
    every = ordered.shape[-1]
    last = torch.where(sampling.top_k > 0, sampling.top_k, every).clamp(max=every) - 1
    least = ordered.gather(-1, last)
    ordered = ordered * (ordered >= least)
    cumulative = ordered.cumsum(-1, dtype=torch.float64)
    reached = cumulative - ordered >= sampling.top_p * cumulative[:, -1:]  # by the tokens before this one
    last = (~reached).sum(-1, keepdim=True).clamp(min=1) - 1
    return torch.where(sampling.top_p < 1, ordered.gather(-1, last), least)


def descending(found: torch.Tensor) -> torch.Tensor:
    """Each row sorted; on a CPU by numpy, which is several times quicker at it than torch."""
    if found.device.type == "cpu":
        return torch.from_numpy(np.sort(found.numpy(), -1)).flip(-1)
    return found.sort(-1, descending=True).values
