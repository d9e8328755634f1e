"""Adapters: trained further, merged, measured against; and a reference that is another model."""

import json
import math
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

from generation.engines.loading import load_model, load_tokenizer
from generation.engines.values import EngineError
from tests.models import make_tiny_model
from tests.training.dpo.helpers import (
    Killed,
    Run,
    changed_model,
    killed_after,
    largest_difference,
    pair,
    run,
    weights,
    write_pairs,
)
from tests.training.dpo.naive import logps, loss_between, worked_out
from training.dpo.data import read_pairs
from training.dpo.plan import hold_out
from training.dpo.policy import load_policy
from training.dpo.run import Run as TrainerRun
from training.dpo.settings import BadSettings, DPOSettings
from training.dpo.trainer import Callbacks, train

ROWS = [pair(i) for i in range(10)]
SIX_STEPS = {"batch_pairs": 5, "epochs": 3, "checkpoint_steps": 2, "learning_rate": 1e-3}


@pytest.fixture(scope="module")
def other_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("other") / "model", seed=7)


def adapter_on(model: Path, directory: Path, **config: object) -> Path:
    """A PEFT adapter of another make than the trainer's, not yet trained away from nothing."""
    found = get_peft_model(load_model(model), LoraConfig(task_type="CAUSAL_LM", **config))
    found.save_pretrained(directory)
    path = directory / "adapter_model.safetensors"
    moved = {name: t + 0.02 if "lora_B" in name else t for name, t in load_file(path).items()}
    save_file(moved, path, metadata={"format": "pt"})
    return directory


# -- an adapter is trained further


@pytest.mark.parametrize("method", ["full", "lora"])
def test_the_policy_with_its_adapter_on_is_the_reference(tiny_model: Path, lora_run: Run, tmp_path: Path, method: str):
    adapter = lora_run.result.directory
    first = run(tiny_model, tmp_path / "out", ROWS, adapter=adapter, method=method, epochs=1).metrics[0]
    assert first.loss == pytest.approx(math.log(2), abs=1e-5)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_the_figures_of_later_steps_are_against_the_policy_with_its_adapter_on(
    tiny_model: Path, lora_run: Run, tmp_path: Path, method: str
):
    """The second step's figures, worked out from the policy after one step."""
    adapter = lora_run.result.directory
    settings = {"batch_pairs": 99, "learning_rate": 3e-3, "warmup": 0.0, "schedule": "constant", "method": method}
    two = run(tiny_model, tmp_path / "two", ROWS, adapter=adapter, epochs=2, **settings)
    one = run(tiny_model, tmp_path / "one", ROWS, adapter=adapter, epochs=1, **settings).result.directory
    policy = load_model(one) if method == "full" else load_model(tiny_model, one)
    expected = worked_out(policy, load_model(tiny_model, adapter), load_tokenizer(tiny_model), ROWS, beta=0.2)
    assert expected["rewards_margins"] > 0.05
    assert [getattr(two.metrics[1], name) for name in expected] == pytest.approx(list(expected.values()), abs=1e-4)


def test_a_lora_run_from_an_adapter_begins_where_the_adapter_is(tiny_model: Path, lora_run: Run, tmp_path: Path):
    adapter = lora_run.result.directory
    settings = {"method": "lora", "learning_rate": 1e-7, "epochs": 1}
    found = run(tiny_model, tmp_path / "out", ROWS, adapter=adapter, **settings).result.directory
    assert largest_difference(weights(found), weights(adapter)) < 1e-5


def test_a_lora_run_from_an_adapter_changes_it(tiny_model: Path, lora_run: Run, tmp_path: Path):
    adapter = lora_run.result.directory
    before = weights(adapter)
    found = run(tiny_model, tmp_path / "out", ROWS, adapter=adapter, method="lora", **SIX_STEPS).result.directory
    assert largest_difference(weights(found), before) > 1e-4
    assert largest_difference(weights(adapter), before) == 0  # the one that was given is left alone


def test_an_adapter_keeps_its_rank_whatever_the_settings_say(tiny_model: Path, lora_run: Run, tmp_path: Path):
    settings = {"method": "lora", "lora_rank": 32, "lora_alpha": 1, "epochs": 1}
    found = run(tiny_model, tmp_path / "out", ROWS, adapter=lora_run.result.directory, **settings).result.directory
    config = json.loads((found / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"]) == (4, 8)


@pytest.mark.parametrize("from_adapter", [False, True])
def test_the_config_of_an_adapter_names_the_bare_model(
    tiny_model: Path, lora_run: Run, tmp_path: Path, from_adapter: bool
):
    adapter = lora_run.result.directory if from_adapter else None
    found = run(tiny_model, tmp_path / "out", ROWS, adapter=adapter, method="lora", epochs=1).result.directory
    assert json.loads((found / "adapter_config.json").read_text())["base_model_name_or_path"] == str(tiny_model)


@pytest.mark.parametrize("from_adapter", [False, True])
def test_the_result_on_the_bare_model_is_the_policy_that_was_trained(
    tiny_model: Path, lora_run: Run, tmp_path: Path, from_adapter: bool
):
    """PEFT puts the adapter on the base; the figures of the evaluation after the last step are that model's."""
    adapter = lora_run.result.directory if from_adapter else None
    settings = {"method": "lora", "learning_rate": 5e-3, "eval_share": 0.5}
    found = run(tiny_model, tmp_path / "out", ROWS, adapter=adapter, **settings)
    policy = PeftModel.from_pretrained(load_model(tiny_model), found.result.directory).eval()
    tokenizer = load_tokenizer(tiny_model)
    dataset = read_pairs(tmp_path / "out.jsonl", tokenizer, max_tokens=256)
    held = [group.prompt_ids for group in hold_out(dataset, 0.5, 42)[1]]
    values = logps(policy, tokenizer, [row for row in ROWS if tokenizer.encode(row["prompt"]) in held])
    assert len(values) == 5
    assert found.evaluations[-1].logps_chosen == pytest.approx(sum(values) / 5, abs=1e-3)


# -- an adapter is merged


def test_a_full_run_from_an_adapter_begins_with_the_merged_weights(tiny_model: Path, lora_run: Run, tmp_path: Path):
    adapter = lora_run.result.directory
    out = run(tiny_model, tmp_path / "out", ROWS, adapter=adapter, learning_rate=1e-7, epochs=1).result.directory
    merged = load_model(tiny_model, adapter).state_dict()
    assert largest_difference(load_model(out).state_dict(), merged) < 1e-5


def test_a_full_run_from_an_adapter_trains_every_weight(tiny_model: Path, lora_run: Run, tmp_path: Path):
    """PEFT freezes what it merges into."""
    adapter = lora_run.result.directory
    out = run(tiny_model, tmp_path / "out", ROWS, adapter=adapter, learning_rate=1e-2, epochs=1).result.directory
    merged = load_model(tiny_model, adapter).state_dict()
    trained = load_model(out).state_dict()
    assert [name for name in merged if merged[name].equal(trained[name])] == []


# -- adapters of other makes


@pytest.mark.parametrize(
    "config",
    [
        {"r": 2, "target_modules": ["q_proj", "v_proj"], "lora_dropout": 0.5},
        {"r": 2, "target_modules": ["q_proj", "lm_head"]},
        {"r": 2, "target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
        {"r": 2, "target_modules": ["q_proj", "embed_tokens"]},
        {"r": 2, "target_modules": "all-linear", "use_dora": True},
        {"r": 2, "target_modules": ["q_proj"], "use_rslora": True, "lora_bias": True},
    ],
    ids=["dropout", "head", "whole-head", "embedding", "dora", "rslora"],
)
def test_an_adapter_of_another_make_is_trained_further(tiny_model: Path, tmp_path: Path, config: dict):
    """Its policy is the reference, and each of its weights is trained."""
    adapter = adapter_on(tiny_model, tmp_path / "adapter", **config)
    found = run(tiny_model, tmp_path / "out", ROWS, adapter=adapter, method="lora", learning_rate=1e-2, epochs=2)
    assert found.metrics[0].loss == pytest.approx(math.log(2), abs=1e-5)
    before, after = weights(adapter), weights(found.result.directory)
    assert before.keys() == after.keys()
    own = [name for name in before if "base_layer" not in name]  # PEFT saves an embedding that has an adapter
    assert [name for name in own if before[name].equal(after[name])] == []


# -- going on


def test_a_lora_run_from_an_adapter_goes_on_to_the_same_weights_bit_for_bit(
    tiny_model: Path, lora_run: Run, tmp_path: Path
):
    begin = {"adapter": lora_run.result.directory, "method": "lora", **SIX_STEPS}
    unbroken = run(tiny_model, tmp_path / "unbroken", ROWS, **begin)
    with pytest.raises(Killed):
        run(tiny_model, tmp_path / "broken", ROWS, on_step=killed_after(5), **begin)
    resumed = run(tiny_model, tmp_path / "broken", ROWS, **begin)
    assert [step.step for step in resumed.metrics] == [5, 6]
    assert largest_difference(weights(resumed.result.directory), weights(unbroken.result.directory)) == 0


# -- another reference


def test_the_loss_of_the_first_step_is_that_against_the_named_reference(
    tiny_model: Path, other_model: Path, tmp_path: Path
):
    settings = {"epochs": 1, "batch_pairs": 99}
    first = run(tiny_model, tmp_path / "out", ROWS, reference=other_model, **settings).metrics[0]
    expected = loss_between(tiny_model, other_model, ROWS)
    assert abs(expected - math.log(2)) > 0.05
    assert first.loss == pytest.approx(expected, abs=1e-4)


def test_a_lora_run_is_measured_against_the_named_reference(tiny_model: Path, other_model: Path, tmp_path: Path):
    settings = {"epochs": 1, "batch_pairs": 99, "method": "lora"}
    first = run(tiny_model, tmp_path / "out", ROWS, reference=other_model, **settings).metrics[0]
    assert first.loss == pytest.approx(loss_between(tiny_model, other_model, ROWS), abs=1e-4)


def first_loss(tmp_path: Path, model: Path, **where: Path) -> float:
    data = write_pairs(tmp_path / "data.jsonl", ROWS)
    settings = DPOSettings(epochs=1, batch_pairs=99)
    losses: list[float] = []
    whole = TrainerRun(model, data, tmp_path / "out", settings, **where)
    train(whole, Callbacks(on_step=lambda step: losses.append(step.loss)))
    return losses[0]


def test_a_reference_can_have_an_adapter(tiny_model: Path, lora_run: Run, tmp_path: Path):
    adapter = lora_run.result.directory
    found = first_loss(tmp_path, tiny_model, reference=tiny_model, reference_adapter=adapter)
    models = load_model(tiny_model), load_model(tiny_model, adapter)
    expected = worked_out(*models, load_tokenizer(tiny_model), ROWS, beta=0.2)["loss"]
    assert abs(expected - math.log(2)) > 0.05
    assert found == pytest.approx(expected, abs=1e-4)


def test_an_adapter_of_the_reference_is_not_passed_over_if_no_reference_is_named(
    tiny_model: Path, lora_run: Run, tmp_path: Path
):
    with pytest.raises(BadSettings, match="needs --reference"):
        first_loss(tmp_path, tiny_model, reference_adapter=lora_run.result.directory)


def test_the_reference_may_be_another_kind_of_model_of_the_same_vocabulary(tiny_model: Path, tmp_path: Path):
    deeper = make_tiny_model(tmp_path / "deeper", seed=3, layers=3)
    found = first_loss(tmp_path, tiny_model, reference=deeper)
    assert found == pytest.approx(loss_between(tiny_model, deeper, ROWS), abs=1e-4)


def test_stories_go_through_the_reference_one_at_a_time_if_micro_batches_are_small(
    tiny_model: Path, other_model: Path, tmp_path: Path
):
    """Every piece of a prompt's stories then holds one story alone."""
    settings = {"epochs": 1, "batch_pairs": 99, "micro_batch_tokens": 8}
    first = run(tiny_model, tmp_path / "out", ROWS, reference=other_model, **settings).metrics[0]
    assert first.loss == pytest.approx(loss_between(tiny_model, other_model, ROWS), abs=1e-4)


def test_a_reference_of_a_smaller_vocabulary_is_refused(tiny_model: Path, tmp_path: Path):
    """The data's tokens are the policy's; the reference does not know them all."""
    small = load_model(make_tiny_model(tmp_path / "small", seed=3))
    small.resize_token_embeddings(40)
    small.save_pretrained(tmp_path / "small")
    with pytest.raises((EngineError, ValueError), match="token"):
        run(tiny_model, tmp_path / "out", ROWS, reference=tmp_path / "small")


def test_a_reference_that_is_no_model_is_named(tiny_model: Path, tmp_path: Path):
    with pytest.raises(EngineError, match="absent is not a directory"):
        run(tiny_model, tmp_path / "out", ROWS, reference=tmp_path / "absent")


def test_dropout_of_the_reference_is_off(tiny_model: Path, other_model: Path, tmp_path: Path):
    dropping = changed_model(other_model, tmp_path / "dropping", attention_dropout=0.5)
    assert first_loss(tmp_path, tiny_model, reference=dropping) == pytest.approx(
        loss_between(tiny_model, other_model, ROWS), abs=1e-4
    )


def test_a_run_against_another_reference_goes_on_to_the_same_weights(
    tiny_model: Path, other_model: Path, tmp_path: Path
):
    begin = {"reference": other_model, **SIX_STEPS}
    unbroken = run(tiny_model, tmp_path / "unbroken", ROWS, **begin)
    with pytest.raises(Killed):
        run(tiny_model, tmp_path / "broken", ROWS, on_step=killed_after(5), **begin)
    resumed = run(tiny_model, tmp_path / "broken", ROWS, **begin)
    assert largest_difference(weights(resumed.result.directory), weights(unbroken.result.directory)) == 0


def test_what_a_cache_keeps_of_one_reference_is_not_taken_for_another(
    tiny_model: Path, other_model: Path, tmp_path: Path
):
    settings = {"epochs": 1, "batch_pairs": 99, "cache": tmp_path / "cache"}
    own = run(tiny_model, tmp_path / "own", ROWS, **settings).metrics[0]
    against = run(tiny_model, tmp_path / "against", ROWS, reference=other_model, **settings).metrics[0]
    assert own.loss == pytest.approx(math.log(2), abs=1e-5)
    assert against.loss == pytest.approx(loss_between(tiny_model, other_model, ROWS), abs=1e-4)


# -- where the result goes


def test_a_run_does_not_destroy_the_model_that_its_adapter_belongs_to(tiny_model: Path, tmp_path: Path):
    """OUT/policy is the model: an adapter in its place would have no base."""
    base = run(tiny_model, tmp_path / "out", ROWS, epochs=1).result.directory
    with pytest.raises(BadSettings, match="would be lost"):
        run(base, tmp_path / "out", ROWS, epochs=1, method="lora")
    assert (base / "config.json").exists()


def test_positions_stay_exact_where_a_frozen_model_is_rounded(tiny_model: Path):
    """Angles in bfloat16 would train the adapter for a model that nobody serves."""
    settings = DPOSettings(method="lora", precision="bf16")
    model = load_policy(tiny_model, None, settings, torch.device("cpu"))
    exact = load_model(tiny_model).model.rotary_emb.inv_freq
    assert torch.equal(model.get_base_model().model.rotary_emb.inv_freq, exact)
    assert model.get_base_model().lm_head.weight.dtype == torch.bfloat16


def test_an_adapter_is_merged_into_a_rounded_model_without_rounding_it(tiny_model: Path, lora_run: Run, tmp_path: Path):
    """Most of a small adapter vanishes when it is added to weights in bfloat16."""
    rounded = tmp_path / "rounded"
    load_model(tiny_model).bfloat16().save_pretrained(rounded)
    load_tokenizer(tiny_model).save_pretrained(rounded)
    merged = load_policy(rounded, lora_run.result.directory, DPOSettings(), torch.device("cpu"))
    bare = load_model(rounded, exact=True)
    name = "model.layers.0.self_attn.q_proj.weight"
    adapter = load_file(lora_run.result.directory / "adapter_model.safetensors")
    (a,) = (v for k, v in adapter.items() if "layers.0.self_attn.q_proj.lora_A" in k)
    (b,) = (v for k, v in adapter.items() if "layers.0.self_attn.q_proj.lora_B" in k)
    change = merged.state_dict()[name] - bare.state_dict()[name]
    assert torch.allclose(change, 2 * b @ a, atol=1e-6)  # alpha is twice the rank


def test_the_base_reaches_its_device_in_two_bytes_a_weight(tiny_model: Path, monkeypatch: pytest.MonkeyPatch):
    """A GPU that holds the base in bfloat16 need not hold it in fp32 first."""
    moved, plain = [], torch.nn.Module.to

    def to(module: torch.nn.Module, *where: object, **more: object) -> torch.nn.Module:
        moved.append({parameter.dtype for parameter in module.parameters()})
        return plain(module, *where, **more)

    monkeypatch.setattr(torch.nn.Module, "to", to)
    load_policy(tiny_model, None, DPOSettings(method="lora", precision="bf16"), torch.device("cpu"))
    assert moved[0] == {torch.bfloat16}
