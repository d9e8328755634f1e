"""The losses, as pure functions on log-probabilities."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F

STEP_0_LOSS = math.log(2)  # policy and reference are the same model


@dataclass(frozen=True)
class PairLogps:
    """Log-probabilities of pairs, each [pairs]: sums over the completion's tokens, the end token included."""

    policy_chosen: torch.Tensor
    policy_rejected: torch.Tensor
    reference_chosen: torch.Tensor
    reference_rejected: torch.Tensor
    chosen_lengths: torch.Tensor
    rejected_lengths: torch.Tensor


@dataclass(frozen=True)
class PairLosses:
    """losses, chosen_rewards, rejected_rewards: each [pairs]; the rewards carry no gradient."""

    losses: torch.Tensor
    chosen_rewards: torch.Tensor
    rejected_rewards: torch.Tensor


def dpo_loss(logps: PairLogps, *, beta: float, loss: str = "sigmoid") -> PairLosses:
    """The loss of each pair.

    "sigmoid": DPO, Rafailov et al. (2023), equation 7:
        -log sigmoid(beta * ((log pi(y_w|x) - log ref(y_w|x)) - (log pi(y_l|x) - log ref(y_l|x))))
    with log-probabilities summed over the tokens of a completion.

    "sigmoid_norm": the same with each log-ratio divided by its completion's length in tokens
    (Lambert et al., 2024, "Tulu 3", equation 6): the average over the length is another loss.

    Rewards are beta * log(pi/ref) of the sums, in both.
    """
    chosen = logps.policy_chosen - logps.reference_chosen
    rejected = logps.policy_rejected - logps.reference_rejected
    rewards = beta * chosen.detach(), beta * rejected.detach()
    if loss == "sigmoid_norm":
        chosen = chosen / logps.chosen_lengths
        rejected = rejected / logps.rejected_lengths
    elif loss != "sigmoid":
        raise ValueError(f"unknown loss {loss!r}")
    return PairLosses(-F.logsigmoid(beta * (chosen - rejected)), *rewards)


def sft_loss(logps: PairLogps) -> torch.Tensor:
    """Negative log-likelihood a token of the chosen completions, [pairs]: the SFT term of RPO
    (Pang et al., 2024, "Iterative Reasoning Preference Optimization", equation 1)."""
    return -logps.policy_chosen / logps.chosen_lengths
