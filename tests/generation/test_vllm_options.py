"""What vLLM is started with; nothing here starts it."""

import json
from pathlib import Path

import pytest

from generation.engines.server_process import ServerOptions, server_command
from generation.engines.values import EngineError, SamplingParams, weights_hash
from generation.engines.vllm_options import (
    VllmOptions,
    command_line,
    engine_arguments,
    environment,
    vllm_sampling,
)

OPTIONS = VllmOptions(Path("/opt/vllm/bin/python"), gpu_memory=0.5)


def test_options_survive_the_way_to_the_child():
    options = VllmOptions(Path("/opt/python"), cpu_cache_mb=64, gpu_memory=0.3, max_model_len=512, max_num_seqs=8)
    assert VllmOptions.from_json(options.to_json()) == options


def test_the_weights_keep_the_type_that_their_files_have(tiny_model):
    """vLLM's "auto" would write float32 weights as bfloat16."""
    assert engine_arguments(tiny_model, OPTIONS, cpu=True)["dtype"] == "float32"


def test_on_a_cpu_prompts_are_never_cut_in_two(tiny_model):
    arguments = engine_arguments(tiny_model, OPTIONS, cpu=True)
    assert arguments["enable_chunked_prefill"] is False
    assert arguments["max_num_batched_tokens"] >= 256  # the model's whole context


def test_on_a_gpu_vllm_decides_that_and_takes_its_share_of_the_memory(tiny_model):
    arguments = engine_arguments(tiny_model, OPTIONS, cpu=False)
    assert arguments["gpu_memory_utilization"] == 0.5
    assert not {"enable_chunked_prefill", "enforce_eager", "kv_cache_memory_bytes"} & arguments.keys()


@pytest.mark.parametrize(("rank", "room"), [(4, 8), (8, 8), (24, 32), (64, 64)])
def test_there_is_room_for_the_adapters_rank(tiny_model, rank, room):
    assert engine_arguments(tiny_model, OPTIONS, cpu=True, lora_rank=rank)["max_lora_rank"] == room


def test_without_an_adapter_there_is_none_for_any(tiny_model):
    assert "enable_lora" not in engine_arguments(tiny_model, OPTIONS, cpu=True)


def test_code_that_a_model_brings_is_never_run(tiny_model):
    assert engine_arguments(tiny_model, OPTIONS, cpu=False)["trust_remote_code"] is False
    assert not any("trust-remote-code" in flag for flag in server_command(tiny_model, ServerOptions(OPTIONS))[0])


def test_arguments_become_flags():
    given = {"enable_lora": True, "enable_chunked_prefill": False, "max_lora_rank": 16}
    assert command_line(given) == ["--enable-lora", "--no-enable-chunked-prefill", "--max-lora-rank", "16"]


def test_all_of_the_plan_reaches_vllm():
    sampling = SamplingParams(0.7, 0.9, 0.05, seed=11, max_tokens=99, top_k=40, repetition_penalty=1.1)
    assert vllm_sampling(sampling) == {
        "temperature": 0.7,
        "top_p": 0.9,
        "top_k": 40,
        "min_p": 0.05,
        "repetition_penalty": 1.1,
        "seed": 11,
        "max_tokens": 99,
    }


def test_a_small_model_gets_one_thread(tiny_model, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert environment(tiny_model)["OMP_NUM_THREADS"] == "1"


def test_threads_that_somebody_chose_are_left_alone(tiny_model, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert "OMP_NUM_THREADS" not in environment(tiny_model)


def test_a_server_is_named_by_the_hash_of_its_weights(tiny_model):
    command, _ = server_command(tiny_model, ServerOptions(OPTIONS))
    assert command[command.index("--served-model-name") + 1] == f"sha256-{weights_hash(tiny_model)}"


def test_only_a_server_with_a_gpu_says_so(tiny_model):
    """Base and adapters may be in one batch there; on a CPU vLLM mixes them up."""
    assert "storyloop-gpu" not in server_command(tiny_model, ServerOptions(OPTIONS, cpu=True))[0]
    assert "storyloop-gpu" in server_command(tiny_model, ServerOptions(OPTIONS, cpu=False))[0]


def test_the_key_is_not_on_the_command_line_which_everybody_can_read(tiny_model):
    command, variables = server_command(tiny_model, ServerOptions(OPTIONS, api_key="a secret"))
    assert "a secret" not in " ".join(command)
    assert variables["VLLM_API_KEY"] == "a secret"


@pytest.mark.parametrize("reloadable", [True, False])
def test_development_routes_are_open_only_if_weights_may_be_replaced(tiny_model, reloadable):
    _, variables = server_command(tiny_model, ServerOptions(OPTIONS, reloadable=reloadable))
    assert ("VLLM_SERVER_DEV_MODE" in variables) == reloadable


def test_a_folder_without_a_model_is_refused_before_anything_starts(tmp_path):
    with pytest.raises(EngineError, match="no config.json"):
        engine_arguments(tmp_path, OPTIONS, cpu=True)


def test_a_model_that_does_not_say_its_type_leaves_it_to_vllm(tiny_model, tmp_path):
    for path in tiny_model.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({k: v for k, v in config.items() if "dtype" not in k}))
    assert engine_arguments(tmp_path, OPTIONS, cpu=True)["dtype"] == "auto"
