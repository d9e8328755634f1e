"""The benchmark against TRL: its data, its two sides, and what it refuses to print."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from training.bench import __main__ as bench
from training.bench.case import Case, Measured
from training.bench.lab import make_lab


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_lab(tmp_path_factory.mktemp("lab") / "small")


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def case(lab: Path, data: str = "pairs", weights: str = "full", steps: int = 1) -> Case:
    return Case(str(lab), data, weights, "cpu", steps, threads=1)


def test_the_data_are_the_same_on_every_machine(lab: Path):
    found = hashlib.sha256((lab / "pairs.jsonl").read_bytes()).hexdigest()
    assert found == "5de05822ac080e09a0798323347570e36adb137e959f0fb889678b1d55426700"


def test_loose_pairs_of_ranked_data_are_all_pairs_of_each_order(lab: Path):
    group, pairs = rows(lab / "ranked4.jsonl")[0], rows(lab / "ranked4_pairs.jsonl")[:6]
    a, b, c, d = group["completions"]
    assert [(p["chosen"], p["rejected"]) for p in pairs] == [(a, b), (a, c), (a, d), (b, c), (b, d), (c, d)]
    assert {p["prompt"] for p in pairs} == {group["prompt"]}


@pytest.mark.parametrize(("data", "ours", "theirs"), [("pairs", 16, 16), ("ranked4", 16, 96), ("ranked5", 16, 160)])
def test_both_sides_get_the_same_prompts(lab: Path, data: str, ours: int, theirs: int):
    wanted = case(lab, data, steps=2)
    grouped, loose = ([json.loads(line)["prompt"] for line in wanted.lines(loose=loose)] for loose in (False, True))
    assert (len(grouped), len(loose)) == (ours, theirs)
    assert list(dict.fromkeys(grouped)) == list(dict.fromkeys(loose))


@pytest.fixture(scope="module")
def figures(lab: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Of a real run of both sides: one step of LoRA on ranked data would take TRL a minute, so loose pairs."""
    path = tmp_path_factory.mktemp("bench") / "figures.json"
    options = ["--lab", str(lab.parent), "--data", "pairs", "--weights", "lora", "--steps", "1", "--threads", "1"]
    assert bench.main([*options, "--json", str(path)]) == 0
    return json.loads(path.read_text())


@pytest.mark.slow
def test_a_run_of_both_sides_gives_the_figures_that_the_design_names(figures: dict[str, Any]):
    (found,) = figures["cases"]
    assert (found["data"], found["weights"], found["device"]) == ("pairs", "lora", "cpu")
    assert found["cpu_ratio"] == pytest.approx(found["trl"]["cpu_seconds"] / found["ours"]["cpu_seconds"])
    assert found["wall_ratio"] > 0
    assert found["memory_ratio"] == pytest.approx(found["ours"]["peak_bytes"] / found["trl"]["peak_bytes"])


@pytest.mark.slow
def test_both_sides_compute_the_same_loss(figures: dict[str, Any]):
    assert figures["cases"][0]["max_loss_difference"] < 1e-5


@pytest.mark.slow
def test_the_figures_say_what_they_belong_to(figures: dict[str, Any]):
    assert figures["seed"] == 42
    assert figures["versions"]["trl"] == "1.16.0"


def measured(losses: list[float], **more: Any) -> Measured:
    return Measured(
        losses=losses, cpu_seconds=1, wall_seconds=1, step_seconds=1, peak_bytes=1, tokens=10, pairs=8, **more
    )


@pytest.mark.parametrize(
    ("theirs", "said"), [([0.69, 0.61], "losses of a step differ by 0.01"), ([0.69], "2 steps on 8 pairs here")]
)
def test_figures_of_two_different_trainings_are_refused(
    lab: Path, monkeypatch: pytest.MonkeyPatch, theirs: list[float], said: str
):
    monkeypatch.setattr(bench, "side", lambda name, case: measured([0.69, 0.6] if name == "ours" else theirs))
    with pytest.raises(bench.Wrong, match=said):
        bench.compare(case(lab))


def test_a_utilization_above_sixty_percent_is_refused(lab: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bench, "utilization", lambda rate, case: 0.61)
    with pytest.raises(bench.Wrong, match="61% is an error to find"):
        bench.figures(measured([0.69]), case(lab))


def test_utilization_counts_six_flops_a_parameter_and_token(lab: Path, monkeypatch: pytest.MonkeyPatch):
    """5,868,800 parameters besides the embedding * 6 FLOPs * 1e6 tokens/s of 989e12 FLOP/s = 3.56 %."""
    import torch

    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H200")
    on_gpu = Case(str(lab), "pairs", "full", "cuda", 1, threads=1)
    assert bench.utilization(1e6, on_gpu) == pytest.approx(6 * 5_868_800 * 1e6 / 989e12)


def test_a_side_that_fails_says_why(lab: Path):
    with pytest.raises(bench.Wrong, match=r"(?s)ours, pairs, full: .*No such file"):
        bench.side("ours", case(lab.parent / "nowhere"))
