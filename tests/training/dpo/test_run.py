"""What a run is, before it starts: its limits, how much is in the model at once, how long it will take."""

from pathlib import Path
from typing import Any

import pytest

from generation.engines.values import EngineError
from tests.training.dpo.helpers import changed_model
from training.dpo.data import Group
from training.dpo.distributed import Processes
from training.dpo.plan import Work
from training.dpo.run import CPU_TOKENS, GPU_TOKENS, LEAST_TOKENS, Run, tokens_that_fit
from training.dpo.settings import BadSettings, DPOSettings
from training.dpo.shapes import Shapes, memory

ONE_BILLION = Shapes(10**9, linear_sides=10**6, layers=24, hidden=2048, intermediate=8192, vocabulary=32_000)


def a_run(model: Path, out: Path, **more: Any) -> Run:
    settings = {name: more.pop(name) for name in list(more) if name in DPOSettings.__dataclass_fields__}
    return Run(model, out.with_suffix(".jsonl"), out, DPOSettings(**settings), **more)


def test_pairs_may_be_as_long_as_the_model_reads(tiny_model: Path, tmp_path: Path):
    assert a_run(tiny_model, tmp_path / "out").token_limit() == 256


def test_pairs_may_be_as_long_as_the_settings_say_if_that_is_less(tiny_model: Path, tmp_path: Path):
    assert a_run(tiny_model, tmp_path / "out", max_tokens=100).token_limit() == 100


def test_a_rope_that_changes_with_the_length_limits_pairs_to_its_first_context(tiny_model: Path, tmp_path: Path):
    rope = {"rope_type": "dynamic", "rope_theta": 10_000.0, "factor": 2.0, "original_max_position_embeddings": 128}
    model = changed_model(tiny_model, tmp_path / "model", rope_parameters=rope)
    assert a_run(model, tmp_path / "out").token_limit() == 128


def test_an_ordinary_rope_limits_nothing(tiny_model: Path, tmp_path: Path):
    rope = {"rope_type": "linear", "rope_theta": 10_000.0, "factor": 2.0, "original_max_position_embeddings": 128}
    model = changed_model(tiny_model, tmp_path / "model", rope_parameters=rope)
    assert a_run(model, tmp_path / "out").token_limit() == 256


def test_a_cpu_has_a_fixed_number_of_tokens_at_once(tiny_model: Path, tmp_path: Path):
    assert a_run(tiny_model, tmp_path / "out").micro_batch_tokens() == CPU_TOKENS


def test_tokens_at_once_that_are_set_are_taken(tiny_model: Path, tmp_path: Path):
    assert a_run(tiny_model, tmp_path / "out", micro_batch_tokens=77).settled().settings.micro_batch_tokens == 77


def test_tokens_at_once_are_settled_before_a_run(tiny_model: Path, tmp_path: Path):
    assert a_run(tiny_model, tmp_path / "out").settled().settings.micro_batch_tokens == CPU_TOKENS


def test_a_gpu_with_room_takes_the_most_tokens_at_once():
    assert tokens_that_fit(ONE_BILLION, DPOSettings(), free=1e15, bf16=True) == GPU_TOKENS


def test_a_gpu_takes_no_more_tokens_than_its_estimate_has_room_for():
    free = memory(ONE_BILLION, DPOSettings(), 3000, bf16=True)  # 4096 would be too many
    assert tokens_that_fit(ONE_BILLION, DPOSettings(), free=free, bf16=True) == 2048


def test_a_gpu_that_is_full_is_tried_with_the_least():
    assert tokens_that_fit(ONE_BILLION, DPOSettings(), free=1e6, bf16=True) == LEAST_TOKENS


def test_a_time_is_that_of_one_reference_pass_and_three_passes_an_epoch(tiny_model: Path, tmp_path: Path):
    """100 tokens * 0.1 s * (1 + 3 * 2 epochs) = 70 s."""
    group = Group([1] * 20, [[2] * 40, [3] * 40])
    plan = [[[Work(group, [])]]] * 2
    said = a_run(tiny_model, tmp_path / "out").time_estimate(0.1, [group], plan)
    assert said == "2 steps, about 1 min 10 s"


def test_a_time_is_shared_by_the_processes(tiny_model: Path, tmp_path: Path):
    group = Group([1] * 20, [[2] * 40, [3] * 40])
    plan = [[[Work(group, [])]]] * 2
    said = a_run(tiny_model, tmp_path / "out", processes=Processes(0, 7)).time_estimate(0.1, [group], plan)
    assert said == "2 steps, about 10 s"


@pytest.mark.parametrize("name", ["model", "adapter", "reference"])
@pytest.mark.parametrize("place", ["policy", "stages/1-style/policy"])
def test_what_the_result_would_replace_is_refused(tiny_model: Path, tmp_path: Path, name: str, place: str):
    directories = {"model": tiny_model, name: tmp_path / "out" / place}
    with pytest.raises(BadSettings, match="would be lost"):
        a_run(directories.pop("model"), tmp_path / "out", **directories).check()


def test_a_result_within_the_models_own_directory_is_allowed(tiny_model: Path):
    a_run(tiny_model, tiny_model / "round-1").check()


def test_the_least_value_of_one_process_is_its_own():
    assert Processes().least(5) == 5


def test_a_directory_without_a_model_is_refused_before_anything_is_measured(tmp_path: Path):
    with pytest.raises(EngineError, match="absent is not a directory"):
        a_run(tmp_path / "absent", tmp_path / "out").check()
