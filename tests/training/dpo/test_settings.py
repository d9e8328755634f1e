import json
import math
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from training.dpo.settings import LOSSES, BadSettings, DPOSettings

FREE_TEXT = {"objectives"}
RANGES = [
    ("beta", 0.01, 10.0),
    ("label_smoothing", 0.0, 0.49),
    ("ld_alpha", 0.0, 1.0),
    ("sft_weight", 0.0, 10.0),
    ("contrastive_weight", 0.0, 10.0),
    ("margin_scale", 0.0, 10.0),
    ("learning_rate", 1e-7, 1e-1),
    ("warmup", 0.0, 0.9),
    ("epochs", 1, 20),
    ("batch_pairs", 1, 4096),
    ("max_grad_norm", 0.0, 1000.0),
    ("weight_decay", 0.0, 1.0),
    ("lora_rank", 1, 512),
    ("lora_alpha", 0, 2048),
    ("micro_batch_tokens", 0, 1 << 24),
    ("max_tokens", 8, 1 << 20),
    ("seed", 0, 1 << 31),
    ("checkpoint_steps", 1, 100_000),
    ("eval_share", 0.0, 0.5),
    ("eval_steps", 0, 100_000),
    ("patience", 0, 1000),
    ("max_kl", 0.0, 1e6),
    ("max_logps_drop", 0.0, 100.0),
]
CHOICES = [
    ("loss", "sigmoid, robust, ipo, hinge, sigmoid_norm, apo_zero, apo_down"),
    ("weighting", "pairs, prompts"),
    ("batching", "comparison, pair"),
    ("schedule", "cosine, linear, constant"),
    ("method", "full, lora"),
    ("precision", "auto, fp32, bf16"),
]


def with_value(name: str, value: Any) -> DPOSettings:
    """Other settings as they must be for this one to have a meaning."""
    needed = {"eval_share": 0.1} if name in ("eval_steps", "patience") else {}
    return DPOSettings(**{**needed, name: value})


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_defaults_are_within_their_ranges():
    assert DPOSettings().check() == DPOSettings()


def test_every_number_has_a_range_and_every_word_its_choices():
    numbers = {f.name for f in fields(DPOSettings) if type(f.default) in (int, float)}
    words = {f.name for f in fields(DPOSettings) if type(f.default) is str}
    assert numbers == {name for name, _, _ in RANGES}
    assert words - FREE_TEXT == {name for name, _ in CHOICES}


@pytest.mark.parametrize("name", [f.name for f in fields(DPOSettings)])
def test_every_setting_says_what_it_means(name: str):
    (found,) = (f for f in fields(DPOSettings) if f.name == name)
    assert found.metadata["help"]


@pytest.mark.parametrize(("name", "low", "high"), RANGES)
def test_the_ends_of_a_range_are_allowed(name: str, low: float, high: float):
    for value in (low, high):
        assert getattr(with_value(name, value).check(), name) == value


@pytest.mark.parametrize(("name", "low", "high"), RANGES)
def test_a_value_below_its_range_is_refused_by_name(name: str, low: float, high: float):
    with pytest.raises(BadSettings, match=f"^{name} is .*: give {low} to {high}$"):
        with_value(name, low - 1).check()


@pytest.mark.parametrize(("name", "low", "high"), RANGES)
def test_a_value_above_its_range_is_refused_by_name(name: str, low: float, high: float):
    with pytest.raises(BadSettings, match=f"^{name} is .*: give {low} to {high}$"):
        with_value(name, high + 1).check()


@pytest.mark.parametrize("name", [name for name, _, _ in RANGES])
def test_not_a_number_is_refused(name: str):
    with pytest.raises(BadSettings, match=f"^{name} is nan"):
        with_value(name, math.nan).check()


@pytest.mark.parametrize("name", [name for name, _, _ in RANGES])
def test_true_is_not_a_number(name: str):
    with pytest.raises(BadSettings, match=f"^{name} is True: give a number$"):
        with_value(name, True).check()


@pytest.mark.parametrize("name", ["shuffle", "gradient_checkpointing"])
@pytest.mark.parametrize("value", [1, 0, "true", None])
def test_only_true_and_false_are_true_or_false(name: str, value: Any):
    with pytest.raises(BadSettings, match=f"^{name} is {value!r}: give true or false$"):
        DPOSettings(**{name: value}).check()


@pytest.mark.parametrize(("name", "known"), CHOICES)
def test_an_unknown_word_is_refused_with_the_known_ones(name: str, known: str):
    with pytest.raises(BadSettings, match=f"^{name} is 'other': give one of {known}$"):
        DPOSettings(**{name: "other"}).check()


@pytest.mark.parametrize(("name", "known"), CHOICES)
def test_every_known_word_is_allowed(name: str, known: str):
    for word in known.split(", "):
        assert getattr(DPOSettings(**{name: word}).check(), name) == word


@pytest.mark.parametrize("name", ["eval_steps", "patience"])
def test_what_needs_held_out_prompts_is_refused_without_them(name: str):
    with pytest.raises(BadSettings, match=f"^{name} is 3, but no prompts are held out: give eval_share too$"):
        DPOSettings(**{name: 3}).check()


@pytest.mark.parametrize("loss", LOSSES)
def test_label_smoothing_is_for_the_losses_that_know_it(loss: str):
    settings = DPOSettings(loss=loss, label_smoothing=0.1)
    if loss in ("sigmoid", "robust"):
        assert settings.check() is settings
    else:
        with pytest.raises(BadSettings, match=f"label_smoothing has no meaning for the loss {loss}: use sigmoid"):
            settings.check()


@pytest.mark.parametrize("loss", LOSSES)
def test_margins_are_for_the_losses_that_have_one(loss: str):
    settings = DPOSettings(loss=loss, margin_scale=0.1)
    if loss in ("apo_zero", "apo_down"):
        with pytest.raises(BadSettings, match=f"margin_scale has no meaning for the loss {loss}"):
            settings.check()
    else:
        assert settings.check() is settings


def test_prompts_cannot_weigh_alike_where_pairs_are_taken_by_themselves():
    """A pair by itself does not know how many its prompt has: each would weigh 1, whatever the file says."""
    with pytest.raises(BadSettings, match="weighting"):
        DPOSettings(weighting="prompts", batching="pair").check()


@pytest.mark.parametrize(
    ("objectives", "expected"),
    [
        ("", {}),
        ("structure", {"structure": 1.0}),
        ("structure=2", {"structure": 2.0}),
        ("structure=1,creativity=0.5", {"structure": 1.0, "creativity": 0.5}),
        (" structure = 1 , creativity ,", {"structure": 1.0, "creativity": 1.0}),
        ("故事性=0.3", {"故事性": 0.3}),
    ],
)
def test_objectives_are_criteria_with_their_weights(objectives: str, expected: dict[str, float]):
    assert DPOSettings(objectives=objectives).check().objective_weights() == expected


@pytest.mark.parametrize(
    "objectives", ["structure=0", "structure=-1", "structure=much", "structure=nan", "structure=inf", "=1", "a=1=2"]
)
def test_objectives_without_a_weight_above_0_are_refused(objectives: str):
    with pytest.raises(BadSettings, match="^objectives is '.*': give \"criterion=weight"):
        DPOSettings(objectives=objectives).check()


def test_a_criterion_that_is_named_twice_is_refused():
    """One of its two weights would be lost without a word."""
    with pytest.raises(BadSettings, match="objectives"):
        DPOSettings(objectives="structure=1,structure=3").check()


def test_settings_of_a_dict_are_checked():
    with pytest.raises(BadSettings, match="^epochs is 0"):
        DPOSettings.of({"epochs": 0}, "here")


def test_settings_of_a_dict_have_their_defaults_for_the_others():
    assert DPOSettings.of({"epochs": 2}, "here") == DPOSettings(epochs=2)


def test_unknown_settings_of_a_dict_are_named_with_their_place():
    with pytest.raises(BadSettings, match="^here: unknown settings alpha, betta$"):
        DPOSettings.of({"betta": 0.5, "alpha": 1, "beta": 0.5}, "here")


@pytest.mark.parametrize("values", [None, [], "beta", 3])
def test_settings_of_something_else_than_a_dict_are_refused(values: Any):
    with pytest.raises(BadSettings, match="^here holds no settings"):
        DPOSettings.of(values, "here")


def test_settings_come_back_from_their_json():
    settings = DPOSettings(beta=0.5, epochs=7, loss="sigmoid_norm", method="lora", objectives="a=1,b=2", shuffle=False)
    assert DPOSettings.of(json.loads(settings.to_json()), "here") == settings


def test_json_of_equal_settings_is_equal_text():
    """The run key of a checkpoint is made from it."""
    assert DPOSettings().to_json() == DPOSettings(**json.loads(DPOSettings().to_json())).to_json()


def test_a_whole_number_is_the_same_setting_as_its_float():
    """A run that began with "beta": 1 in its file goes on with --beta 1.0: the settings are equal."""
    whole = DPOSettings.of(json.loads('{"beta": 1}'), "here")
    assert whole == DPOSettings(beta=1.0)
    assert whole.to_json() == DPOSettings(beta=1.0).to_json()
