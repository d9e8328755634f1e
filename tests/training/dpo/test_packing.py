from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close
from transformers import LlamaConfig, LlamaForCausalLM

from training.dpo.attention import NAME
from training.dpo.data import Group
from training.dpo.logps import Scorer, padded_token_logps
from training.dpo.packing import Pack, pack

PAD = 1
GROUPS = [
    Group([20, 21, 22, 23, 24], [[30, 31, 32, 0], [33, 0], [34, 35, 36, 37, 38, 39]]),
    Group([40], [[50]]),
    Group([60, 61], [[70, 0], [71, 72, 73, 74, 0], [75], [70, 71, 0], [76] * 20]),
]


def llama(**config: Any) -> LlamaForCausalLM:
    """Four heads on two key-value heads, unless told otherwise."""
    torch.manual_seed(3)
    usual = {
        "vocab_size": 100,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 128,
        "initializer_range": 0.2,
        "bos_token_id": None,
        "eos_token_id": 0,
    }
    return LlamaForCausalLM(LlamaConfig(**{**usual, **config})).eval()


def one_by_one(model: Any, groups: list[Group]) -> list[torch.Tensor]:
    """Each token's log-probability, one story after the other, in double precision after the logits."""
    found = []
    with torch.no_grad():
        for group in groups:
            for completion in group.completions:
                ids = torch.tensor([group.prompt_ids + completion])
                logps = model(input_ids=ids, use_cache=False).logits[0].double().log_softmax(-1)
                at = torch.arange(len(completion)) + len(group.prompt_ids) - 1
                found.append(logps[at, torch.tensor(completion)].float())
    return found


def packed(model: Any, groups: list[Group], *, fused: bool = True) -> list[torch.Tensor]:
    model.set_attn_implementation(NAME)
    return Scorer(model, PAD, fused=fused).token_logps(groups)


def assert_alike(found: list[torch.Tensor], wanted: list[torch.Tensor]) -> None:
    assert [len(t) for t in found] == [len(t) for t in wanted]
    for one, other in zip(found, wanted, strict=True):
        assert_close(one, other, rtol=1e-5, atol=1e-5)
        assert one.sum().item() == pytest.approx(other.sum().item(), rel=1e-5)


def gradients(model: Any, logps: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    """Of a loss in which each token of each story weighs otherwise."""
    model.zero_grad()
    weights = torch.linspace(-1, 2, sum(map(len, logps)))
    (torch.cat(logps) * weights).sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters()}


def assert_same_gradients(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> None:
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        scale = value.abs().max().item()
        assert scale > 0
        assert_close(found[name], value, rtol=1e-4, atol=1e-5 * scale)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("fused", [True, False])
def test_packed_logps_are_those_of_one_story_after_the_other(count: int, fused: bool):
    model = llama()
    groups = [Group(g.prompt_ids, g.completions[:count]) for g in GROUPS]
    naive = one_by_one(model, groups)
    assert_alike(packed(model, groups, fused=fused), naive)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_padded_logps_are_those_of_one_story_after_the_other(count: int):
    model = llama()
    groups = [Group(g.prompt_ids, g.completions[:count]) for g in GROUPS]
    assert_alike(padded_token_logps(model, groups, PAD), one_by_one(model, groups))


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_packed_logps_are_right_however_heads_share_keys(heads: int):
    model = llama(num_key_value_heads=heads)
    naive = one_by_one(model, GROUPS)
    assert_alike(packed(model, GROUPS), naive)


def test_a_prompt_and_a_story_of_one_token_each_can_be_packed():
    model = llama()
    groups = [Group([40], [[50], [51]]), Group([41], [[50]])]
    naive = one_by_one(model, groups)
    assert_alike(packed(model, groups), naive)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("fused", [True, False])
def test_packed_gradients_are_those_of_the_padded_pass(tied: bool, fused: bool):
    model = llama(tie_word_embeddings=tied)
    wanted = gradients(model, padded_token_logps(model, GROUPS, PAD))
    assert_same_gradients(gradients(model, packed(model, GROUPS, fused=fused)), wanted)


@pytest.mark.parametrize("fused", [True, False])
def test_a_story_does_not_see_its_sisters(fused: bool):
    model = llama()
    before = packed(model, [GROUPS[0]], fused=fused)
    other = Group(GROUPS[0].prompt_ids, [GROUPS[0].completions[0], [99, 98], GROUPS[0].completions[2]])
    after = packed(model, [other], fused=fused)
    assert torch.equal(before[0], after[0])
    assert torch.equal(before[2], after[2])
    assert not torch.allclose(before[1], after[1])


def test_a_story_does_not_see_how_long_its_sisters_are():
    model = llama()
    before = packed(model, [GROUPS[0]])
    other = Group(GROUPS[0].prompt_ids, [[98] * 40, GROUPS[0].completions[1], [97]])
    assert_close(packed(model, [other])[1], before[1], rtol=0, atol=1e-6)


def test_a_story_does_not_see_other_prompts():
    model = llama()
    alone = packed(model, [GROUPS[2]])
    together = packed(model, GROUPS)[4:]
    for one, other in zip(alone, together, strict=True):
        assert_close(one, other, rtol=0, atol=2e-6)


def test_a_storys_gradient_reaches_nothing_of_its_sisters():
    """Token 90 stands in the second story alone: what the first is worth cannot change with it."""
    model = llama()
    logps = packed(model, [Group([20, 21], [[30, 31, 32], [90, 90]])])
    logps[0].sum().backward()
    assert model.model.embed_tokens.weight.grad[90].abs().max().item() == 0


def test_a_story_that_stands_behind_two_prompts_has_the_logps_of_each():
    model = llama()
    groups = [Group([20, 21], [[30, 31, 0]]), Group([22, 23, 24], [[30, 31, 0]])]
    naive = one_by_one(model, groups)
    found = packed(model, groups)
    assert_alike(found, naive)
    assert not torch.allclose(found[0], found[1])


def test_the_tokens_of_a_prompt_stand_there_once():
    laid = pack(GROUPS)
    assert laid.ids[0].tolist() == sum((g.prompt_ids + sum(g.completions, []) for g in GROUPS), [])
    assert laid.tokens == sum(len(g.prompt_ids) + sum(map(len, g.completions)) for g in GROUPS)


def test_each_story_takes_up_the_positions_behind_its_own_prompt():
    laid = pack([Group([20, 21], [[30, 31], [32]]), Group([22], [[33, 34]])])
    assert laid.positions[0].tolist() == [0, 1, 2, 3, 2, 0, 1, 2]


def test_the_first_token_of_each_story_is_predicted_from_the_end_of_its_prompt():
    laid = pack([Group([20, 21], [[30, 31], [32]]), Group([22], [[33, 34]])])
    assert laid.predictors.tolist() == [1, 2, 1, 5, 6]
    assert laid.targets.tolist() == [30, 31, 32, 33, 34]
    assert laid.lengths == (2, 1, 2)


def test_a_pack_on_its_own_device_is_not_copied():
    laid = pack(GROUPS)
    assert laid.to(torch.device("cpu")) is laid


tokens = st.lists(st.integers(0, 9), min_size=1, max_size=6)
any_groups = st.lists(st.builds(Group, tokens, st.lists(tokens, min_size=1, max_size=4)), min_size=1, max_size=4)


def rows(laid: Pack) -> list[list[int]]:
    """What each branch reads, by its ranges."""
    ids = laid.ids[0].tolist()
    return [ids[slice(*b.prompt)] + ids[slice(*b.completion)] for b in laid.branches]


@settings(max_examples=60, deadline=None)
@given(any_groups)
def test_every_branch_is_its_prompt_and_its_story(groups: list[Group]):
    assert rows(pack(groups)) == [g.prompt_ids + c for g in groups for c in g.completions]


@settings(max_examples=60, deadline=None)
@given(any_groups)
def test_padded_rows_hold_the_branches_and_come_back_to_the_same_places(groups: list[Group]):
    laid = pack(groups)
    cells = laid.ids[0][laid.padded.gather]
    for row, wanted in zip(cells.tolist(), rows(laid), strict=True):
        assert row[: len(wanted)] == wanted
    assert laid.padded.gather.flatten()[laid.padded.scatter].tolist() == list(range(laid.tokens))


@settings(max_examples=60, deadline=None)
@given(any_groups)
def test_pieces_add_up_to_the_pack(groups: list[Group]):
    laid = pack(groups)
    wanted = [len(ids) for g in groups for ids in (g.prompt_ids, *g.completions)]
    assert laid.pieces == wanted
