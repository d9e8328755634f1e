"""From works to the loss: the stories' log-probabilities, the pairs picked from them, and their sum."""

from dataclasses import dataclass

import torch

from training.dpo.logps import Scorer
from training.dpo.losses import PairLogps, dpo_loss, ld_logps, sft_loss
from training.dpo.metrics import Sums
from training.dpo.plan import Batch, Term, group_tokens
from training.dpo.reference import ReferenceLogps
from training.dpo.settings import DPOSettings

Tokens = list[torch.Tensor]  # log-probabilities of each token, one tensor for each completion


@dataclass(frozen=True)
class _Scored:
    """Works with their stories' log-probabilities: `policy` with gradient, `reference` without.

    policy_sums, reference_sums: [stories]. chosen, rejected: the pairs' stories, by place.
    """

    works: Batch
    policy: Tokens
    reference: Tokens
    policy_sums: torch.Tensor
    reference_sums: torch.Tensor
    chosen: list[int]
    rejected: list[int]

    @property
    def terms(self) -> list[Term]:
        return [term for work in self.works for term in work.terms]

    def of_terms(self, name: str) -> torch.Tensor:
        """That number of each pair, [pairs]."""
        return torch.tensor([getattr(term, name) for term in self.terms], device=self.policy_sums.device)

    def kl(self) -> torch.Tensor:
        """log ref - log pi, [stories], of those that were written for their prompt: not of other prompts'."""
        sides = zip(self.terms, self.chosen, self.rejected, strict=True)
        own = sorted({place for term, *both in sides if term.weight for place in both})
        return self.reference_sums[own] - self.policy_sums.detach()[own]


@dataclass(frozen=True)
class Objective:
    """The loss of a run's settings."""

    scorer: Scorer
    reference: ReferenceLogps
    settings: DPOSettings

    def loss(self, works: Batch, sums: Sums) -> torch.Tensor:
        """The works' part of their batch's loss, a scalar with gradient; figures are added to `sums`.

        Each distinct story goes through the model once, however many pairs it is in.
        """
        settings, scored = self.settings, self._scored(works)
        logps, weights = self._pairs(scored), scored.of_terms("weight")
        found = dpo_loss(logps, beta=settings.beta, loss=settings.loss, label_smoothing=settings.label_smoothing)
        loss = (scored.of_terms("share") * found.losses).sum()
        chosen_sums = scored.policy_sums[scored.chosen]
        if settings.sft_weight:
            loss = loss + settings.sft_weight * (weights * sft_loss(chosen_sums, logps.chosen_lengths)).sum()
        kl = scored.kl()
        figures = {
            "loss": loss.detach(),
            "rewards_chosen": (weights * found.chosen_rewards).sum(),
            "rewards_rejected": (weights * found.rejected_rewards).sum(),
            "rewards_accuracies": (weights * (found.chosen_rewards > found.rejected_rewards)).sum(),
            "logps_chosen": (weights * logps.policy_chosen.detach()).sum(),
            "logps_rejected": (weights * logps.policy_rejected.detach()).sum(),
            "logps_change": (
                weights * (chosen_sums.detach() - scored.reference_sums[scored.chosen]) / logps.chosen_lengths
            ).sum(),
            "lengths_chosen": (weights * logps.chosen_lengths).sum(),
            "lengths_rejected": (weights * logps.rejected_lengths).sum(),
            "kl": kl.sum(),
            "drift": kl.abs().sum(),
        }
        # one transfer: each would wait for the GPU
        sums.add(**dict(zip(figures, torch.stack(list(figures.values())).tolist(), strict=True)))
        sums.add(stories=len(kl), tokens=sum(group_tokens(work.group) for work in works))
        sums.add(completion_tokens=sum(map(len, scored.policy)))
        return loss

    def _scored(self, works: Batch) -> _Scored:
        policy = self.scorer.token_logps([work.group for work in works])
        reference = [t.to(policy[0].device) for work in works for t in self.reference.of(work.group)]
        chosen, rejected, offset = [], [], 0
        for work in works:
            chosen += [offset + term.chosen for term in work.terms]
            rejected += [offset + term.rejected for term in work.terms]
            offset += len(work.group.completions)
        policy_sums, reference_sums = (torch.stack([t.sum() for t in found]) for found in (policy, reference))
        return _Scored(works, policy, reference, policy_sums, reference_sums, chosen, rejected)

    def _pairs(self, scored: _Scored) -> PairLogps:
        chosen, rejected = scored.chosen, scored.rejected
        lengths = torch.tensor([float(len(t)) for t in scored.policy], device=scored.policy_sums.device)
        if self.settings.ld_alpha < 1:
            policy, reference = (self._ld(t, chosen, rejected) for t in (scored.policy, scored.reference))
        else:
            policy, reference = ((t[chosen], t[rejected]) for t in (scored.policy_sums, scored.reference_sums))
        margins = scored.of_terms("margin") if self.settings.margin_scale else None
        return PairLogps(*policy, *reference, lengths[chosen], lengths[rejected], margins)

    def _ld(self, tokens: Tokens, chosen: list[int], rejected: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Both sides' sums, each with what lies beyond the shorter story's length made little of."""
        alpha = self.settings.ld_alpha
        sides: tuple[Tokens, Tokens] = ([], [])
        for one, other in zip(chosen, rejected, strict=True):
            shared = min(len(tokens[one]), len(tokens[other]))
            for found, place in zip(sides, (one, other), strict=True):
                found.append(ld_logps(tokens[place], shared, alpha))
        return torch.stack(sides[0]), torch.stack(sides[1])
