"""How far a round's settings may go: the form's limits, the command's, and the database's."""

from typing import Any

from django.db.models import CheckConstraint, Q

from training.dpo.settings import LOSSES, METHODS

# lowest and highest that a round takes. Wider than what is usual (training/remarks.py): tiny writers need more
SETTING_LIMITS: dict[str, tuple[float, float]] = {
    "beta": (0.1, 0.5),
    "learning_rate": (1e-7, 1e-2),
    "sft_weight": (0, 10),
    "epochs": (1, 3),
    "batch_pairs": (1, 512),
    "lora_rank": (1, 256),
    "lora_alpha": (0, 512),
}
HIGHEST_BETA = {"sigmoid_norm": 10.0}  # averages over the length are small: they need a larger beta
REFERENCES = ("policy", "base")


def limits_of(name: str, loss: str) -> tuple[float, float]:
    """Lowest and highest value of a setting with that loss."""
    low, high = SETTING_LIMITS[name]
    return low, HIGHEST_BETA.get(loss, high) if name == "beta" else high


def round_constraints() -> list[CheckConstraint]:
    """No number is above a highest one: that refuses NaN, too."""
    ranges = {name: Q(**{f"{name}__gte": low, f"{name}__lte": high}) for name, (low, high) in SETTING_LIMITS.items()}
    for loss, high in HIGHEST_BETA.items():
        ranges["beta"] |= Q(loss=loss, beta__gte=SETTING_LIMITS["beta"][0], beta__lte=high)
    return [
        *(CheckConstraint(condition=inside, name=f"round_{name}_within") for name, inside in ranges.items()),
        CheckConstraint(condition=Q(loss__in=LOSSES), name="round_loss_known"),
        CheckConstraint(condition=Q(method__in=METHODS), name="round_method_known"),
        CheckConstraint(condition=Q(reference__in=REFERENCES), name="round_reference_known"),
        # each stage has its own criterion, and begins with its own reference
        CheckConstraint(condition=Q(stages=[]) | Q(objectives="", reference="policy"), name="round_stages_alone"),
        *_selection_constraints(),
    ]


def _selection_constraints() -> list[CheckConstraint]:
    """Rounds from before there was a selection have {}: all pairs of their policy."""
    parts: dict[str, Any] = {
        "rounds": Q(selection__rounds__in=["this", "all", "mix"]),
        "which": Q(selection__which__in=["all", "adjacent", "extremes"]),
        "min_agreement": Q(selection__min_agreement__gte=0.5, selection__min_agreement__lte=1),
        "older_weight": Q(selection__older_weight__gte=0.05, selection__older_weight__lte=1),
    }
    return [
        CheckConstraint(
            condition=Q(selection={}) | (Q(selection__has_key=part) & inside), name=f"round_selection_{part}"
        )
        for part, inside in parts.items()
    ]
