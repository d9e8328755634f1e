"""What a run leaves in its directory, and the ends that leave nothing."""

import math
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from generation.engines.loading import load_model, load_tokenizer
from generation.engines.values import EngineError
from tests.models import make_tiny_model
from tests.training.dpo.helpers import Run, largest_difference, pair, run, weights, write_pairs
from tests.training.dpo.naive import tied_model, worked_out
from training.dpo.data import BadData
from training.dpo.run import Run as TrainerRun
from training.dpo.settings import DPOSettings
from training.dpo.trainer import TrainingFailed, train

ROWS = [pair(i) for i in range(10)]
METHODS = pytest.mark.parametrize("method", ["full", "lora"])


# -- the result


def test_a_full_result_loads_with_transformers(tiny_model: Path, tmp_path: Path):
    out = run(tiny_model, tmp_path / "out", ROWS, epochs=1).result.directory
    model, tokenizer = AutoModelForCausalLM.from_pretrained(out), AutoTokenizer.from_pretrained(out)
    assert model.generate(**tokenizer("Write.\n", return_tensors="pt"), max_new_tokens=3).shape[1] > 3


def test_a_full_result_is_not_the_model_it_began_with(tiny_model: Path, tmp_path: Path):
    out = run(tiny_model, tmp_path / "out", ROWS, epochs=1, learning_rate=1e-3).result.directory
    assert largest_difference(weights(out), weights(tiny_model)) > 1e-4


def test_a_tied_head_is_still_tied_in_the_result(tiny_model: Path, tmp_path: Path):
    tied = tied_model(tiny_model, tmp_path / "tied")
    model = load_model(run(tied, tmp_path / "out", ROWS, epochs=1).result.directory)
    assert model.lm_head.weight is model.model.embed_tokens.weight


def test_the_generation_config_and_the_chat_template_are_kept(tiny_model: Path, tmp_path: Path):
    model = make_tiny_model(tmp_path / "model")
    GenerationConfig(max_new_tokens=77, eos_token_id=0).save_pretrained(model)
    (model / "chat_template.jinja").write_text("{{ messages[0].content }}!")
    out = run(model, tmp_path / "out", ROWS, epochs=1).result.directory
    assert GenerationConfig.from_pretrained(out).max_new_tokens == 77
    assert load_tokenizer(out).chat_template == "{{ messages[0].content }}!"


def test_a_lora_result_is_an_adapter_that_peft_loads(tiny_model: Path, lora_run: Run):
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_model), lora_run.result.directory)
    assert model.peft_config["default"].r == 4


def test_a_lora_result_is_the_policy_that_was_trained(tiny_model: Path, lora_run: Run):
    policy, reference, tokenizer = (
        load_model(tiny_model, lora_run.result.directory),
        load_model(tiny_model),
        load_tokenizer(tiny_model),
    )
    found = worked_out(policy, reference, tokenizer, [pair(i) for i in range(6)], beta=0.2, norm=False)
    # the last of many small steps: its figures, taken before it, are close to those of the result
    assert found["rewards_margins"] > 0.5 * lora_run.metrics[-1].rewards_margins > 0


def test_lora_leaves_the_model_it_began_with_alone(tiny_model: Path, tmp_path: Path):
    before = (tiny_model / "model.safetensors").read_bytes()
    run(tiny_model, tmp_path / "out", ROWS, method="lora", epochs=1)
    assert (tiny_model / "model.safetensors").read_bytes() == before


@METHODS
def test_safetensors_is_the_only_format_of_weights_in_a_result(tiny_model: Path, tmp_path: Path, method: str):
    out = run(tiny_model, tmp_path / "out", ROWS, method=method, epochs=1).result.directory
    assert [file.suffix for file in out.iterdir() if file.suffix not in {".json", ".md", ".jinja"}] == [".safetensors"]


def test_a_result_says_what_it_was_made_from(tiny_model: Path, tmp_path: Path):
    rows = [*ROWS, pair(99, chosen="fox " * 3000)]
    result = run(tiny_model, tmp_path / "out", rows, batch_pairs=5, epochs=2).result
    assert (result.directory, result.steps, result.pairs, result.too_long) == (tmp_path / "out" / "policy", 4, 10, 1)


def test_a_finished_run_leaves_the_result_alone_in_its_directory(tiny_model: Path, tmp_path: Path):
    run(tiny_model, tmp_path / "out", ROWS, checkpoint_steps=1)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["policy", "run.json"]


# -- ends without a result


def test_a_loss_that_is_no_number_ends_the_run_with_advice(tiny_model: Path, tmp_path: Path):
    # a rate far above those that the settings allow
    data = write_pairs(tmp_path / "data.jsonl", ROWS)
    absurd = DPOSettings(learning_rate=1e30, warmup=0.0)
    with pytest.raises(TrainingFailed, match="The loss became nan at step 2. Try a lower learning rate"):
        train(TrainerRun(tiny_model, data, tmp_path / "out", absurd))
    assert not (tmp_path / "out" / "policy").exists()


def test_data_of_another_models_tokens_is_refused(tiny_model: Path, tmp_path: Path):
    with pytest.raises(BadData, match="token id 99999, but the model knows 3.. tokens"):
        run(tiny_model, tmp_path / "out", [pair(chosen_ids=[30, 99_999])])


@METHODS
def test_a_model_of_broken_weights_ends_the_run_without_a_result(tiny_model: Path, tmp_path: Path, method: str):
    model = load_model(tiny_model)
    model.lm_head.weight.data[0, 0] = math.nan
    model.save_pretrained(tmp_path / "model")
    load_tokenizer(tiny_model).save_pretrained(tmp_path / "model")
    with pytest.raises(TrainingFailed):
        run(tmp_path / "model", tmp_path / "out", ROWS, method=method)
    assert not (tmp_path / "out" / "policy").exists()


def test_a_gradient_that_is_no_number_ends_the_run_without_a_result(tiny_model: Path, tmp_path: Path):
    """Loss ln 2, but its gradient overflows; it is the last step, so no later loss tells."""
    model = load_model(tiny_model)
    with torch.no_grad():
        model.lm_head.weight *= 1e18
        model.model.norm.weight *= 1e18
        model.model.embed_tokens.weight *= 1e-3
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight *= 1e-6
            layer.mlp.down_proj.weight *= 1e-6
    model.save_pretrained(tmp_path / "model")
    load_tokenizer(tiny_model).save_pretrained(tmp_path / "model")
    with pytest.raises(TrainingFailed):
        run(tmp_path / "model", tmp_path / "out", ROWS[:1], epochs=1)


def test_bad_data_leaves_no_output_directory(tiny_model: Path, tmp_path: Path):
    with pytest.raises(BadData):
        run(tiny_model, tmp_path / "out", [])
    assert not (tmp_path / "out").exists()


def test_a_directory_that_holds_no_model_is_named(tmp_path: Path):
    with pytest.raises(EngineError, match="absent is not a directory"):
        run(tmp_path / "absent", tmp_path / "out", ROWS)


def test_an_adapter_that_is_not_there_is_named(tiny_model: Path, tmp_path: Path):
    with pytest.raises(EngineError, match="absent holds no .safetensors file"):
        run(tiny_model, tmp_path / "out", ROWS, adapter=tmp_path / "absent")
