from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, GenerationConfig

from generation.engines.loading import load_model, load_tokenizer
from generation.engines.values import EngineError
from tests.models import make_tiny_model
from tests.training.dpo.helpers import Run
from training.dpo.attention import NAME
from training.dpo.data import Group
from training.dpo.logps import Scorer, padded_token_logps
from training.dpo.merge import main, merge
from training.dpo.policy import load_policy
from training.dpo.settings import DPOSettings

STORIES = [Group([20, 21, 22], [[30, 31, 32, 0], [33] * 40 + [0]])]


@pytest.fixture
def merged(tiny_model: Path, lora_run: Run, tmp_path: Path) -> Path:
    merge(tiny_model, lora_run.result.directory, tmp_path / "merged")
    return tmp_path / "merged"


def logps(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return torch.stack([t.sum() for t in padded_token_logps(model, STORIES, pad_id=1)])


def test_the_merged_model_is_the_adapters_policy(tiny_model: Path, lora_run: Run, merged: Path):
    base = AutoModelForCausalLM.from_pretrained(tiny_model)
    adapted = PeftModel.from_pretrained(base, lora_run.result.directory).eval()
    assert torch.allclose(logps(load_model(merged)), logps(adapted), rtol=0, atol=1e-4)


def test_the_merged_model_is_the_policy_as_it_is_scored_in_training(tiny_model: Path, lora_run: Run, merged: Path):
    """Packed, through oneDNN where it is faster, with the adapter beside the weights."""
    settings = DPOSettings(method="lora", precision="fp32")
    policy = load_policy(tiny_model, lora_run.result.directory, settings, torch.device("cpu"))
    policy.get_base_model().set_attn_implementation(NAME)
    with torch.no_grad():
        scored = torch.stack([t.sum() for t in Scorer(policy, pad_id=1).token_logps(STORIES)])
    assert torch.allclose(logps(load_model(merged)), scored, rtol=0, atol=1e-4)


def test_the_merged_model_is_not_the_base(tiny_model: Path, merged: Path):
    assert not torch.allclose(logps(load_model(merged)), logps(load_model(tiny_model)), atol=1)


def test_the_merged_model_holds_nothing_of_peft(tiny_model: Path, merged: Path):
    assert load_model(merged).state_dict().keys() == load_model(tiny_model).state_dict().keys()
    assert not (merged / "adapter_config.json").exists()


def test_the_merged_model_has_the_tokenizer_of_the_base(tiny_model: Path, merged: Path):
    text = "Once upon a time: 从前"
    assert load_tokenizer(merged).encode(text) == load_tokenizer(tiny_model).encode(text)


def test_the_generation_config_is_kept(lora_run: Run, tmp_path: Path):
    model = make_tiny_model(tmp_path / "model")
    GenerationConfig(max_new_tokens=77, eos_token_id=0).save_pretrained(model)
    merge(model, lora_run.result.directory, tmp_path / "merged")
    assert GenerationConfig.from_pretrained(tmp_path / "merged").max_new_tokens == 77


def test_safetensors_is_the_only_format_of_weights(merged: Path):
    assert [file.name for file in merged.iterdir() if file.suffix not in {".json", ".jinja"}] == ["model.safetensors"]


def test_nothing_lies_beside_the_merged_model(merged: Path):
    assert list(merged.parent.iterdir()) == [merged]


def test_what_a_killed_merge_left_does_not_stop_the_next(tiny_model: Path, lora_run: Run, tmp_path: Path):
    half = tmp_path / "merged.new"
    half.mkdir()
    (half / "model-00001-of-00002.safetensors").write_bytes(b"half")
    merge(tiny_model, lora_run.result.directory, tmp_path / "merged")
    assert [file.name for file in (tmp_path / "merged").glob("*.safetensors")] == ["model.safetensors"]


def test_the_command_merges(tiny_model: Path, lora_run: Run, tmp_path: Path):
    assert main([str(tiny_model), str(lora_run.result.directory), str(tmp_path / "merged")]) == 0
    assert (tmp_path / "merged" / "model.safetensors").exists()


def test_the_command_with_too_few_arguments_says_how_it_is_used(capsys: pytest.CaptureFixture[str]):
    assert main(["model", "adapter"]) == 2
    assert "python -m training.dpo.merge MODEL ADAPTER OUT" in capsys.readouterr().err


def test_the_command_names_a_model_that_is_not_there(lora_run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main([str(tmp_path / "absent"), str(lora_run.result.directory), str(tmp_path / "merged")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"training.dpo.merge: {tmp_path}/absent is not a directory.")


def test_the_command_names_an_adapter_that_is_not_there(tiny_model: Path, tmp_path: Path):
    with pytest.raises(EngineError, match="absent cannot be loaded"):
        merge(tiny_model, tmp_path / "absent", tmp_path / "merged")


def test_a_merge_that_fails_leaves_nothing(tiny_model: Path, tmp_path: Path):
    main([str(tiny_model), str(tmp_path / "absent"), str(tmp_path / "merged")])
    assert list(tmp_path.iterdir()) == []


def test_a_model_of_broken_weights_is_named(lora_run: Run, tmp_path: Path):
    model = make_tiny_model(tmp_path / "model")
    (model / "model.safetensors").write_bytes(b"half")
    with pytest.raises(EngineError, match="model cannot be loaded"):
        merge(model, lora_run.result.directory, tmp_path / "merged")


def test_a_second_merge_replaces_the_first(tiny_model: Path, lora_run: Run, merged: Path):
    assert main([str(tiny_model), str(lora_run.result.directory), str(merged)]) == 0
