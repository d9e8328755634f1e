import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from torch.testing import assert_close

from generation.engines.loading import load_model, load_tokenizer
from tests.models import make_tiny_model
from tests.training.dpo.helpers import changed_model, naive_logp
from training.dpo.attention import NAME
from training.dpo.data import Group
from training.dpo.logps import Scorer, padded_token_logps, scorer_for
from training.dpo.policy import load_policy, without_dropout
from training.dpo.settings import DPOSettings

PAD = 1
CPU = torch.device("cpu")
GROUPS = [
    Group([20, 21, 22, 23, 24], [[30, 31, 32, 0], [33, 0]]),
    Group([40], [[50, 51, 52, 53, 54, 55, 56, 0]]),
    Group([60, 61, 62], [[70, 0], [71, 72, 73, 74, 0], [70, 71, 0]]),
]
Way = Callable[..., list[torch.Tensor]]


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> Any:
    return load_model(tiny_model).requires_grad_(False)


def padded(model: Any, groups: list[Group], pad_id: int = PAD) -> list[torch.Tensor]:
    model.set_attn_implementation("sdpa")
    return padded_token_logps(model, groups, pad_id)


def fused(model: Any, groups: list[Group], pad_id: int = PAD) -> list[torch.Tensor]:
    model.set_attn_implementation(NAME)
    return Scorer(model, pad_id).token_logps(groups)


def plain(model: Any, groups: list[Group], pad_id: int = PAD) -> list[torch.Tensor]:
    model.set_attn_implementation(NAME)
    return Scorer(model, pad_id, fused=False).token_logps(groups)


WAYS = pytest.mark.parametrize("way", [padded, fused, plain])


def naive(model: Any, prompt: list[int], completion: list[int]) -> float:
    model.set_attn_implementation("sdpa")
    return naive_logp(model, prompt, completion)


def sums(logps: list[torch.Tensor]) -> torch.Tensor:
    return torch.stack([t.sum() for t in logps])


def logp(way: Way, model: Any, prompt: list[int], completion: list[int]) -> float:
    return sums(way(model, [Group(prompt, [completion])])).item()


@WAYS
def test_logps_are_those_of_one_story_after_the_other(way: Way, model: Any):
    wanted = [naive(model, group.prompt_ids, c) for group in GROUPS for c in group.completions]
    assert sums(way(model, GROUPS)).tolist() == pytest.approx(wanted, rel=1e-6)


@WAYS
def test_there_is_one_number_for_each_token(way: Way, model: Any):
    assert [len(t) for t in way(model, GROUPS)] == [len(c) for g in GROUPS for c in g.completions]


@WAYS
def test_one_token_completions_have_probabilities_that_sum_to_one(way: Way, model: Any):
    """The first completion token is predicted from the last prompt position."""
    every_token = Group([20, 21, 22], [[token] for token in range(model.config.vocab_size)])
    assert sums(way(model, [every_token])).exp().sum().item() == pytest.approx(1, abs=1e-5)


@WAYS
def test_prompt_tokens_count_nothing(way: Way, model: Any):
    """log p(b c | a) = log p(b | a) + log p(c | a b): what moves into the prompt leaves the sum."""
    a, b, c = [20, 21], [22, 23, 24], [30, 31]
    apart = logp(way, model, a, b) + logp(way, model, a + b, c)
    assert logp(way, model, a, b + c) == pytest.approx(apart, rel=1e-6)


@WAYS
def test_the_end_token_counts(way: Way, model: Any):
    end = naive(model, [20, 21, 30, 31], [0])
    assert logp(way, model, [20, 21], [30, 31, 0]) == pytest.approx(
        logp(way, model, [20, 21], [30, 31]) + end, rel=1e-6
    )


@WAYS
def test_the_end_token_counts_when_it_is_also_the_padding(way: Way, model: Any):
    assert_close(way(model, GROUPS, 0), way(model, GROUPS), rtol=1e-6, atol=1e-6)


@WAYS
def test_logps_are_sums_not_averages(way: Way, tiny_model: Path):
    """A model that knows nothing pays ln(vocabulary) for each token, however many there are."""
    model = load_model(tiny_model).requires_grad_(False)
    torch.nn.init.zeros_(model.lm_head.weight)
    each = -math.log(model.config.vocab_size)
    found = sums(way(model, [Group([20], [[30, 31, 0], [30, 31, 32, 33, 34, 0]])]))
    assert found.tolist() == pytest.approx([3 * each, 6 * each], rel=1e-6)


@WAYS
def test_logps_do_not_depend_on_the_other_stories_of_the_batch(way: Way, model: Any):
    apart = [t for group in GROUPS for t in way(model, [group])]
    assert_close(way(model, GROUPS), apart, rtol=1e-6, atol=1e-5)


@WAYS
def test_logps_do_not_depend_on_the_order_of_the_batch(way: Way, model: Any):
    turned = [Group(g.prompt_ids, g.completions[::-1]) for g in GROUPS[::-1]]
    assert_close(way(model, turned)[::-1], way(model, GROUPS), rtol=1e-6, atol=1e-5)


@WAYS
@pytest.mark.parametrize("length", [10, 50, 200])
def test_logps_do_not_depend_on_the_length_of_another_story(way: Way, model: Any, length: int):
    mate = Group([20], [[30] * length])
    assert_close(way(model, [*GROUPS[:1], mate])[:2], way(model, GROUPS[:1]), rtol=1e-6, atol=1e-5)


@WAYS
def test_logps_do_not_depend_on_the_padding_token(way: Way, model: Any):
    assert all(torch.equal(one, other) for one, other in zip(way(model, GROUPS, 5), way(model, GROUPS), strict=True))


@WAYS
def test_logps_carry_the_gradient(way: Way, tiny_model: Path):
    model = load_model(tiny_model)
    sums(way(model, GROUPS)).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum().item() > 0 for p in model.parameters())


@WAYS
def test_a_half_precision_model_is_summed_in_single_precision(way: Way, tiny_model: Path):
    model = load_model(tiny_model).bfloat16().requires_grad_(False)
    story = [30 + i % 200 for i in range(200)]
    (found,) = way(model, [Group([20, 21], [story])])
    assert found.dtype == torch.float32
    # a sum of 200 terms in bfloat16 (8 bits) would be off by whole nats
    assert found.sum().item() == pytest.approx(naive(model, [20, 21], story), rel=1e-3)


@WAYS
def test_logps_of_text_match_the_likelihood_that_transformers_reports(way: Way, tiny_model: Path, model: Any):
    """An oracle of another hand: labels of -100 on the prompt, mean loss times tokens."""
    tokenizer = load_tokenizer(tiny_model)
    prompt, story = tokenizer.encode("Write a story.\n"), tokenizer.encode("Once upon a time there was a fox.")
    labels = torch.tensor([[-100] * len(prompt) + story])
    model.set_attn_implementation("sdpa")
    loss = model(input_ids=torch.tensor([prompt + story]), labels=labels).loss
    assert logp(way, model, prompt, story) == pytest.approx(-loss.item() * len(story), rel=1e-5)


@pytest.mark.parametrize("wanted", [True, False])
def test_the_quickest_way_is_taken_that_is_allowed(tiny_model: Path, wanted: bool):
    scorer = scorer_for(load_model(tiny_model), PAD, GROUPS[0], precision="fp32", fused=wanted)
    assert (scorer.packed, scorer.fused) == (True, wanted)


def test_bfloat16_products_stay_close_to_single_precision(tiny_model: Path):
    found = []
    for precision in ("fp32", "bf16"):
        model = load_model(tiny_model).requires_grad_(False)
        found.append(sums(scorer_for(model, PAD, GROUPS[0], precision=precision).token_logps(GROUPS)))
        assert found[-1].dtype == torch.float32
    assert not torch.equal(found[0], found[1])
    assert_close(found[1], found[0], rtol=0.03, atol=0.3)


@pytest.mark.parametrize("seed", range(4))
def test_an_adapter_on_a_bfloat16_base_is_packed_like_any_other(seed: int, tiny_model: Path):
    """Rounding is no reason to take the slow way."""
    policy = load_policy(tiny_model, None, DPOSettings(method="lora", precision="bf16"), CPU)
    random = torch.Generator().manual_seed(seed)
    probe = Group([20, 21], [torch.randint(320, (length,), generator=random).tolist() for length in (100, 80)])
    scorer = scorer_for(policy, PAD, probe, precision="bf16")
    assert (scorer.packed, scorer.fused) == (True, True)


def test_an_adapter_on_the_output_layer_counts(tiny_model: Path):
    from peft import LoraConfig, get_peft_model

    policy = get_peft_model(load_model(tiny_model), LoraConfig(r=2, target_modules=["lm_head"], task_type="CAUSAL_LM"))
    for name, parameter in policy.eval().named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    wanted = [naive_logp(policy, g.prompt_ids, c) for g in GROUPS for c in g.completions]
    scorer = scorer_for(policy, PAD, GROUPS[0], precision="fp32")
    with torch.no_grad():
        assert sums(scorer.token_logps(GROUPS)).tolist() == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("checkpointing", [True, False])
def test_dropout_of_the_config_changes_nothing(method: str, checkpointing: bool, tiny_model: Path, tmp_path: Path):
    noisy = changed_model(tiny_model, tmp_path / "noisy", attention_dropout=0.5)
    settings = DPOSettings(method=method, gradient_checkpointing=checkpointing, precision="fp32")
    scorer = scorer_for(load_policy(noisy, None, settings, CPU), PAD, GROUPS[0], precision="fp32")
    wanted = sums(padded(load_model(tiny_model), GROUPS))
    assert_close(sums(scorer.token_logps(GROUPS)), wanted, rtol=1e-5, atol=1e-5)


SMALL = {"vocab_size": 320, "num_hidden_layers": 4, "hidden_size": 32, "num_attention_heads": 4}
LLAMA = {**SMALL, "num_key_value_heads": 4, "intermediate_size": 64, "bos_token_id": None, "eos_token_id": 0}
NOISY: dict[str, hf.PretrainedConfig] = {
    "llama": hf.LlamaConfig(**LLAMA, attention_dropout=0.5),
    "gpt2": hf.GPT2Config(vocab_size=320, n_layer=4, n_embd=32, n_head=4, attn_pdrop=0.5, resid_pdrop=0.5),
    "gpt-neox": hf.GPTNeoXConfig(**SMALL, intermediate_size=64, attention_dropout=0.5, hidden_dropout=0.5),
    "bloom": hf.BloomConfig(vocab_size=320, n_layer=4, hidden_size=32, n_head=4, hidden_dropout=0.5),
    "falcon, which reads its config": hf.FalconConfig(**SMALL, hidden_dropout=0.5, attention_dropout=0.5),
    "opt, layers dropped": hf.OPTConfig(**SMALL, ffn_dim=64, word_embed_proj_dim=32, dropout=0.5, layerdrop=0.5),
    "mixtral, router jitter": hf.MixtralConfig(**LLAMA, num_local_experts=4, router_jitter_noise=0.5),
}


@pytest.mark.parametrize("name", NOISY)
def test_a_policy_whose_activations_are_made_again_has_no_noise(name: str, tmp_path: Path):
    make_tiny_model(tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").unlink()
    torch.manual_seed(2)
    calm = hf.AutoModelForCausalLM.from_config(NOISY[name]).eval()
    for parameter in calm.parameters():
        torch.nn.init.normal_(parameter, mean=1.0 if parameter.dim() == 1 else 0.0, std=0.2)
    calm.save_pretrained(tmp_path / "model")
    policy = load_policy(tmp_path / "model", None, DPOSettings(gradient_checkpointing=True), CPU)
    scorer = scorer_for(policy, PAD, GROUPS[0], precision="fp32")
    for _ in range(3):
        assert_close(
            sums(scorer.token_logps(GROUPS)), sums(padded_token_logps(calm, GROUPS, PAD)), rtol=1e-4, atol=1e-4
        )


def test_dropout_is_taken_out_wherever_it_stands():
    policy = hf.GPT2LMHeadModel(NOISY["gpt2"]).train()
    without_dropout(policy)
    ids = torch.tensor([[20, 21, 22, 23]])
    assert torch.equal(policy(ids).logits, policy(ids).logits)


def adapter_gradients(tiny_model: Path, settings: DPOSettings) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    policy = load_policy(tiny_model, None, settings, CPU)
    for name, parameter in policy.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    scorer = scorer_for(policy, PAD, GROUPS[0], precision="fp32")
    assert scorer.packed
    sums(scorer.token_logps(GROUPS)).sum().backward()
    return {name: p.grad for name, p in policy.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("method", ["full", "lora"])
def test_gradients_are_the_same_when_activations_are_made_again(method: str, tiny_model: Path):
    kept = adapter_gradients(tiny_model, DPOSettings(method=method, precision="fp32"))
    again = adapter_gradients(tiny_model, DPOSettings(method=method, precision="fp32", gradient_checkpointing=True))
    assert again.keys() == kept.keys()
    for name, wanted in kept.items():
        assert wanted.abs().max().item() > 0
        assert_close(again[name], wanted, rtol=1e-4, atol=1e-5 * wanted.abs().max().item())
