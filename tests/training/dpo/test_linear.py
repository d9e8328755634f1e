import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from peft import LoraConfig, get_peft_model
from torch.testing import assert_close

from generation.engines.loading import load_model
from tests.training.dpo.test_packing import GROUPS, PAD, gradients, llama
from training.dpo import linear as module
from training.dpo.linear import linear, product, use_onednn
from training.dpo.logps import padded_token_logps

pytestmark = pytest.mark.skipif(
    not hasattr(torch.ops.mkldnn, "_linear_pointwise"), reason="this build of torch has no oneDNN"
)
SHAPES = pytest.mark.parametrize("shape", [(5,), (1, 5), (7, 5), (2, 3, 5), (1, 1, 5), (2, 1, 3, 5)])
BIAS = pytest.mark.parametrize("biased", [True, False])


@pytest.fixture
def on_amd(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if this were a processor for which oneDNN is faster, whichever it is."""
    monkeypatch.setattr(module, "onednn_is_faster", lambda: True)


def inputs(shape: tuple[int, ...], biased: bool) -> list[torch.Tensor]:
    torch.manual_seed(len(shape))
    found = [torch.randn(shape), torch.randn(4, 5), *([torch.randn(4)] if biased else [])]
    return [t.requires_grad_() for t in found]


@SHAPES
@BIAS
def test_the_product_is_that_of_torch(shape: tuple[int, ...], biased: bool):
    given = inputs(shape, biased)
    assert_close(linear(*given), F.linear(*given), rtol=1e-5, atol=1e-6)


@SHAPES
@BIAS
def test_the_gradients_are_those_of_torch(shape: tuple[int, ...], biased: bool):
    given = inputs(shape, biased)
    slope = torch.randn(*shape[:-1], 4)
    found = torch.autograd.grad(linear(*given), given, slope)
    assert_close(found, torch.autograd.grad(F.linear(*given), given, slope), rtol=1e-5, atol=1e-5)


@SHAPES
def test_the_gradient_of_a_sum_is_that_of_torch(shape: tuple[int, ...]):
    """It is one number, seen as a whole tensor."""
    given = inputs(shape, biased=True)
    found = torch.autograd.grad(linear(*given).sum(), given)
    assert_close(found, torch.autograd.grad(F.linear(*given).sum(), given), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("frozen", [0, 1, 2])
def test_what_is_frozen_gets_no_gradient(frozen: int):
    given = inputs((3, 5), biased=True)
    given[frozen].requires_grad_(False)
    trained = [t for t in given if t.requires_grad]
    linear(*given).square().sum().backward()
    assert given[frozen].grad is None
    wanted = torch.autograd.grad(F.linear(*given).square().sum(), trained)
    assert_close([t.grad for t in trained], list(wanted), rtol=1e-5, atol=1e-5)


@BIAS
def test_rows_that_lie_apart_in_memory_are_read_rightly(biased: bool):
    x, *others = inputs((5, 12), biased)
    for view in (x.t()[:, :5], x[:, ::2][:, :5], x[:1, :5].expand(4, 5)):
        assert_close(linear(view, *others), F.linear(view, *others), rtol=1e-5, atol=1e-6)


@BIAS
def test_no_rows_give_no_rows(biased: bool):
    """As for an expert of a mixture that no token was sent to."""
    given = inputs((0, 5), biased)
    found = linear(*given)
    assert found.shape == (0, 4)
    found.sum().backward()
    assert given[1].grad.abs().sum().item() == 0


@pytest.mark.parametrize("sizes", [(1, 5, 4), (5, 1, 4), (5, 4, 1), (1, 1, 1), (3, 40, 33)])
def test_transposed_factors_are_multiplied_rightly(sizes: tuple[int, int, int]):
    rows, inner, columns = sizes
    torch.manual_seed(0)
    x, weight = torch.randn(rows, inner), torch.randn(columns, inner)
    for a in (x, x.t().contiguous().t()):
        for b in (weight, weight.t().contiguous().t()):
            assert_close(product(a, b), a @ b.t(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_precisions_are_torchs_own(dtype: torch.dtype):
    x, weight, bias = (t.detach().to(dtype) for t in inputs((3, 5), biased=True))
    assert torch.equal(linear(x, weight, bias), F.linear(x, weight, bias))


def test_under_autocast_the_product_has_the_precision_that_is_asked_for():
    """precision "bf16" means products in bfloat16, on a CPU too."""
    x, weight = inputs((3, 5), biased=False)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found, wanted = linear(x, weight), F.linear(x, weight)
    assert found.dtype == wanted.dtype
    assert torch.equal(found, wanted)


@pytest.mark.usefixtures("on_amd")
def test_a_model_gives_the_same_logps_and_gradients():
    usual = llama(attention_bias=True)
    quick = copy.deepcopy(usual)
    use_onednn(quick)
    wanted, found = (padded_token_logps(m, GROUPS, PAD) for m in (usual, quick))
    assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    slopes, wanted_slopes = gradients(quick, found), gradients(usual, wanted)
    for name, value in wanted_slopes.items():
        assert_close(slopes[name], value, rtol=1e-4, atol=1e-5 * value.abs().max().item())


@pytest.mark.usefixtures("on_amd")
def test_the_weights_keep_their_names():
    model = llama()
    before = list(model.state_dict())
    use_onednn(model)
    assert list(model.state_dict()) == before


@pytest.mark.usefixtures("on_amd")
def test_a_saved_model_is_the_same_model(tiny_model: Path, tmp_path: Path):
    model = load_model(tiny_model)
    use_onednn(model)
    model.save_pretrained(tmp_path)
    found, wanted = (m.state_dict() for m in (type(model).from_pretrained(tmp_path), load_model(tiny_model)))
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def with_adapter(model: Any) -> Any:
    torch.manual_seed(1)
    found = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")).eval()
    for name, parameter in found.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return found


@pytest.mark.usefixtures("on_amd")
def test_the_layers_of_an_adapter_give_the_same():
    usual, quick = with_adapter(llama()), with_adapter(llama())
    use_onednn(quick)
    losses = [torch.cat(padded_token_logps(m, GROUPS, PAD)).sum() for m in (usual, quick)]
    assert_close(losses[1], losses[0], rtol=1e-5, atol=1e-5)
    for loss in losses:
        loss.backward()
    for (name, one), (_, other) in zip(quick.named_parameters(), usual.named_parameters(), strict=True):
        assert (one.grad is not None) == ("lora" in name)
        if one.grad is not None:
            assert_close(one.grad, other.grad, rtol=1e-3, atol=1e-4 * other.grad.abs().max().item())


@pytest.mark.usefixtures("on_amd")
def test_an_adapter_is_still_merged_and_disabled():
    model = with_adapter(llama())
    use_onednn(model)
    adapted = torch.cat(padded_token_logps(model, GROUPS, PAD))
    with model.disable_adapter():
        bare = torch.cat(padded_token_logps(model, GROUPS, PAD))
    assert_close(bare, torch.cat(padded_token_logps(llama(), GROUPS, PAD)), rtol=1e-5, atol=1e-5)
    assert not torch.allclose(adapted, bare)
    merged = torch.cat(padded_token_logps(model.merge_and_unload(), GROUPS, PAD))
    assert_close(merged, adapted, rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("on_amd")
def test_a_weight_that_is_replaced_is_the_one_that_counts():
    model = torch.nn.Sequential(torch.nn.Linear(5, 4))
    use_onednn(model)
    model[0].weight = torch.nn.Parameter(torch.zeros(4, 5))
    model[0].bias.data.fill_(3.0)
    assert model(torch.ones(2, 5)).tolist() == [[3.0] * 4] * 2
