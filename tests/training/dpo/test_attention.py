import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from torch.testing import assert_close

from tests.models import make_tiny_model
from tests.training.dpo.helpers import run
from tests.training.dpo.test_packing import GROUPS, PAD, assert_alike, llama, one_by_one
from training.dpo.attention import NotSupported, _branch_by_branch, _in_rows, pack_attention
from training.dpo.data import Group
from training.dpo.logps import padded_token_logps, scorer_for
from training.dpo.packing import Pack, pack
from training.dpo.run import Run as TrainerRun
from training.dpo.settings import DPOSettings

Layout = Callable[..., torch.Tensor]
LAYOUTS = pytest.mark.parametrize("layout", [_branch_by_branch, _in_rows])
HEADS = pytest.mark.parametrize(("heads", "kv_heads"), [(2, 2), (4, 2), (3, 1)])
PROBE = Group([20, 21, 22], [[30, 31, 32, 0], [33, 34, 35, 36, 37, 38, 0]])
SHORT, LONG = [30, 31, 0], [33, 34, 35, 36, 37, 38] * 6


def qkv(laid: Pack, heads: int, kv_heads: int) -> list[torch.Tensor]:
    torch.manual_seed(5)
    return [torch.randn(1, count, laid.tokens, 8, requires_grad=True) for count in (heads, kv_heads, kv_heads)]


def masked(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, laid: Pack, scale: float) -> torch.Tensor:
    """The naive way: every token on every token, and a mask that says who sees whom."""
    sees = torch.zeros(laid.tokens, laid.tokens, dtype=torch.bool)
    for branch in laid.branches:
        cells = [*range(*branch.prompt), *range(*branch.completion)]
        for i, cell in enumerate(cells):
            sees[cell, cells[: i + 1]] = True
    k, v = (t.repeat_interleave(q.shape[1] // t.shape[1], dim=1) for t in (k, v))
    scores = (q @ k.transpose(2, 3) * scale).masked_fill(~sees, -torch.inf)
    return (scores.softmax(-1) @ v).transpose(1, 2)


def options(heads: int, kv_heads: int, scale: float = 0.3) -> dict[str, Any]:
    return {"scale": scale, "is_causal": True, "enable_gqa": heads != kv_heads}


@LAYOUTS
@HEADS
def test_attention_is_that_of_a_mask(layout: Layout, heads: int, kv_heads: int):
    laid = pack(GROUPS)
    q, k, v = qkv(laid, heads, kv_heads)
    found = layout(q, k, v, laid, options(heads, kv_heads))
    assert_close(found, masked(q, k, v, laid, 0.3), rtol=1e-5, atol=1e-6)


@LAYOUTS
@HEADS
def test_gradients_of_attention_are_those_of_a_mask(layout: Layout, heads: int, kv_heads: int):
    laid = pack(GROUPS)
    inputs = qkv(laid, heads, kv_heads)
    weights = torch.randn(1, laid.tokens, heads, 8)
    wanted = torch.autograd.grad((masked(*inputs, laid, 0.3) * weights).sum(), inputs)
    found = torch.autograd.grad((layout(*inputs, laid, options(heads, kv_heads)) * weights).sum(), inputs)
    for one, other in zip(found, wanted, strict=True):
        assert_close(one, other, rtol=1e-4, atol=1e-5)


@LAYOUTS
def test_one_token_of_prompt_and_story_is_enough(layout: Layout):
    laid = pack([Group([1], [[2]]), Group([3], [[4], [5]])])
    inputs = qkv(laid, 2, 2)
    assert_close(layout(*inputs, laid, options(2, 2)), masked(*inputs, laid, 0.3), rtol=1e-5, atol=1e-6)


@LAYOUTS
def test_nothing_comes_from_a_sister_or_another_prompt(layout: Layout):
    laid = pack([Group([1, 2], [[3, 4], [5, 6]]), Group([7], [[8]])])
    q, k, v = qkv(laid, 2, 2)
    (into_k,) = torch.autograd.grad(layout(q, k, v, laid, options(2, 2))[:, 4:6].sum(), [k])
    assert into_k[0, :, [2, 3, 6, 7]].abs().max().item() == 0
    assert into_k[0, :, [0, 1, 4]].abs().min().item() > 0


@LAYOUTS
def test_values_of_another_width_than_keys_are_attended_to(layout: Layout):
    """As DeepSeek's latent attention has them."""
    laid = pack(GROUPS)
    q, k, _ = qkv(laid, 2, 2)
    v = torch.randn(1, 2, laid.tokens, 5)
    assert_close(layout(q, k, v, laid, options(2, 2)), masked(q, k, v, laid, 0.3), rtol=1e-5, atol=1e-6)


def attend(laid: Pack | None, **given: Any) -> torch.Tensor:
    q, k, v = qkv(pack(GROUPS), 2, 2)
    return pack_attention(torch.nn.Identity(), q, k, v, None, pack=laid, scaling=0.3, **given)[0]


LONGEST = max(branch.length for branch in pack(GROUPS).branches)


@pytest.mark.parametrize("window", [1, LONGEST - 1])
def test_a_window_shorter_than_a_story_is_not_supported(window: int):
    with pytest.raises(NotSupported, match="sliding window"):
        attend(pack(GROUPS), sliding_window=window)


@pytest.mark.parametrize("window", [LONGEST, LONGEST + 1, None, 0])
def test_a_window_that_holds_the_longest_story_changes_nothing(window: int | None):
    assert torch.equal(attend(pack(GROUPS), sliding_window=window), attend(pack(GROUPS)))


@pytest.mark.parametrize("given", [{"softcap": 50.0}, {"s_aux": torch.zeros(2)}, {"position_bias": torch.zeros(1)}])
def test_attention_that_is_more_than_causal_is_not_supported(given: dict[str, Any]):
    with pytest.raises(NotSupported, match="not plain"):
        attend(pack(GROUPS), **given)


def test_attention_without_a_pack_is_not_supported():
    with pytest.raises(NotSupported, match="not plain"):
        attend(None)


SIZES = {
    "vocab_size": 100,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
    "bos_token_id": None,
    "eos_token_id": 0,
    "pad_token_id": PAD,
}
GROUPED = {**SIZES, "num_key_value_heads": 2}
GPT2 = {"vocab_size": 100, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128, "bos_token_id": 0}
BLOOM = {"vocab_size": 100, "hidden_size": 32, "n_layer": 2, "n_head": 4}
OPT = {"vocab_size": 100, "hidden_size": 32, "ffn_dim": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
MLA = {
    **{**SIZES, "num_key_value_heads": 4, "q_lora_rank": 8, "kv_lora_rank": 8, "qk_nope_head_dim": 8},
    **{"qk_rope_head_dim": 8, "v_head_dim": 4, "n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 1},
    **{"topk_group": 1, "moe_intermediate_size": 16, "first_k_dense_replace": 1},
}
LLAMA4 = {**GROUPED, "head_dim": 8, "num_local_experts": 2, "intermediate_size_mlp": 48, "num_experts_per_tok": 1}
# name: (config, whether its prompts can be shared); None: either will do
FAMILIES: dict[str, tuple[hf.PretrainedConfig, bool | None]] = {
    "llama": (hf.LlamaConfig(**GROUPED), True),
    "qwen2": (hf.Qwen2Config(**GROUPED), True),
    "qwen3": (hf.Qwen3Config(**GROUPED, head_dim=8), True),
    "mistral": (hf.MistralConfig(**GROUPED, sliding_window=64), True),
    "mistral with a short window": (hf.MistralConfig(**GROUPED, sliding_window=6), False),
    "phi3": (hf.Phi3Config(**GROUPED), True),
    "gemma": (hf.GemmaConfig(**GROUPED, head_dim=8), True),
    "gemma2, softcapped": (hf.Gemma2Config(**GROUPED, head_dim=8, sliding_window=6), False),
    "gemma2, logits softcapped": (
        hf.Gemma2Config(
            **GROUPED, head_dim=8, sliding_window=64, attn_logit_softcapping=None, final_logit_softcapping=2.0
        ),
        True,
    ),
    "gemma3 with a short window": (hf.Gemma3TextConfig(**GROUPED, head_dim=8, sliding_window=6), False),
    "cohere, logits scaled": (hf.CohereConfig(**GROUPED, logit_scale=0.25), True),
    "granite, logits scaled": (hf.GraniteConfig(**GROUPED, logits_scaling=4.0, attention_multiplier=0.1), True),
    "phi, output layer with bias": (hf.PhiConfig(**GROUPED), True),
    "mixtral": (hf.MixtralConfig(**GROUPED, num_local_experts=4), True),
    "deepseek v3": (hf.DeepseekV3Config(**MLA), None),
    "gpt2, learned positions": (hf.GPT2Config(**GPT2), True),
    "opt, learned positions": (hf.OPTConfig(**OPT, word_embed_proj_dim=16), True),
    "gpt-neox": (hf.GPTNeoXConfig(**SIZES), True),
    "gpt-j": (hf.GPTJConfig(**GPT2, rotary_dim=4), None),
    "bloom, alibi": (hf.BloomConfig(**BLOOM), False),
    "falcon, alibi": (
        hf.FalconConfig(vocab_size=100, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, alibi=True),
        False,
    ),
    "mpt, alibi": (hf.MptConfig(vocab_size=100, d_model=32, n_heads=4, n_layers=2), False),
    "mamba, no attention": (hf.MambaConfig(vocab_size=100, hidden_size=32, num_hidden_layers=2), False),
    "lfm2, convolutions": (hf.Lfm2Config(**GROUPED, layer_types=["conv", "full_attention"]), False),
    "gpt-oss, sinks": (
        hf.GptOssConfig(**GROUPED, head_dim=8, num_local_experts=4, num_experts_per_tok=2, sliding_window=64),
        False,
    ),
    "phimoe with a short window": (hf.PhimoeConfig(**GROUPED, num_local_experts=4, sliding_window=6), False),
    "llama4": (hf.Llama4TextConfig(**LLAMA4), None),
}


def made(config: hf.PretrainedConfig) -> Any:
    """A model whose weights are far enough from zero that each part of it tells."""
    torch.manual_seed(7)
    model = hf.AutoModelForCausalLM.from_config(copy.deepcopy(config)).float().eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, mean=1.0 if parameter.dim() == 1 else 0.0, std=0.25)
    return model


@pytest.mark.parametrize("name", FAMILIES)
def test_logps_are_right_for_every_family_of_models(name: str):
    config, packs = FAMILIES[name]
    model = made(config)
    naive = one_by_one(model, GROUPS)
    scorer = scorer_for(model, PAD, PROBE, precision="fp32")
    with torch.no_grad():
        found = scorer.token_logps(GROUPS)
    assert packs in (None, scorer.packed)
    for one, other in zip(found, naive, strict=True):
        assert_close(one, other, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("name", ["gpt2, learned positions", "cohere, logits scaled", "mixtral", "gpt-neox"])
def test_gradients_are_those_of_the_padded_pass_in_every_family(name: str):
    model = made(FAMILIES[name][0])
    torch.cat(padded_token_logps(model, GROUPS, PAD)).sum().backward()
    wanted = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    scorer = scorer_for(model, PAD, PROBE, precision="fp32")
    assert scorer.packed
    torch.cat(scorer.token_logps(GROUPS)).sum().backward()
    for n, parameter in model.named_parameters():
        if n in wanted:
            scale = wanted[n].abs().max().item()
            assert_close(parameter.grad, wanted[n], rtol=1e-3, atol=1e-4 * scale + 1e-6)


def test_a_model_that_gives_the_logits_of_every_position_is_padded():
    """It takes logits_to_keep, and passes it over."""
    model = made(hf.xLSTMConfig(vocab_size=100, hidden_size=32, num_heads=4, num_hidden_layers=2))
    naive = one_by_one(model, [PROBE])
    scorer = scorer_for(model, PAD, PROBE, precision="fp32")
    assert_alike([t.detach() for t in scorer.token_logps([PROBE])], naive)


@pytest.mark.parametrize("usual", ["sdpa", "eager"])
def test_a_model_that_cannot_be_packed_keeps_its_own_attention(usual: str):
    model = made(FAMILIES["mistral with a short window"][0])
    model.set_attn_implementation(usual)
    assert not scorer_for(model, PAD, PROBE, precision="fp32").packed
    assert model.config._attn_implementation == usual


def test_the_saved_model_names_no_attention_of_ours(tmp_path: Path):
    model = llama()
    assert scorer_for(model, PAD, PROBE, precision="fp32").packed
    model.save_pretrained(tmp_path)
    assert "storyloop" not in (tmp_path / "config.json").read_text()


def saved(config: hf.PretrainedConfig, directory: Path) -> Path:
    """A model of that family with the tiny model's tokenizer."""
    make_tiny_model(directory)
    (directory / "model.safetensors").unlink()
    made(config).save_pretrained(directory)
    return directory


def line(number: int, chosen: list[int], rejected: list[int]) -> dict[str, Any]:
    ids = {"prompt_ids": [20, 21 + number], "chosen_ids": chosen, "rejected_ids": rejected}
    ends = {"chosen_finish_reason": "length", "rejected_finish_reason": "length"}
    return {"prompt": f"Write {number}.", "chosen": "One.", "rejected": "Two.", **ids, **ends}


WINDOWED = {
    "mistral": hf.MistralConfig(**{**GROUPED, "vocab_size": 320}, sliding_window=12),
    "gemma3": hf.Gemma3TextConfig(**{**GROUPED, "vocab_size": 320}, head_dim=8, sliding_window=12),
    "phimoe": hf.PhimoeConfig(**{**GROUPED, "vocab_size": 320}, num_local_experts=4, sliding_window=12),
    "llama4": hf.Llama4TextConfig(**{**LLAMA4, "vocab_size": 320}, attention_chunk_size=12),
}


@pytest.mark.parametrize("name", WINDOWED)
def test_a_story_longer_than_the_window_is_scored_rightly_wherever_it_stands(name: str, tmp_path: Path):
    """The first comparison is shorter than the window, the second is not."""
    model = saved(WINDOWED[name], tmp_path / "model")
    rows = [line(0, SHORT, [40, 0]), line(1, LONG, [41, 0])]
    done = run(model, tmp_path / "out", rows, epochs=1, shuffle=False, batch_pairs=2, precision="fp32")
    naive = one_by_one(made(WINDOWED[name]), [Group([20, 21], [SHORT]), Group([20, 22], [LONG])])
    assert done.metrics[0].logps_chosen == pytest.approx(sum(t.sum().item() for t in naive) / 2, rel=1e-5)


def test_stories_stay_within_the_length_up_to_which_positions_are_steady(tmp_path: Path):
    """Phi-3's long rope has other frequencies, for all of a pass, beyond its first context."""
    rope = {"rope_type": "longrope", "rope_theta": 10000.0, "short_factor": [1.0] * 4, "long_factor": [4.0] * 4}
    rope["original_max_position_embeddings"] = 16
    config = hf.Phi3Config(**{**GROUPED, "vocab_size": 320}, rope_parameters=rope, original_max_position_embeddings=16)
    model = saved(config, tmp_path / "phi3")
    assert TrainerRun(model, tmp_path / "data", tmp_path / "out", DPOSettings()).token_limit() == 16


def test_a_policy_that_is_saved_can_be_read_by_anyone(tmp_path: Path, tiny_model: Path):
    done = run(tiny_model, tmp_path / "out", [line(0, SHORT, [40, 0])], epochs=1)
    config = json.loads((done.result.directory / "config.json").read_text())
    assert not [key for key in config if "attn_implementation" in key]
