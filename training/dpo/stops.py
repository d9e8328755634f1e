"""When a run must end, or should."""

import math

from training.dpo.metrics import StepMetrics, Sums
from training.dpo.settings import DPOSettings


class TrainingFailed(RuntimeError):
    """Training ended without a result; the message says why and what to do."""


def check_finite(loss: float, norm: float, step: int) -> None:
    """TrainingFailed if the loss or the gradient's norm is no number: nothing is learned from there on."""
    if math.isfinite(loss) and math.isfinite(norm):
        return
    what, value = ("gradient", norm) if math.isfinite(loss) else ("loss", loss)
    raise TrainingFailed(
        f"The {what} became {value} at step {step}. Try a lower learning rate or a higher beta, in a new "
        "output directory."
    )


def check_step_0(sums: Sums, *, bf16: bool) -> None:
    """Before the first update policy and reference are one model: TrainingFailed if their rewards differ.

    A reference that is computed in another way than the policy (NeMo-Aligner's issue 228, and others)
    trains on the difference of the two ways.
    """
    drift = sums["drift"] / max(sums["completion_tokens"], 1)
    if drift > (5e-3 if bf16 else 1e-5):
        raise TrainingFailed(
            f"Before the first step the policy differs from its reference by {drift:.2g} nats a token. They should "
            "be the same model: delete the file of reference log-probabilities, and check the model directory."
        )


def reason_to_stop(metrics: StepMetrics, settings: DPOSettings) -> str:
    """Why the run should end with what it has learned; empty if it should go on."""
    if settings.max_kl and metrics.kl > settings.max_kl:
        return f"kl was {metrics.kl:.1f} nats a story at step {metrics.step}; max_kl is {settings.max_kl:g}"
    if settings.max_logps_drop and -metrics.logps_change > settings.max_logps_drop:
        return (
            f"chosen stories had lost {-metrics.logps_change:.2f} nats a token at step {metrics.step}; "
            f"max_logps_drop is {settings.max_logps_drop:g}"
        )
    return ""
