"""The losses, as pure functions on log-probabilities.

Notation: c = log pi(y_w|x) - log ref(y_w|x) of the chosen story, r the same of the rejected one,
sums over the tokens of a completion, the end token included; h = beta * (c - r) - margin.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F

STEP_0_LOSS = math.log(2)  # of "sigmoid", where policy and reference are the same model


@dataclass(frozen=True)
class PairLogps:
    """Log-probabilities of pairs, each [pairs]: sums over the completion's tokens, the end token
    included. lengths in tokens. margins, in units of reward, or None for none.
    """

    policy_chosen: torch.Tensor
    policy_rejected: torch.Tensor
    reference_chosen: torch.Tensor
    reference_rejected: torch.Tensor
    chosen_lengths: torch.Tensor
    rejected_lengths: torch.Tensor
    margins: torch.Tensor | None = None


@dataclass(frozen=True)
class PairLosses:
    """losses, chosen_rewards, rejected_rewards: each [pairs]; the rewards carry no gradient."""

    losses: torch.Tensor
    chosen_rewards: torch.Tensor
    rejected_rewards: torch.Tensor


def dpo_loss(logps: PairLogps, *, beta: float, loss: str = "sigmoid", label_smoothing: float = 0.0) -> PairLosses:
    """The loss of each pair, by name; see the function of that name. Rewards are beta * c and beta * r in all."""
    c = logps.policy_chosen - logps.reference_chosen
    r = logps.policy_rejected - logps.reference_rejected
    rewards = beta * c.detach(), beta * r.detach()
    if loss in ("sigmoid_norm", "ipo"):
        c, r = c / logps.chosen_lengths, r / logps.rejected_lengths
    if loss == "apo_zero":
        return PairLosses(apo_zero(beta * c, beta * r), *rewards)
    if loss == "apo_down":
        return PairLosses(apo_down(beta * c, beta * r), *rewards)
    margins = 0.0 if logps.margins is None else logps.margins
    if loss == "ipo":
        return PairLosses(ipo(c - r - margins / beta, beta), *rewards)
    h = beta * (c - r) - margins
    if loss in ("sigmoid", "sigmoid_norm"):
        return PairLosses(sigmoid(h, label_smoothing), *rewards)
    if loss == "robust":
        return PairLosses(robust(h, label_smoothing), *rewards)
    if loss == "hinge":
        return PairLosses(hinge(h), *rewards)
    raise ValueError(f"unknown loss {loss!r}")


def sigmoid(h: torch.Tensor, label_smoothing: float = 0.0) -> torch.Tensor:
    """DPO: -log sigmoid(h) (Rafailov et al., 2023, equation 7).

    With label_smoothing e, cDPO: -(1 - e) log sigmoid(h) - e log sigmoid(-h) (Mitchell, 2023, "A
    note on DPO with noisy preferences"). With a margin in h: DPO with an offset (Amini et al.,
    2024, "Direct Preference Optimization with an Offset"). With c and r divided by their lengths
    ("sigmoid_norm"): the average a token (Lambert et al., 2024, "Tulu 3", equation 6; also what the
    seed chapter's sample code computes), another loss than DPO.
    """
    if not label_smoothing:
        return -F.logsigmoid(h)
    return -(1 - label_smoothing) * F.logsigmoid(h) - label_smoothing * F.logsigmoid(-h)


def robust(h: torch.Tensor, label_smoothing: float) -> torch.Tensor:
    """rDPO: (-(1 - e) log sigmoid(h) + e log sigmoid(-h)) / (1 - 2e), unbiased if a share e of the
    labels is flipped (Ray Chowdhury et al., 2024, "Provably Robust DPO", section 3)."""
    kept, flipped = (1 - label_smoothing) * F.logsigmoid(h), label_smoothing * F.logsigmoid(-h)
    return (flipped - kept) / (1 - 2 * label_smoothing)


def ipo(difference: torch.Tensor, beta: float) -> torch.Tensor:
    """IPO: (c - r - 1 / (2 beta))^2 (Azar et al., 2023, equation 17; beta is its tau).

    difference is of log-ratios divided by their lengths, as the authors have confirmed that they
    computed it: a sum would ask the same 1 / (2 beta) of long and short stories.
    """
    return (difference - 1 / (2 * beta)) ** 2


def hinge(h: torch.Tensor) -> torch.Tensor:
    """max(0, 1 - h) (the loss of SLiC-HF, Zhao et al., 2023, on log-ratios to the reference as in RSO,
    Liu et al., 2023, "Statistical Rejection Sampling Improves Preference Optimization")."""
    return torch.relu(1 - h)


def apo_zero(chosen: torch.Tensor, rejected: torch.Tensor) -> torch.Tensor:
    """1 - sigmoid(chosen) + sigmoid(rejected), of rewards (D'Oosterlinck et al., 2024, equation 7):
    for chosen stories that are better than what the policy writes."""
    return 1 - torch.sigmoid(chosen) + torch.sigmoid(rejected)


def apo_down(chosen: torch.Tensor, rejected: torch.Tensor) -> torch.Tensor:
    """sigmoid(chosen) + 1 - sigmoid(chosen - rejected), of rewards (D'Oosterlinck et al., 2024,
    equation 8): for a policy that already writes better than the chosen stories."""
    return torch.sigmoid(chosen) + 1 - torch.sigmoid(chosen - rejected)


def ld_logps(token_logps: torch.Tensor, length: int, alpha: float) -> torch.Tensor:
    """LD-DPO: the sum of token_logps [tokens] with those beyond `length`, the shorter story's, times
    alpha (Liu et al., 2024, "Length Desensitization in Direct Preference Optimization", section 3)."""
    return token_logps[:length].sum() + alpha * token_logps[length:].sum()


def sft_loss(chosen_logps: torch.Tensor, chosen_lengths: torch.Tensor) -> torch.Tensor:
    """Negative log-likelihood a token of the chosen completions, [pairs]: the SFT term of RPO
    (Pang et al., 2024, "Iterative Reasoning Preference Optimization", equation 1)."""
    return -chosen_logps / chosen_lengths
