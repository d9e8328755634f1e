import json
import math
from pathlib import Path

import pytest

from training.dpo.settings import BadSettings, DPOSettings

RANGES = [
    ("beta", 0.01, 10.0),
    ("learning_rate", 1e-7, 1e-1),
    ("epochs", 1, 20),
    ("batch_pairs", 1, 4096),
    ("sft_weight", 0.0, 10.0),
    ("lora_rank", 1, 512),
    ("warmup", 0.0, 0.9),
    ("max_grad_norm", 0.0, 1000.0),
    ("checkpoint_steps", 1, 100_000),
    ("micro_batch_stories", 2, 4096),
    ("max_tokens", 8, 1 << 20),
]


def test_defaults_are_within_their_ranges():
    assert DPOSettings().check() == DPOSettings()


@pytest.mark.parametrize(("name", "low", "high"), RANGES)
def test_the_ends_of_a_range_are_allowed(name: str, low: float, high: float):
    for value in (low, high):
        assert getattr(DPOSettings(**{name: value}).check(), name) == value


@pytest.mark.parametrize(("name", "low", "high"), RANGES)
def test_a_value_below_its_range_is_refused_by_name(name: str, low: float, high: float):
    with pytest.raises(BadSettings, match=f"^{name} is .*: give {low} to {high}$"):
        DPOSettings(**{name: low - 1}).check()


@pytest.mark.parametrize(("name", "low", "high"), RANGES)
def test_a_value_above_its_range_is_refused_by_name(name: str, low: float, high: float):
    with pytest.raises(BadSettings, match=f"^{name} is .*: give {low} to {high}$"):
        DPOSettings(**{name: high + 1}).check()


@pytest.mark.parametrize("name", [name for name, _, _ in RANGES])
def test_not_a_number_is_refused(name: str):
    with pytest.raises(BadSettings, match=f"^{name} is nan"):
        DPOSettings(**{name: math.nan}).check()


@pytest.mark.parametrize(
    ("name", "known"), [("loss", "sigmoid, sigmoid_norm"), ("method", "full, lora")], ids=["loss", "method"]
)
def test_an_unknown_word_is_refused_with_the_known_ones(name: str, known: str):
    with pytest.raises(BadSettings, match=f"^{name} is 'other': give one of {known}$"):
        DPOSettings(**{name: "other"}).check()


def test_settings_come_back_from_their_json(tmp_path: Path):
    settings = DPOSettings(beta=0.5, epochs=7, loss="sigmoid_norm", method="lora")
    path = tmp_path / "settings.json"
    path.write_text(settings.to_json())
    assert DPOSettings.read(path) == settings


def test_settings_left_out_of_a_file_have_their_defaults(tmp_path: Path):
    path = tmp_path / "settings.json"
    path.write_text('{"beta": 0.5}')
    assert DPOSettings.read(path) == DPOSettings(beta=0.5)


def test_an_unknown_setting_in_a_file_is_refused_by_name(tmp_path: Path):
    path = tmp_path / "settings.json"
    path.write_text('{"beta": 0.5, "betta": 0.5}')
    with pytest.raises(BadSettings, match="settings.json: unknown settings betta"):
        DPOSettings.read(path)


def test_a_value_out_of_range_in_a_file_is_refused(tmp_path: Path):
    path = tmp_path / "settings.json"
    path.write_text('{"beta": 50}')
    with pytest.raises(BadSettings, match="beta is 50"):
        DPOSettings.read(path)


@pytest.mark.parametrize("text", ['{"epochs": 1.5}', '{"epochs": "3"}', '{"epochs": null}', "[1]", "{"])
def test_a_file_with_values_of_another_type_is_refused(tmp_path: Path, text: str):
    path = tmp_path / "settings.json"
    path.write_text(text)
    with pytest.raises(BadSettings):
        DPOSettings.read(path)


def test_json_of_equal_settings_is_equal_text():
    """The run key of a checkpoint is made from it."""
    assert DPOSettings().to_json() == DPOSettings(**json.loads(DPOSettings().to_json())).to_json()
