"""What admins read about rounds."""

from dataclasses import dataclass

from annotate.pairs import preference_judgements, preference_pairs
from annotate.winrates import WinRate, win_rate
from generation.models import Policy
from generation.summaries import PolicySummary, summarise
from training.models import Round, State
from training.rounds import new_pair_count

CURVE_WIDTH, CURVE_HEIGHT = 600, 160


@dataclass(frozen=True)
class Row:
    """A round in the list, with its win rate against the policy before."""

    round: Round
    win_rate: WinRate | None


def rows() -> list[Row]:
    found = Round.objects.select_related("policy", "result")
    return [Row(r, win_rate(r.result, r.policy) if r.result else None) for r in found]


def win_rates(shown: Round) -> list[tuple[Policy, WinRate]]:
    """(policy compared with, win rate): the policy before, and the base if that is another one."""
    if shown.result is None:
        return []
    return [(other, win_rate(shown.result, other)) for other in shown.baselines()]


def measures(shown: Round) -> list[tuple[Policy, PolicySummary]]:
    """What the rules read in the stories of the base, the policy before and the result."""
    line = [*reversed(shown.baselines()), shown.result]
    found = [(policy, summarise(policy)) for policy in line if policy]
    return [(policy, summary) for policy, summary in found if summary]


def pair_counts() -> dict[str, int]:
    """Pairs of the current policy: all, by people only, and new since the last round."""
    policy = Policy.objects.current()
    if policy is None:
        return {"all": 0, "people": 0, "new": 0}
    everyone = preference_pairs(preference_judgements(policy=policy))
    people = preference_pairs(preference_judgements(policy=policy, include_simulated=False))
    new = new_pair_count(policy, include_simulated=True)
    return {"all": len(everyone), "people": len(people), "new": new}


def loss_curve(shown: Round) -> str:
    """The loss by step as points of an SVG polyline; "" with fewer than two steps."""
    losses = list(shown.metrics.values_list("step", "loss"))
    if len(losses) < 2:
        return ""
    last = max(shown.total, losses[-1][0]) if shown.state == State.TRAINING else losses[-1][0]
    top = max(0.8, *(loss for _, loss in losses))
    points = ((CURVE_WIDTH * step / last, CURVE_HEIGHT * (1 - loss / top)) for step, loss in losses)
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
