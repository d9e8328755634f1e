"""What a run of the loop has shown: figures, a table, and what was to be shown but was not."""

import platform
import sys
from importlib.metadata import version
from typing import Any

from django.db.models import Avg, Max

from annotate.winrates import win_rate
from generation.models import Policy
from generation.summaries import Change, change, summarise
from generation.version import commit
from training.models import Round

MEASURES = ("structure", "message", "hard_words", "mean_words", "repetition", "diversity")
PACKAGES = ("torch", "transformers", "django", "celery")


def figures(base: Policy, rounds: list[Round], *, seed: int) -> dict[str, Any]:
    """The figures under the keys that docs/commands.md names. Shares are 0-1."""
    return {
        "simulated_experts": True,
        "base": _measures(base),
        "rounds": [_round(base, r) for r in rounds],
        "seed": seed,
        "command": sys.argv,
        "commit": commit(),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
    }


def _round(base: Policy, shown: Round) -> dict[str, Any]:
    assert shown.result is not None
    last_epoch = shown.metrics.trained().filter(epoch__gt=shown.epochs - 1)
    means = last_epoch.aggregate(loss=Avg("loss"), reward_accuracy=Avg("rewards_accuracies"), kl=Avg("kl"))
    return {
        "round": shown.number,
        "pairs": shown.pair_count,
        "steps": shown.metrics.trained().aggregate(last=Max("step"))["last"],
        **means,
        **_measures(shown.result),
        "repetition_change": repetition_change(base, shown.result),
        "win_rate_previous": win_rate(shown.result, shown.policy).as_dict(),
        "win_rate_base": win_rate(shown.result, base).as_dict(),
    }


def repetition_change(base: Policy, policy: Policy) -> dict[str, float]:
    """By how much `policy` repeats itself more than `base`: the mean over prompts, with a 95 % interval.

    The prompts that both wrote for are resampled (generation.summaries.change).
    """
    found = change(base, policy, "repetition")
    assert found is not None
    return as_interval(found)


def as_interval(found: Change) -> dict[str, float]:
    return {"mean": found.mean, "low": found.low, "high": found.high}


def _measures(policy: Policy) -> dict[str, float]:
    summary = summarise(policy)
    assert summary is not None
    return {name: getattr(summary, name) for name in MEASURES}


def table(found: dict[str, Any]) -> str:
    """A row a round, for a person."""
    head: tuple[str, ...] = (
        "round",
        "pairs",
        "loss",
        "rewards/acc",
        "KL",
        "structure",
        "message",
        "hard words",
        "words",
    )
    head += ("repetition", "diversity", "win vs previous [95 %]", "win vs base [95 %]", "n")
    rows = [("base", "", "", "", "", *_measure_cells(found["base"]), "", "", "")]
    for row in found["rounds"]:
        rows.append(
            (
                str(row["round"]),
                str(row["pairs"]),
                f"{row['loss']:.3f}",
                f"{row['reward_accuracy']:.2f}",
                f"{row['kl']:.1f}",
                *_measure_cells(row),
                rate_text(row["win_rate_previous"]),
                rate_text(row["win_rate_base"]),
                str(row["win_rate_base"]["n"]),
            )
        )
    widths = [max(len(cells[i]) for cells in (head, *rows)) for i in range(len(head))]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(cells, widths, strict=True)) for cells in (head, *rows)]
    return "\n".join(
        ["", "All experts are simulated. Loss, rewards/accuracies and KL: mean of the last epoch.", *lines]
    )


def _measure_cells(row: dict[str, Any]) -> tuple[str, ...]:
    shares = {name: f"{100 * row[name]:.1f} %" for name in MEASURES if name != "mean_words"}
    return (
        shares["structure"],
        shares["message"],
        shares["hard_words"],
        f"{row['mean_words']:.0f}",
        shares["repetition"],
        shares["diversity"],
    )


def rate_text(rate: dict[str, Any]) -> str:
    if rate["rate"] is None:
        return "no judgements"
    return f"{100 * rate['rate']:.0f} % [{100 * rate['low']:.0f}, {100 * rate['high']:.0f}]"


def faults(found: dict[str, Any]) -> list[str]:
    """What the loop was to show and did not: round 1 wins clearly, without more repetition."""
    first = found["rounds"][0]
    said = []
    if (first["win_rate_base"]["low"] or 0) <= 0.5:
        said.append("Round 1 does not win clearly against the base: its interval reaches 50 % or below.")
    if first["repetition_change"]["low"] > 0:
        said.append("Round 1 repeats itself more than the base does: the interval of the difference is above 0.")
    return said
