"""Adapters of rounds that follow each other, as one adapter on the base that they began with."""

import json
from pathlib import Path

import pytest
import torch

from generation.engines.adapters import CONFIG, WEIGHTS, read_config, stack_adapters, zero_adapter
from generation.engines.loading import load_model
from generation.engines.values import EngineError
from tests.generation.lora import logits, make_adapter, merged
from tests.threads import at_once

ROUNDS = [
    pytest.param({}, {}, id="alike"),
    pytest.param({"r": 2}, {"r": 8, "lora_alpha": 4}, id="other ranks and scales"),
    pytest.param({"target_modules": ["q_proj", "o_proj"]}, {"target_modules": ["v_proj"]}, id="other modules"),
    pytest.param({"use_rslora": True}, {}, id="rslora first"),
    pytest.param({}, {"use_rslora": True, "r": 3}, id="rslora last"),
    pytest.param({"target_modules": "all-linear"}, {"target_modules": ["up_proj"]}, id="all linear"),
    pytest.param({"target_modules": r".*\.o_proj"}, {}, id="modules by a pattern"),
    pytest.param({}, {"layers_to_transform": [1]}, id="one layer only"),
]


def same(one: torch.Tensor, other: torch.Tensor) -> bool:
    return torch.allclose(one, other, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("first", "second"), ROUNDS)
def test_two_rounds_stacked_on_the_base_are_the_second_rounds_policy(tiny_model, tmp_path, first, second):
    one = make_adapter(tiny_model, tmp_path / "1", seed=1, **first)
    after_one = merged(tiny_model, one, tmp_path / "after-1")
    two = make_adapter(after_one, tmp_path / "2", seed=2, **second)
    after_two = logits(merged(after_one, two, tmp_path / "after-2"))
    stack = stack_adapters([one, two], tmp_path / "stack")
    assert same(logits(tiny_model, stack), after_two)
    assert not same(logits(tiny_model, one), after_two)


def test_three_rounds_stacked_are_the_third_rounds_policy(tiny_model, tmp_path):
    model, adapters = tiny_model, []
    for number in (1, 2, 3):
        adapters.append(make_adapter(model, tmp_path / f"adapter-{number}", seed=number, r=number))
        model = merged(model, adapters[-1], tmp_path / f"after-{number}")
    stack = stack_adapters(adapters, tmp_path / "stack")
    assert read_config(stack)["r"] == 6
    assert same(logits(tiny_model, stack), logits(model))


def test_a_stack_can_be_merged_like_any_adapter(tiny_model, tmp_path):
    adapters = [make_adapter(tiny_model, tmp_path / str(n), seed=n) for n in (1, 2)]
    stack = stack_adapters(adapters, tmp_path / "stack")
    assert same(logits(merged(tiny_model, stack, tmp_path / "merged")), logits(tiny_model, stack))


def test_one_adapter_alone_is_used_as_it_is(tiny_model, tmp_path):
    one = make_adapter(tiny_model, tmp_path / "1")
    assert stack_adapters([one], tmp_path / "stack") == one
    assert not (tmp_path / "stack").exists()


def test_a_stack_is_made_once(tiny_model, tmp_path):
    adapters = [make_adapter(tiny_model, tmp_path / str(n), seed=n) for n in (1, 2)]
    made = (stack_adapters(adapters, tmp_path / "stack") / WEIGHTS).stat()
    again = (stack_adapters(adapters, tmp_path / "stack") / WEIGHTS).stat()
    assert (again.st_ino, again.st_mtime_ns) == (made.st_ino, made.st_mtime_ns)


def test_of_workers_that_stack_at_once_nothing_half_made_is_left(tiny_model, tmp_path):
    """Workers of one folder may have the same process id: in containers, or on other machines."""
    adapters = [make_adapter(tiny_model, tmp_path / str(n), seed=n) for n in (1, 2)]
    at_once(4, lambda index: stack_adapters(adapters, tmp_path / "stack"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "2", "stack"]
    assert sorted(path.name for path in (tmp_path / "stack").iterdir()) == [CONFIG, WEIGHTS]


@pytest.mark.parametrize(
    "odd",
    [
        {"use_dora": True},
        {"rank_pattern": {"q_proj": 2}},
        {"alpha_pattern": {"q_proj": 2}},
        {"modules_to_save": ["norm"]},
        {"target_modules": ["q_proj", "embed_tokens"]},
        {"bias": "all"},
    ],
    ids=lambda odd: next(iter(odd)) if "target_modules" not in odd else "embeddings",
)
def test_what_cannot_be_added_up_is_refused(tiny_model, tmp_path, odd):
    """Left out in silence, it would be another policy."""
    adapters = [make_adapter(tiny_model, tmp_path / "1", **odd), make_adapter(tiny_model, tmp_path / "2")]
    with pytest.raises(EngineError, match="1 cannot be added to others"):
        stack_adapters(adapters, tmp_path / "stack")
    assert not (tmp_path / "stack").exists()


def test_adapters_in_bfloat16_are_stacked(tiny_model, tmp_path):
    adapters = [make_adapter(tiny_model, tmp_path / str(n), seed=n, half=True) for n in (1, 2)]
    after = merged(tiny_model, adapters[0], tmp_path / "after-1")
    stack = stack_adapters(adapters, tmp_path / "stack")
    assert same(logits(tiny_model, stack), logits(after, adapters[1]))


def test_an_adapter_whose_weights_are_torn_is_a_fault_in_words(tiny_model, tmp_path):
    adapters = [make_adapter(tiny_model, tmp_path / str(n), seed=n) for n in (1, 2)]
    file = adapters[1] / WEIGHTS
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(EngineError, match=r"The adapter in .*/2 cannot be read"):
        stack_adapters(adapters, tmp_path / "stack")


@pytest.mark.parametrize("text", [None, "{", '{"peft_type": "IA3"}'], ids=["none", "torn", "another kind"])
def test_a_folder_that_holds_no_lora_adapter_is_a_fault_in_words(tmp_path, text):
    if text is not None:
        (tmp_path / CONFIG).write_text(text)
    with pytest.raises(EngineError, match=r"no PEFT adapter|no LoRA adapter, but IA3"):
        read_config(tmp_path)


# --- the adapter that changes nothing ----------------------------------------------------------------------


def test_the_zero_adapter_leaves_the_logits_exactly_as_they_are(tiny_model, tmp_path):
    zero = zero_adapter(tiny_model, tmp_path / "zero")
    assert torch.equal(logits(tiny_model, zero), logits(tiny_model))


def test_merged_it_changes_no_weight(tiny_model, tmp_path):
    zero = zero_adapter(tiny_model, tmp_path / "zero")
    before, after = load_model(tiny_model).state_dict(), load_model(tiny_model, zero).state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_it_is_made_for_the_models_own_sizes(tiny_model, tmp_path):
    """A model may say how wide a head is: then its heads together are not as wide as the model."""
    model = _with_wide_heads(tmp_path / "model")
    assert torch.equal(logits(model, zero_adapter(model, tmp_path / "zero")), logits(model))


def _with_wide_heads(directory: Path) -> Path:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=1, head_dim=24, eos_token_id=0,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(directory)
    (directory / "tokenizer.json").write_text("{}")  # not read here
    assert json.loads((directory / "config.json").read_text())["head_dim"] == 24
    return directory
