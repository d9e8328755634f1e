import pytest
import torch
from torch.testing import assert_close

from training.dpo import head

WORDS, WIDTH, ROWS = 23, 8, 10


@pytest.fixture(params=[1 << 25, WORDS * 10, WORDS * 9, WORDS * 5, WORDS * 3 + 1, WORDS, 1])
def chunk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Logits at once: all are kept, or they are made anew ten, nine, five, three or one rows at a time."""
    monkeypatch.setattr(head, "CHUNK", request.param)
    return request.param


def inputs(rows: int = ROWS) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(rows)
    hidden = torch.randn(rows, WIDTH, requires_grad=True)
    weight = torch.randn(WORDS, WIDTH, requires_grad=True)
    # the first and the last word too
    return hidden, weight, torch.tensor([0, WORDS - 1, *torch.randint(WORDS, (rows,)).tolist()])[:rows]


def plain(hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return (hidden @ weight.t()).log_softmax(-1).gather(1, targets[:, None])[:, 0]


def slopes(found: torch.Tensor, *wanted: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Gradients of a loss that weighs each row otherwise, one of them not at all."""
    return torch.autograd.grad((found * torch.arange(len(found))).sum(), wanted)


@pytest.mark.parametrize("rows", [1, 2, 9, ROWS, 11])
def test_the_logps_are_those_of_a_softmax(chunk: int, rows: int):
    hidden, weight, targets = inputs(rows)
    assert_close(head.token_logps(hidden, weight, targets), plain(hidden, weight, targets), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rows", [2, 9, ROWS, 11])
def test_the_gradients_are_those_of_a_softmax(chunk: int, rows: int):
    hidden, weight, targets = inputs(rows)
    found = slopes(head.token_logps(hidden, weight, targets), hidden, weight)
    wanted = slopes(plain(hidden, weight, targets), hidden, weight)
    assert_close(found, wanted, rtol=1e-5, atol=1e-5)


def test_a_single_row_has_its_gradient():
    hidden, weight, targets = inputs(1)
    found = torch.autograd.grad(3 * head.token_logps(hidden, weight, targets).sum(), (hidden, weight))
    wanted = torch.autograd.grad(3 * plain(hidden, weight, targets).sum(), (hidden, weight))
    assert_close(found, wanted, rtol=1e-5, atol=1e-5)


def test_a_frozen_weight_gets_no_gradient(chunk: int):
    hidden, weight, targets = inputs()
    weight.requires_grad_(False)
    head.token_logps(hidden, weight, targets).sum().backward()
    assert weight.grad is None
    (wanted,) = torch.autograd.grad(plain(hidden, weight, targets).sum(), [hidden])
    assert_close(hidden.grad, wanted, rtol=1e-5, atol=1e-5)


def test_frozen_hidden_states_get_no_gradient(chunk: int):
    hidden, weight, targets = inputs()
    hidden.requires_grad_(False)
    head.token_logps(hidden, weight, targets).sum().backward()
    assert hidden.grad is None
    (wanted,) = torch.autograd.grad(plain(hidden, weight, targets).sum(), [weight])
    assert_close(weight.grad, wanted, rtol=1e-5, atol=1e-5)


def test_a_second_backward_pass_gives_the_same(chunk: int):
    hidden, weight, targets = inputs()
    found = head.token_logps(hidden, weight, targets).sum()
    first = torch.autograd.grad(found, (hidden, weight), retain_graph=True)
    assert_close(torch.autograd.grad(found, (hidden, weight)), first, rtol=1e-6, atol=1e-6)


def test_the_inputs_are_left_as_they_were(chunk: int):
    given = inputs()
    before = [t.detach().clone() for t in given]
    head.token_logps(*given).sum().backward()
    assert all(torch.equal(one, other) for one, other in zip(given, before, strict=True))


def test_logits_far_from_zero_do_not_overflow(chunk: int):
    hidden, weight, targets = inputs()
    found = head.token_logps(hidden * 500, weight, targets)
    assert found.isfinite().all()
    wanted = (hidden.double() * 500 @ weight.double().t()).log_softmax(-1).gather(1, targets[:, None])[:, 0]
    assert_close(found.double(), wanted, rtol=1e-5, atol=1e-3)


def test_the_words_probabilities_add_up_to_one(chunk: int):
    hidden, weight, _ = inputs(1)
    every = head.token_logps(hidden.expand(WORDS, -1), weight, torch.arange(WORDS))
    assert every.exp().sum().item() == pytest.approx(1, abs=1e-5)


def test_a_weight_that_is_used_twice_gets_both_gradients(chunk: int):
    """As the embeddings of a model whose output layer is tied to them."""
    _, weight, targets = inputs()
    ids = torch.arange(ROWS)
    (found,) = slopes(head.token_logps(weight[ids], weight, targets), weight)
    (wanted,) = slopes(plain(weight[ids], weight, targets), weight)
    assert_close(found, wanted, rtol=1e-5, atol=1e-5)


def test_half_precision_inputs_are_summed_in_single_precision(chunk: int):
    hidden, weight, targets = inputs()
    hidden = hidden.detach().bfloat16()
    found = head.token_logps(hidden, weight, targets)
    wanted = plain(hidden.float(), weight.bfloat16().float(), targets)
    assert found.dtype == torch.float32
    assert_close(found, wanted, rtol=1e-5, atol=1e-5)


def test_a_single_precision_weight_keeps_a_single_precision_gradient(chunk: int):
    hidden, weight, targets = inputs()
    half = hidden.detach().bfloat16().requires_grad_()
    to_half, to_weight = slopes(head.token_logps(half, weight, targets), half, weight)
    wanted = slopes(plain(half.float(), weight, targets), half, weight)
    assert (to_half.dtype, to_weight.dtype) == (torch.bfloat16, torch.float32)
    assert_close(to_weight, wanted[1], rtol=5e-2, atol=0.2)
    assert_close(to_half.float(), wanted[0].float(), rtol=5e-2, atol=0.2)


def test_autocast_leaves_single_precision_as_it_is():
    hidden, weight, targets = inputs()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = head.token_logps(hidden, weight, targets)
    assert torch.equal(found, head.token_logps(hidden, weight, targets))


@pytest.mark.parametrize("bias", [True, False])
def test_an_output_layer_with_a_bias_does_not_fit(bias: bool):
    assert head.fits(torch.nn.Linear(4, 9, bias=bias)) is not bias


def test_an_output_layer_of_another_kind_does_not_fit():
    class Scaled(torch.nn.Linear):
        """Computes more than a product."""

    assert not head.fits(Scaled(4, 9, bias=False))
    assert not head.fits(None)
