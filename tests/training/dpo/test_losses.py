import math

import pytest
import torch

from training.dpo.losses import STEP_0_LOSS, PairLogps, dpo_loss, ld_logps, robust, sft_loss, sigmoid
from training.dpo.settings import LOSSES


def pair_logps(
    policy: tuple[float, float] = (-10.0, -14.0),
    reference: tuple[float, float] = (-12.0, -13.0),
    lengths: tuple[float, float] = (4.0, 2.0),
    margin: float | None = None,
) -> PairLogps:
    """One pair, (chosen, rejected). By default c = -10 + 12 = 2 and r = -14 + 13 = -1."""
    tensors = (torch.tensor([value]) for value in (*policy, *reference, *lengths))
    return PairLogps(*tensors, margins=None if margin is None else torch.tensor([margin]))


def loss_of(logps: PairLogps, beta: float = 0.5, **settings: float | str) -> float:
    return dpo_loss(logps, beta=beta, **settings).losses.item()


def gradients(loss: str, **settings: float) -> tuple[float, float]:
    """d loss / d log pi of the chosen and of the rejected story, of the pair above."""
    logps = pair_logps()
    for tensor in (logps.policy_chosen, logps.policy_rejected):
        tensor.requires_grad_()
    dpo_loss(logps, beta=0.5, loss=loss, **settings).losses.sum().backward()
    return logps.policy_chosen.grad.item(), logps.policy_rejected.grad.item()


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        # h = 0.5 * (2 - -1) = 1.5; -log sigmoid(1.5) = log(1 + exp(-1.5)) = log(1.2231302)
        ("sigmoid", 0.2014133),
        # without flipped labels it is the sigmoid loss
        ("robust", 0.2014133),
        # c/4 - r/2 = 2/4 + 1/2 = 1; (1 - 1 / (2 * 0.5))^2
        ("ipo", 0.0),
        # max(0, 1 - 1.5)
        ("hinge", 0.0),
        # c/4 - r/2 = 1; -log sigmoid(0.5) = log(1 + exp(-0.5)) = log(1.6065307)
        ("sigmoid_norm", 0.4740770),
        # 1 - sigmoid(0.5 * 2) + sigmoid(0.5 * -1) = 1 - 0.7310586 + 0.3775407
        ("apo_zero", 0.6464821),
        # sigmoid(0.5 * 2) + 1 - sigmoid(1.5) = 0.7310586 + 1 - 0.8175745
        ("apo_down", 0.9134841),
    ],
)
def test_loss_worked_by_hand(loss: str, expected: float):
    assert loss_of(pair_logps(), loss=loss) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        # c = -12 + 10 = -2 and r = -13 + 14 = 1: h = -1.5; log(1 + exp(1.5)) = log(5.4816891)
        ("sigmoid", 1.7014133),
        # -2/4 - 1/2 = -1; (-1 - 1)^2
        ("ipo", 4.0),
        # max(0, 1 + 1.5)
        ("hinge", 2.5),
        # log(1 + exp(0.5)) = log(2.6487213)
        ("sigmoid_norm", 0.9740770),
        # 1 - sigmoid(-1) + sigmoid(0.5) = 1 - 0.2689414 + 0.6224593
        ("apo_zero", 1.3535179),
        # sigmoid(-1) + 1 - sigmoid(-1.5) = 0.2689414 + 1 - 0.1824255
        ("apo_down", 1.0865159),
    ],
)
def test_loss_of_a_pair_the_wrong_way_round_worked_by_hand(loss: str, expected: float):
    wrong = pair_logps(policy=(-12.0, -13.0), reference=(-10.0, -14.0))
    assert loss_of(wrong, loss=loss) == pytest.approx(expected, abs=1e-6)


def test_cdpo_loss_worked_by_hand():
    # 0.8 * -log sigmoid(1.5) + 0.2 * -log sigmoid(-1.5) = 0.8 * 0.2014133 + 0.2 * 1.7014133
    assert loss_of(pair_logps(), label_smoothing=0.2) == pytest.approx(0.5014133, abs=1e-6)


def test_robust_loss_worked_by_hand():
    # (0.8 * 0.2014133 - 0.2 * 1.7014133) / (1 - 0.4) = (0.1611306 - 0.3402827) / 0.6
    assert loss_of(pair_logps(), loss="robust", label_smoothing=0.2) == pytest.approx(-0.2985867, abs=1e-6)


def test_label_smoothing_counts_in_sigmoid_norm_as_in_sigmoid():
    # 0.8 * 0.4740770 + 0.2 * 0.9740770
    assert loss_of(pair_logps(), loss="sigmoid_norm", label_smoothing=0.2) == pytest.approx(0.5740770, abs=1e-6)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 0.49])
def test_the_robust_loss_is_unbiased_where_a_share_of_labels_is_flipped(share: float):
    h = torch.tensor([-4.0, -0.5, 0.0, 1.5, 6.0], dtype=torch.float64)
    expected = (1 - share) * robust(h, share) + share * robust(-h, share)
    assert expected.tolist() == pytest.approx(sigmoid(h).tolist(), abs=1e-9)


def test_cdpo_is_least_where_the_policy_is_as_unsure_as_the_labels():
    # at sigmoid(h) = 1 - e
    h = torch.tensor([math.log(0.8 / 0.2)], requires_grad=True)
    sigmoid(h, 0.2).backward()
    assert h.grad.item() == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize("loss", ["sigmoid", "hinge"])
def test_a_margin_is_taken_from_the_difference_of_rewards(loss: str):
    # h = 1.5 - 0.75: the same as of c = 0.5, whose h is 0.5 * (0.5 + 1)
    assert loss_of(pair_logps(margin=0.75), loss=loss) == loss_of(pair_logps(policy=(-11.5, -14.0)), loss=loss) > 0


def test_a_margin_in_ipo_moves_its_target_by_as_many_rewards():
    # (1 - 0.75 / 0.5 - 1 / (2 * 0.5))^2 = 1.5^2
    assert loss_of(pair_logps(margin=0.75), loss="ipo") == pytest.approx(2.25)


def test_a_margin_of_nothing_changes_nothing():
    assert loss_of(pair_logps(margin=0.0)) == loss_of(pair_logps())


def test_margins_leave_the_rewards_as_they_are():
    found = dpo_loss(pair_logps(margin=0.75), beta=0.5)
    assert (found.chosen_rewards.item(), found.rejected_rewards.item()) == (1.0, -0.5)


@pytest.mark.parametrize("loss", ["sigmoid", "robust", "hinge", "apo_zero", "apo_down"])
def test_losses_of_sums_do_not_look_at_lengths(loss: str):
    assert loss_of(pair_logps(lengths=(400.0, 200.0)), loss=loss) == loss_of(pair_logps(), loss=loss)


def test_sigmoid_is_the_loss_unless_another_is_named():
    assert loss_of(pair_logps()) == loss_of(pair_logps(), loss="sigmoid")


@pytest.mark.parametrize("loss", LOSSES)
def test_rewards_are_of_the_sums_in_every_loss(loss: str):
    # beta * log pi/ref: 0.5 * 2 and 0.5 * -1
    found = dpo_loss(pair_logps(), beta=0.5, loss=loss)
    assert (found.chosen_rewards.item(), found.rejected_rewards.item()) == (1.0, -0.5)


@pytest.mark.parametrize(
    ("loss", "expected"),
    # h = 0: log 2; (1 / (2 * 0.5))^2; 1 - 0; 1 - 1/2 + 1/2; 1/2 + 1 - 1/2
    [("sigmoid", math.log(2)), ("sigmoid_norm", math.log(2)), ("robust", math.log(2)), ("ipo", 1.0)]
    + [(loss, 1.0) for loss in ("hinge", "apo_zero", "apo_down")],
)
def test_loss_of_a_policy_that_is_its_reference(loss: str, expected: float):
    same = pair_logps(policy=(-10.0, -14.0), reference=(-10.0, -14.0))
    assert loss_of(same, loss=loss) == pytest.approx(expected, abs=1e-7)


def test_step_0_loss_is_ln_2():
    assert math.log(2) == STEP_0_LOSS


@pytest.mark.parametrize("loss", LOSSES)
def test_each_pair_has_its_own_loss(loss: str):
    one, other = pair_logps(), pair_logps(policy=(-3.0, -2.0), lengths=(7.0, 5.0))
    both = PairLogps(*(torch.cat([a, b]) for a, b in zip(*map(tensors_of, (one, other)), strict=True)))
    expected = [loss_of(logps, loss=loss) for logps in (one, other)]
    assert dpo_loss(both, beta=0.5, loss=loss).losses.tolist() == pytest.approx(expected, abs=1e-6)


def tensors_of(logps: PairLogps) -> tuple[torch.Tensor, ...]:
    return (
        logps.policy_chosen,
        logps.policy_rejected,
        logps.reference_chosen,
        logps.reference_rejected,
        logps.chosen_lengths,
        logps.rejected_lengths,
    )


def test_a_hopeless_pair_has_a_finite_loss():
    # -log sigmoid(-x) is x for large x: 0.5 * 2e4 = 1e4; log(sigmoid(x)) taken apart would be infinite
    hopeless = pair_logps(policy=(-2e4, 0.0), reference=(0.0, 0.0))
    assert loss_of(hopeless) == pytest.approx(1e4)


def test_sigmoid_gradient_worked_by_hand():
    # d loss / d log pi(chosen) = -beta * sigmoid(-1.5) = -0.5 * 0.1824255, and its negative for the rejected
    assert gradients("sigmoid") == pytest.approx((-0.0912128, 0.0912128), abs=1e-6)


def test_sigmoid_norm_gradient_is_shared_out_among_a_storys_tokens():
    # beta * sigmoid(-0.5) = 0.5 * 0.3775407 over 4 and over 2 tokens
    assert gradients("sigmoid_norm") == pytest.approx((-0.0471926, 0.0943852), abs=1e-6)


@pytest.mark.parametrize("loss", ["sigmoid", "sigmoid_norm", "apo_zero"])
def test_descent_raises_the_chosen_and_lowers_the_rejected(loss: str):
    chosen, rejected = gradients(loss)
    assert chosen < 0 < rejected


def test_robust_descends_more_steeply_than_cdpo_on_the_same_pair():
    assert gradients("robust", label_smoothing=0.1)[0] < gradients("sigmoid", label_smoothing=0.1)[0] < 0


def test_hinge_has_no_gradient_beyond_its_margin():
    assert gradients("hinge") == (0, 0)


def test_apo_down_lowers_both_stories_of_a_pair_that_is_told_apart():
    # d/dc = 0.5 * (sigmoid'(1) - sigmoid'(1.5)) = 0.5 * (0.1966119 - 0.1491465); d/dr = 0.5 * 0.1491465
    assert gradients("apo_down") == pytest.approx((0.0237327, 0.0745732), abs=1e-6)


def test_rewards_carry_no_gradient():
    logps = pair_logps()
    logps.policy_chosen.requires_grad_()
    found = dpo_loss(logps, beta=0.5)
    assert not found.chosen_rewards.requires_grad
    assert not found.rejected_rewards.requires_grad


def test_unknown_loss_is_refused():
    with pytest.raises(ValueError, match="unknown loss 'kto'"):
        dpo_loss(pair_logps(), beta=0.5, loss="kto")


def test_ld_logps_worked_by_hand():
    # -1 - 2 of the shared length, and a quarter of -3 - 4
    assert ld_logps(torch.tensor([-1.0, -2.0, -3.0, -4.0]), 2, 0.25).item() == -4.75


@pytest.mark.parametrize(("alpha", "expected"), [(1.0, -10.0), (0.0, -3.0)])
def test_ld_logps_are_between_the_shared_part_and_the_whole(alpha: float, expected: float):
    assert ld_logps(torch.tensor([-1.0, -2.0, -3.0, -4.0]), 2, alpha).item() == expected


def test_ld_logps_of_the_shorter_story_are_its_sum():
    assert ld_logps(torch.tensor([-1.0, -2.0]), 2, 0.25).item() == -3.0


def test_sft_loss_worked_by_hand():
    # 10 nats over the 4 tokens, and 3 over 2: 2.5 and 1.5 a token
    assert sft_loss(torch.tensor([-10.0, -3.0]), torch.tensor([4.0, 2.0])).tolist() == [2.5, 1.5]


def test_descent_of_the_sft_loss_raises_the_chosen():
    chosen = torch.tensor([-10.0], requires_grad=True)
    sft_loss(chosen, torch.tensor([4.0])).sum().backward()
    assert chosen.grad.item() == -0.25
