import math
from typing import Any

import pytest

from training.dpo.metrics import StepMetrics, Sums
from training.dpo.settings import DPOSettings
from training.dpo.stops import TrainingFailed, check_finite, check_step_0, reason_to_stop

LIMITS = DPOSettings(max_kl=10.0, max_logps_drop=0.5)


def metrics(**changes: Any) -> StepMetrics:
    names = ("loss", "rewards_chosen", "rewards_rejected", "rewards_margins", "rewards_accuracies", "logps_chosen")
    more = ("logps_rejected", "logps_change", "lengths_chosen", "lengths_rejected", "kl", "epoch", "learning_rate")
    rates = ("grad_norm", "pairs_per_second", "tokens_per_second")
    values = {**dict.fromkeys((*names, *more, *rates), 0.0), "step": 7, "total_steps": 9, "num_tokens": 0}
    return StepMetrics(**{**values, **changes})


def drifted(nats: float, tokens: int = 1000) -> Sums:
    sums = Sums()
    sums.add(drift=nats, completion_tokens=tokens)
    return sums


@pytest.mark.parametrize("value", [0.0, -3.0, 1e30])
def test_training_goes_on_with_numbers(value: float):
    check_finite(value, abs(value), 7)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_no_number_ends_training_with_its_step(value: float):
    with pytest.raises(TrainingFailed, match=f"^The loss became {value} at step 7. Try a lower learning rate"):
        check_finite(value, 1.0, 7)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_gradient_that_is_no_number_ends_training_with_its_step(value: float):
    with pytest.raises(TrainingFailed, match=f"^The gradient became {value} at step 7"):
        check_finite(0.7, value, 7)


def test_the_loss_is_named_where_both_are_no_number():
    with pytest.raises(TrainingFailed, match=r"^The loss became nan"):
        check_finite(math.nan, math.nan, 7)


@pytest.mark.parametrize(("nats", "bf16"), [(0.0, False), (0.009, False), (4.5, True)])
def test_a_policy_that_is_its_reference_but_for_rounding_is_trained(nats: float, bf16: bool):
    check_step_0(drifted(nats), bf16=bf16)


@pytest.mark.parametrize(("nats", "bf16"), [(0.02, False), (20.0, True)])
def test_a_policy_that_is_not_its_reference_is_not_trained(nats: float, bf16: bool):
    # 0.00002 nats a token in fp32, 0.02 in bf16
    with pytest.raises(TrainingFailed, match=f"differs from its reference by {nats / 1000:.2g} nats a token"):
        check_step_0(drifted(nats), bf16=bf16)


def test_differences_that_cancel_out_are_differences():
    """kl is their sum and may be nothing; drift is the sum of their sizes."""
    sums = drifted(50.0)
    sums.add(kl=0.0, stories=2)
    with pytest.raises(TrainingFailed):
        check_step_0(sums, bf16=False)


def test_a_process_without_tokens_finds_no_difference():
    check_step_0(Sums(), bf16=False)


def test_a_run_without_limits_goes_on_whatever_its_figures():
    assert reason_to_stop(metrics(kl=1e9, logps_change=-1e9), DPOSettings()) == ""


def test_a_run_within_its_limits_goes_on():
    assert reason_to_stop(metrics(kl=10.0, logps_change=-0.5), LIMITS) == ""


def test_a_run_stops_beyond_its_kl():
    reason = reason_to_stop(metrics(kl=10.06), LIMITS)
    assert reason == "kl was 10.1 nats a story at step 7; max_kl is 10"


def test_a_run_stops_when_chosen_stories_have_lost_too_much():
    reason = reason_to_stop(metrics(logps_change=-0.51), LIMITS)
    assert reason == "chosen stories had lost 0.51 nats a token at step 7; max_logps_drop is 0.5"


@pytest.mark.parametrize("changes", [{"kl": -99.0}, {"logps_change": 99.0}])
def test_a_run_does_not_stop_for_going_the_other_way(changes: dict[str, float]):
    assert reason_to_stop(metrics(**changes), LIMITS) == ""
