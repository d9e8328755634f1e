"""Figures of a run worked out anew, one pair after the other, and another shape of the tiny model."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from generation.engines.loading import load_model, load_tokenizer
from tests.training.dpo.helpers import naive_logp


def tied_model(source: Path, directory: Path) -> Path:
    """A model like the one in `source` whose head is its embedding."""
    config = AutoModelForCausalLM.from_pretrained(source).config
    config.tie_word_embeddings = True
    torch.manual_seed(2)
    AutoModelForCausalLM.from_config(config).save_pretrained(directory)
    AutoTokenizer.from_pretrained(source).save_pretrained(directory)
    return directory


def worked_out(
    policy: Any, reference: Any, tokenizer: Any, rows: Iterable[dict], *, beta: float, norm: bool = False
) -> dict[str, float]:
    """One pair after the other, each story as often as it is named, averaged by weight."""
    sums = dict.fromkeys(("loss", "rewards_chosen", "rewards_rejected", "rewards_accuracies"), 0.0)
    total = 0.0
    for row in rows:
        ratios, parts = [], []
        for side in ("chosen", "rejected"):
            prompt, story = tokenizer.encode(row["prompt"]), [*tokenizer.encode(row[side]), tokenizer.eos_token_id]
            ratios.append(naive_logp(policy, prompt, story) - naive_logp(reference, prompt, story))
            parts.append(ratios[-1] / len(story) if norm else ratios[-1])
        loss = math.log1p(math.exp(-beta * (parts[0] - parts[1])))
        figures = (loss, beta * ratios[0], beta * ratios[1], float(ratios[0] > ratios[1]))
        for name, figure in zip(sums, figures, strict=True):
            sums[name] += row.get("weight", 1.0) * figure
        total += row.get("weight", 1.0)
    sums = {name: value / total for name, value in sums.items()}
    return sums | {"rewards_margins": sums["rewards_chosen"] - sums["rewards_rejected"]}


def loss_between(policy: Path, reference: Path, rows: Iterable[dict], *, beta: float = 0.2) -> float:
    """The DPO loss of one model directory against another."""
    tokenizer = load_tokenizer(policy)
    return worked_out(load_model(policy), load_model(reference), tokenizer, rows, beta=beta)["loss"]


def logps(model: Any, tokenizer: Any, rows: Iterable[dict]) -> list[float]:
    """Of each row's chosen story, end token included."""
    return [
        naive_logp(model, tokenizer.encode(row["prompt"]), [*tokenizer.encode(row["chosen"]), tokenizer.eos_token_id])
        for row in rows
    ]
