import math

import pytest
import torch

from training.dpo.losses import STEP_0_LOSS, PairLogps, dpo_loss, sft_loss


def pair_logps(
    policy: tuple[float, float] = (-10.0, -14.0),
    reference: tuple[float, float] = (-12.0, -13.0),
    lengths: tuple[float, float] = (4.0, 2.0),
) -> PairLogps:
    """One pair, (chosen, rejected). By default log pi/ref is -10 + 12 = 2 and -14 + 13 = -1."""
    return PairLogps(*(torch.tensor([value]) for value in (*policy, *reference, *lengths)))


def test_sigmoid_loss_worked_by_hand():
    # -log sigmoid(0.5 * (2 - -1)) = log(1 + exp(-1.5)) = log(1.2231302) = 0.2014133
    assert dpo_loss(pair_logps(), beta=0.5).losses.item() == pytest.approx(0.2014133, abs=1e-6)


def test_sigmoid_loss_does_not_look_at_lengths():
    longer = pair_logps(lengths=(400.0, 200.0))
    assert torch.equal(dpo_loss(longer, beta=0.5).losses, dpo_loss(pair_logps(), beta=0.5).losses)


def test_sigmoid_is_the_loss_unless_another_is_named():
    named = dpo_loss(pair_logps(), beta=0.5, loss="sigmoid").losses
    assert torch.equal(dpo_loss(pair_logps(), beta=0.5).losses, named)


def test_sigmoid_norm_divides_each_log_ratio_by_its_own_length():
    # 2/4 - -1/2 = 1;  -log sigmoid(0.5 * 1) = log(1 + exp(-0.5)) = log(1.6065307) = 0.4740770
    found = dpo_loss(pair_logps(), beta=0.5, loss="sigmoid_norm")
    assert found.losses.item() == pytest.approx(0.4740770, abs=1e-6)


@pytest.mark.parametrize("loss", ["sigmoid", "sigmoid_norm"])
def test_rewards_are_of_the_sums_in_both_losses(loss: str):
    # beta * log pi/ref: 0.5 * 2 and 0.5 * -1
    found = dpo_loss(pair_logps(), beta=0.5, loss=loss)
    assert (found.chosen_rewards.item(), found.rejected_rewards.item()) == (1.0, -0.5)


@pytest.mark.parametrize("loss", ["sigmoid", "sigmoid_norm"])
def test_policy_that_is_its_reference_has_loss_ln_2(loss: str):
    same = pair_logps(policy=(-10.0, -14.0), reference=(-10.0, -14.0))
    assert dpo_loss(same, beta=0.5, loss=loss).losses.item() == pytest.approx(math.log(2), abs=1e-7)


def test_step_0_loss_is_ln_2():
    assert math.log(2) == STEP_0_LOSS


def test_each_pair_has_its_own_loss():
    two = PairLogps(*(torch.tensor(v) for v in ([-10.0, 0], [-14.0, 0], [-12.0, 0], [-13.0, 0], [4.0, 1], [2.0, 1])))
    assert dpo_loss(two, beta=0.5).losses.tolist() == pytest.approx([0.2014133, 0.6931472], abs=1e-6)


def test_preferring_the_rejected_costs_more_than_ln_2():
    swapped = pair_logps(policy=(-14.0, -10.0), reference=(-13.0, -12.0))
    assert dpo_loss(swapped, beta=0.5).losses.item() > math.log(2)


def test_a_hopeless_pair_has_a_finite_loss():
    # -log sigmoid(-x) is x for large x: 0.5 * 2e4 = 1e4; log(sigmoid(x)) taken apart would be infinite
    hopeless = pair_logps(policy=(-2e4, 0.0), reference=(0.0, 0.0))
    assert dpo_loss(hopeless, beta=0.5).losses.item() == pytest.approx(1e4)


def test_gradient_raises_the_chosen_and_lowers_the_rejected():
    # d loss / d log pi(chosen) = -beta * sigmoid(-1.5) = -0.5 * 0.1824255, and its negative for the rejected
    logps = pair_logps()
    for tensor in (logps.policy_chosen, logps.policy_rejected):
        tensor.requires_grad_()
    dpo_loss(logps, beta=0.5).losses.sum().backward()
    assert logps.policy_chosen.grad.item() == pytest.approx(-0.0912128, abs=1e-6)
    assert logps.policy_rejected.grad.item() == pytest.approx(0.0912128, abs=1e-6)


def test_rewards_carry_no_gradient():
    logps = pair_logps()
    logps.policy_chosen.requires_grad_()
    found = dpo_loss(logps, beta=0.5)
    assert not found.chosen_rewards.requires_grad
    assert not found.rejected_rewards.requires_grad


def test_unknown_loss_is_refused():
    with pytest.raises(ValueError, match="unknown loss 'ipo'"):
        dpo_loss(pair_logps(), beta=0.5, loss="ipo")


def test_sft_loss_worked_by_hand():
    # 10 nats over the 4 tokens of the chosen: 2.5 a token
    assert sft_loss(pair_logps()).item() == 2.5


def test_sft_loss_does_not_look_at_rejected_or_reference():
    other = pair_logps(policy=(-10.0, -99.0), reference=(-99.0, -99.0), lengths=(4.0, 99.0))
    assert sft_loss(other).item() == 2.5
