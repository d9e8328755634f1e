"""What a run wants of memory, from the headers of its model's files."""

import dataclasses
import json
import re
import struct
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from generation.engines.loading import load_model
from generation.engines.values import EngineError
from tests.training.dpo.helpers import changed_model
from tests.training.dpo.naive import tied_model
from training.dpo.estimate import free_memory, peak_allocated, peak_resident, what_would_fit
from training.dpo.settings import DPOSettings
from training.dpo.shapes import Shapes, gigabytes, memory, shapes

CPU = torch.device("cpu")
SEVEN_B = Shapes(7_000_000_000, 2_000_000, layers=32, hidden=4096, intermediate=11008, vocabulary=32000)
FULL, LORA = DPOSettings(), DPOSettings(method="lora")


def headers_only(directory: Path, hidden: int = 2048, layers: int = 16, vocabulary: int = 50_000) -> Path:
    """A model of a billion parameters, without its weights: only what shapes() reads."""
    directory.mkdir()
    tensors = {"model.embed_tokens.weight": [vocabulary, hidden], "lm_head.weight": [vocabulary, hidden]}
    for layer in range(layers):
        for name in ("q", "k", "v", "o"):
            tensors[f"model.layers.{layer}.self_attn.{name}_proj.weight"] = [hidden, hidden]
        for name in ("gate", "up"):
            tensors[f"model.layers.{layer}.mlp.{name}_proj.weight"] = [4 * hidden, hidden]
        tensors[f"model.layers.{layer}.mlp.down_proj.weight"] = [hidden, 4 * hidden]
    header = {name: {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]} for name, shape in tensors.items()}
    said = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    (directory / "model.safetensors").write_bytes(struct.pack("<Q", len(said)) + said)
    config = {"hidden_size": hidden, "num_hidden_layers": layers, "vocab_size": vocabulary}
    (directory / "config.json").write_text(json.dumps({**config, "intermediate_size": 4 * hidden}))
    return directory


# -- shapes


def test_the_parameters_are_those_of_the_model(tiny_model: Path):
    assert shapes(tiny_model).parameters == load_model(tiny_model).num_parameters()


def test_a_tied_head_is_counted_once(tiny_model: Path, tmp_path: Path):
    tied = tied_model(tiny_model, tmp_path / "tied")
    assert shapes(tied).parameters == load_model(tied).num_parameters() < shapes(tiny_model).parameters


def test_an_adapters_parameters_are_rank_times_the_linear_sides(tiny_model: Path, tmp_path: Path):
    from training.dpo.policy import load_policy

    settings = DPOSettings(method="lora", lora_rank=3)
    policy = load_policy(tiny_model, None, settings, CPU)
    trained = sum(p.numel() for p in policy.parameters() if p.requires_grad)
    assert shapes(tiny_model).linear_sides * 3 == trained


def test_the_files_of_a_model_in_parts_are_added_up(tiny_model: Path, tmp_path: Path):
    load_model(tiny_model).save_pretrained(tmp_path / "parts", max_shard_size="50KB")
    assert len(list((tmp_path / "parts").glob("*.safetensors"))) > 1
    assert shapes(tmp_path / "parts") == shapes(tiny_model)


def test_widths_are_those_of_the_config(tiny_model: Path):
    found = shapes(tiny_model)
    assert (found.layers, found.hidden, found.intermediate) == (2, 32, 64)
    assert found.vocabulary == load_model(tiny_model).config.vocab_size


def test_the_config_of_a_text_model_within_another_is_read(tiny_model: Path, tmp_path: Path):
    nested = changed_model(tiny_model, tmp_path / "nested")
    config = json.loads((nested / "config.json").read_text())
    (nested / "config.json").write_text(json.dumps({"text_config": config}))
    assert shapes(nested) == shapes(tiny_model)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"half",
        struct.pack("<Q", 10) + b"{",
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 4) + b"null",
        struct.pack("<Q", 9) + b'{"a": {}}',
        struct.pack("<Q", 8) + b'{"a": 1}',
        struct.pack("<Q", 2) + b"\xff\xff",
        struct.pack("<Q", 1 << 62) + b"{}",
        struct.pack("<Q", (1 << 64) - 1) + b"{}",
        b"<html>404 not found</html>",
    ],
    ids=["empty", "four-bytes", "cut", "list", "null", "no-shape", "number", "not-text", "huge", "largest", "html"],
)
def test_a_broken_header_is_said_by_the_files_name(tiny_model: Path, tmp_path: Path, content: bytes):
    model = changed_model(tiny_model, tmp_path / "model")
    (model / "model.safetensors").write_bytes(content)
    with pytest.raises(EngineError, match=r"model.safetensors is broken .*Copy it again"):
        shapes(model)


# -- memory


@pytest.mark.parametrize("settings", [FULL, LORA], ids=["full", "lora"])
@pytest.mark.parametrize("bf16", [False, True])
def test_memory_grows_with_tokens(settings: DPOSettings, bf16: bool):
    found = [memory(SEVEN_B, settings, tokens, bf16=bf16) for tokens in (256, 1024, 4096, 16384)]
    assert found == sorted(set(found))


@pytest.mark.parametrize("settings", [FULL, LORA], ids=["full", "lora"])
def test_memory_grows_with_parameters(settings: DPOSettings):
    larger = dataclasses.replace(SEVEN_B, parameters=8_000_000_000)
    assert memory(larger, settings, 1024, bf16=True) > memory(SEVEN_B, settings, 1024, bf16=True) + 1e9


def test_all_weights_in_full_precision_are_sixteen_bytes_a_parameter():
    """fp32 weights, gradients and two averages; activations and the framework are little beside them."""
    found = memory(SEVEN_B, FULL, 256, bf16=False)
    assert 16 * 7e9 < found < 17 * 7e9


@pytest.mark.parametrize("bf16", [False, True])
def test_an_adapter_wants_less_than_half_of_all_weights(bf16: bool):
    assert memory(SEVEN_B, LORA, 1024, bf16=bf16) < memory(SEVEN_B, FULL, 1024, bf16=bf16) / 2


def test_a_higher_rank_wants_more():
    ranks = [memory(SEVEN_B, DPOSettings(method="lora", lora_rank=r), 1024, bf16=True) for r in (4, 16, 256)]
    assert ranks == sorted(set(ranks))


@pytest.mark.parametrize("settings", [FULL, LORA], ids=["full", "lora"])
def test_gradient_checkpointing_wants_less(settings: DPOSettings):
    checkpointing = dataclasses.replace(settings, gradient_checkpointing=True)
    assert memory(SEVEN_B, checkpointing, 16384, bf16=True) < memory(SEVEN_B, settings, 16384, bf16=True)


def test_the_estimate_is_not_far_from_what_a_run_takes(tmp_path: Path):
    """A model of 20 million parameters: weights, gradients and averages as torch holds them."""
    model = headers_only(tmp_path / "model", hidden=256, layers=4, vocabulary=16_000)
    found = shapes(model)
    state = 16 * found.parameters
    assert state < memory(found, FULL, 256, bf16=False) - 500e6 < 2 * state


# -- advice


def figures(said: str) -> list[float]:
    return [float(number) for number in re.findall(r"about ([0-9.]+) GB", said)]


def test_advice_has_the_runs_own_figure_first(tmp_path: Path):
    model = headers_only(tmp_path / "model")
    said = what_would_fit(model, FULL, 8192, CPU)
    assert said.startswith(f"This run wants about {gigabytes(memory(shapes(model), FULL, 8192, bf16=False))}; ")


def test_advice_names_options_with_their_figures(tmp_path: Path):
    said = what_would_fit(headers_only(tmp_path / "model"), FULL, 8192, CPU)
    for option in ("--micro-batch-tokens 2048", "--gradient-checkpointing", "--method lora"):
        assert re.search(rf"{option} about [0-9.]+ GB", said)


@pytest.mark.parametrize(
    ("settings", "tokens"),
    [
        (FULL, 8192),
        (LORA, 8192),
        (DPOSettings(gradient_checkpointing=True), 8192),
        (DPOSettings(method="lora", gradient_checkpointing=True), 8192),
        (FULL, 64),
    ],
    ids=["full", "lora", "checkpointing", "both", "few-tokens"],
)
def test_all_that_is_advised_wants_less_than_the_run(tmp_path: Path, settings: DPOSettings, tokens: int):
    own, *advised = figures(what_would_fit(headers_only(tmp_path / "model"), settings, tokens, CPU))
    assert [figure for figure in advised if figure >= own] == []


def test_advice_for_a_model_that_cannot_be_read_is_without_figures(tmp_path: Path):
    assert what_would_fit(tmp_path / "absent", FULL, 1024, CPU) == "Try --method lora, or a smaller model."


def test_advice_for_a_model_of_a_broken_header_is_without_figures(tiny_model: Path, tmp_path: Path):
    model = changed_model(tiny_model, tmp_path / "model")
    (model / "model.safetensors").write_bytes(b"<html>404 not found</html>")
    assert what_would_fit(model, FULL, 1024, CPU) == "Try --method lora, or a smaller model."


def test_some_memory_of_this_machine_is_free():
    found: Any = free_memory(CPU)
    assert found > 1e6


def test_the_peak_is_of_this_process_and_never_falls():
    before = peak_resident()
    held = torch.ones(20_000_000)  # 80 MB
    after = peak_resident()
    assert after >= max(before, psutil.Process().memory_info().rss * 0.9)
    del held
    assert peak_resident() >= after * 0.99  # the kernel counts it roughly


def test_a_cpu_has_no_memory_of_a_gpu():
    assert peak_allocated(torch.device("cpu")) is None
