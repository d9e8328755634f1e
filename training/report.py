"""What admins read about rounds."""

from dataclasses import dataclass
from typing import Any

from annotate.pairs import count_pairs, preference_judgements
from annotate.winrates import WinRate, win_rate
from generation.models import Policy
from training import tables
from training.advice import advise
from training.alarms import findings
from training.dashboard.of_round import alarms_of_round_table, behind, breakdown_table, measures_of_round_table
from training.models import Round
from training.rounds import last_launch, new_pair_count


@dataclass(frozen=True)
class Row:
    """A round in the list, with its win rate against the policy before."""

    round: Round
    win_rate: WinRate | None


def rows() -> list[Row]:
    found = Round.objects.select_related("policy", "result")
    return [Row(r, win_rate(r.result, r.policy, people=not r.include_simulated) if r.result else None) for r in found]


def judged(shown: Round) -> dict[str, Any]:
    """What a round's page says of its policy."""
    found = findings(shown)
    return {
        "advice": advise(shown),
        "win_rates": [(baseline, _win_rate_cell(shown, baseline)) for baseline in shown.baselines()],
        "alarms_raised": shown.alarms.exists(),
        "tables": [breakdown_table(shown), alarms_of_round_table(found), measures_of_round_table(shown)],
    }


def _win_rate_cell(shown: Round, baseline: Policy) -> tables.Cell:
    assert shown.result is not None
    rate = win_rate(shown.result, baseline, people=not shown.include_simulated)
    return tables.win_rate(rate, behind(shown, baseline, {}))


@dataclass(frozen=True)
class Collected:
    """Pairs of the current policy: all, by people alone, and new since the last round."""

    all: int = 0
    people: int = 0
    new: int = 0


def collected() -> Collected:
    policy = Policy.objects.current()
    if policy is None:
        return Collected()
    judgements = preference_judgements(policy=policy)
    people = everyone = count_pairs(judgements)
    if judgements.filter(assignment__expert__simulated=True).exists():
        people = count_pairs(preference_judgements(policy=policy, include_simulated=False))
    new = new_pair_count(policy, include_simulated=True) if last_launch(policy) else everyone
    return Collected(everyone, people, new)
