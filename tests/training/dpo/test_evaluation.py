"""Held-out pairs: what they are, when they are evaluated, and the runs that end because of a figure."""

import math
from pathlib import Path
from typing import Any

import pytest

from generation.engines.loading import load_model, load_tokenizer
from tests.training.dpo.helpers import (
    Killed,
    Run,
    killed_after,
    largest_difference,
    pair,
    run,
    weights,
    write_pairs,
)
from tests.training.dpo.naive import worked_out
from training.dpo.checkpoint import BadCheckpoint
from training.dpo.data import read_pairs
from training.dpo.plan import hold_out
from training.dpo.run import Run as TrainerRun
from training.dpo.settings import DPOSettings
from training.dpo.trainer import Callbacks, train

ROWS = [pair(i) for i in range(10)]
# two pairs a prompt; what is learned from one prompt is wrong for most of the others
NOISY = [
    row
    for i in range(12)
    for row in (
        pair(i, chosen=f"fox {i}", rejected="the end") if i % 2 else pair(i, chosen="the end", rejected=f"fox {i}"),
        pair(i, chosen=f"fox home {i}", rejected=f"home {i}"),
    )
]
OVERFITS = {
    "eval_share": 0.3,
    "eval_steps": 1,
    "patience": 3,
    "learning_rate": 2e-2,
    "epochs": 6,
    "batch_pairs": 4,
    "checkpoint_steps": 3,
    "warmup": 0.0,
}
TURNS_LATE = {**OVERFITS, "learning_rate": 1e-2, "patience": 99}  # the lowest loss is after step 13 of 24
UNLEARNS = {"loss": "apo_down", "batch_pairs": 5, "epochs": 9}  # makes the chosen stories unlikely, too


def held_out_rows(model: Path, tmp_path: Path, rows: list[dict], settings: dict[str, Any]) -> list[dict]:
    """Those of `rows` that a run with `settings` holds out."""
    tokenizer = load_tokenizer(model)
    dataset = read_pairs(write_pairs(tmp_path / "all.jsonl", rows), tokenizer, max_tokens=256)
    share, seed = settings["eval_share"], settings.get("seed", 42)
    prompts = [group.prompt_ids for group in hold_out(dataset, share, seed)[1]]
    return [row for row in rows if tokenizer.encode(row["prompt"]) in prompts]


# -- what is held out


def test_nothing_is_evaluated_if_nothing_is_held_out(tiny_model: Path, tmp_path: Path):
    assert run(tiny_model, tmp_path / "out", ROWS).evaluations == []


def test_a_held_out_prompts_pairs_are_not_trained_on(tiny_model: Path, tmp_path: Path):
    """Without their pairs in the file the trained weights are the same."""
    settings = {"eval_share": 0.25, "learning_rate": 1e-3, "batch_pairs": 99, "shuffle": False}
    held = held_out_rows(tiny_model, tmp_path, NOISY, settings)
    assert len(held) == 6  # 3 of 12 prompts, two pairs each
    with_them = run(tiny_model, tmp_path / "with", NOISY, **settings)
    rest = [row for row in NOISY if row not in held]
    without = run(tiny_model, tmp_path / "without", rest, **{**settings, "eval_share": 0.0})
    assert largest_difference(weights(with_them.result.directory), weights(without.result.directory)) < 1e-6


def test_an_evaluations_loss_is_that_of_the_held_out_pairs(tiny_model: Path, tmp_path: Path):
    """After the last step the policy is the result: its loss on them is worked out anew."""
    settings = {"eval_share": 0.3, "learning_rate": 1e-3}
    found = run(tiny_model, tmp_path / "out", NOISY, **settings)
    held = held_out_rows(tiny_model, tmp_path, NOISY, settings)
    models = load_model(found.result.directory), load_model(tiny_model)
    expected = worked_out(*models, load_tokenizer(tiny_model), held, beta=0.2)
    last = found.evaluations[-1]
    assert [getattr(last, name) for name in expected] == pytest.approx(list(expected.values()), abs=1e-4)


def test_an_evaluation_changes_no_weight(tiny_model: Path, tmp_path: Path):
    settings = {"eval_share": 0.3, "learning_rate": 1e-3, "batch_pairs": 2}
    seldom, often = (run(tiny_model, tmp_path / str(n), NOISY, eval_steps=n, **settings) for n in (99, 1))
    assert len(often.evaluations) > len(seldom.evaluations)
    assert largest_difference(weights(seldom.result.directory), weights(often.result.directory)) == 0


def test_a_single_prompt_is_trained_on_though_a_share_is_to_be_held_out(tiny_model: Path, tmp_path: Path):
    found = run(tiny_model, tmp_path / "out", ROWS[:1], eval_share=0.5)
    assert (found.result.steps, found.evaluations) == (3, [])


# -- when


def test_an_evaluation_follows_each_epoch(tiny_model: Path, tmp_path: Path):
    found = run(tiny_model, tmp_path / "out", ROWS, eval_share=0.2, batch_pairs=3, epochs=3)
    assert [(e.step, e.epoch) for e in found.evaluations] == [(3, 1.0), (6, 2.0), (9, 3.0)]


def test_an_evaluation_follows_every_so_many_steps_and_the_last(tiny_model: Path, tmp_path: Path):
    found = run(tiny_model, tmp_path / "out", ROWS, eval_share=0.2, eval_steps=4, batch_pairs=3, epochs=3)
    assert [e.step for e in found.evaluations] == [4, 8, 9]


def test_the_last_step_of_an_epoch_is_known_however_long_it_is():
    """The epoch of a step is rounded for the eye: 29,999 of 30,000 batches are no whole epoch."""
    from types import SimpleNamespace

    from training.dpo.trainer import _batches_to_do

    state = SimpleNamespace(plan=[[[]] * 30_000], position=SimpleNamespace(step=0))
    ends = [number for number, (_, last, _) in enumerate(_batches_to_do(state), start=1) if last]
    assert ends == [30_000]


# -- early stopping


@pytest.fixture(scope="module")
def overfitted(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run whose held-out loss falls and then rises until patience is over."""
    return run(tiny_model, tmp_path_factory.mktemp("overfitted") / "out", NOISY, **OVERFITS)


def test_a_run_stops_when_patience_is_over(overfitted: Run):
    losses = [e.loss for e in overfitted.evaluations]
    best = losses.index(min(losses))
    assert 0 < best == len(losses) - 1 - OVERFITS["patience"]
    assert overfitted.result.steps == len(losses) < overfitted.metrics[0].total_steps


def test_a_run_that_stops_early_says_why(overfitted: Run):
    assert overfitted.result.stopped == (
        "the held-out loss has not fallen in 3 evaluations; the weights of the lowest are kept"
    )


def test_the_result_of_a_run_that_stops_early_has_the_lowest_held_out_loss(
    tiny_model: Path, tmp_path: Path, overfitted: Run
):
    held = held_out_rows(tiny_model, tmp_path, NOISY, OVERFITS)
    models = load_model(overfitted.result.directory), load_model(tiny_model)
    found = worked_out(*models, load_tokenizer(tiny_model), held, beta=0.2)["loss"]
    losses = sorted(e.loss for e in overfitted.evaluations)
    assert found == pytest.approx(losses[0], abs=1e-4)
    assert losses[1] - losses[0] > 1e-3  # else the assertion above tells nothing


def test_a_run_that_stops_early_leaves_the_result_alone_in_its_directory(overfitted: Run):
    assert sorted(path.name for path in overfitted.result.directory.parent.glob("*")) == ["policy", "run.json"]


def test_a_run_that_comes_to_its_end_with_patience_keeps_the_best_weights_too(tiny_model: Path, tmp_path: Path):
    found = run(tiny_model, tmp_path / "out", NOISY, **TURNS_LATE)
    held = held_out_rows(tiny_model, tmp_path, NOISY, TURNS_LATE)
    models = load_model(found.result.directory), load_model(tiny_model)
    loss = worked_out(*models, load_tokenizer(tiny_model), held, beta=0.2)["loss"]
    losses = [e.loss for e in found.evaluations]
    assert loss == pytest.approx(min(losses), abs=1e-4)
    assert (losses[-1] > min(losses) + 1e-3, found.result.stopped) == (True, "")


def test_the_best_weights_of_an_adapter_are_kept(tiny_model: Path, tmp_path: Path):
    settings = {**OVERFITS, "method": "lora", "lora_rank": 4}
    found = run(tiny_model, tmp_path / "out", NOISY, **settings)
    held = held_out_rows(tiny_model, tmp_path, NOISY, settings)
    models = load_model(tiny_model, found.result.directory), load_model(tiny_model)
    loss = worked_out(*models, load_tokenizer(tiny_model), held, beta=0.2)["loss"]
    losses = [e.loss for e in found.evaluations]
    assert (loss, losses[-1] > min(losses) + 1e-3) == (pytest.approx(min(losses), abs=1e-4), True)


# -- figures that end a run


def test_a_run_whose_kl_is_too_high_ends_with_a_result_and_says_why(tiny_model: Path, tmp_path: Path):
    found = run(tiny_model, tmp_path / "out", ROWS, learning_rate=1e-2, max_kl=1.0, **UNLEARNS)
    (last,) = [step for step in found.metrics if step.kl > 1]
    assert found.result.stopped == f"kl was {last.kl:.1f} nats a story at step {last.step}; max_kl is 1"
    assert found.result.steps == last.step == len(found.metrics) < last.total_steps
    assert (found.result.directory / "model.safetensors").exists()


def test_a_run_whose_chosen_stories_become_unlikely_ends_with_a_result_and_says_why(tiny_model: Path, tmp_path: Path):
    found = run(tiny_model, tmp_path / "out", ROWS, learning_rate=1e-2, max_logps_drop=0.5, **UNLEARNS)
    last = found.metrics[-1]
    assert -last.logps_change > 0.5 >= max(-step.logps_change for step in found.metrics[:-1])
    assert found.result.stopped == (
        f"chosen stories had lost {-last.logps_change:.2f} nats a token at step {last.step}; max_logps_drop is 0.5"
    )
    assert (found.result.directory / "model.safetensors").exists()


def test_limits_that_are_not_reached_end_nothing(tiny_model: Path, tmp_path: Path):
    found = run(tiny_model, tmp_path / "out", ROWS, max_kl=1e6, max_logps_drop=100.0)
    assert (found.result.stopped, found.result.steps) == ("", 3)


def test_the_best_weights_of_another_run_do_not_end_up_in_the_result(tiny_model: Path, tmp_path: Path):
    """A run was killed after an evaluation and before a checkpoint; then other settings, that end the
    run before its first evaluation."""
    with pytest.raises(Killed):
        run(tiny_model, tmp_path / "out", NOISY, on_step=killed_after(2), **OVERFITS)
    assert (tmp_path / "out" / "best").exists()
    other = {**OVERFITS, "eval_steps": 99, "max_kl": 0.01, "loss": "apo_down"}
    found = run(tiny_model, tmp_path / "out", NOISY, **other)
    clean = run(tiny_model, tmp_path / "clean", NOISY, **other)
    assert clean.result.stopped.startswith("kl was")
    assert largest_difference(weights(found.result.directory), weights(clean.result.directory)) == 0


# -- going on


@pytest.mark.parametrize("after", range(1, 8))
def test_a_run_with_evaluations_goes_on_to_the_same_weights_wherever_it_was_killed(
    tiny_model: Path, tmp_path: Path, overfitted: Run, after: int
):
    """Checkpoints are every third step, evaluations each: most kills fall between the two."""
    with pytest.raises(Killed):
        run(tiny_model, tmp_path / "out", NOISY, on_step=killed_after(after), **OVERFITS)
    resumed = run(tiny_model, tmp_path / "out", NOISY, **OVERFITS)
    assert largest_difference(weights(resumed.result.directory), weights(overfitted.result.directory)) == 0
    assert resumed.result.stopped == overfitted.result.stopped
    done = (after - 1) // 3 * 3
    assert resumed.evaluations == overfitted.evaluations[done:]


def test_a_run_killed_in_an_evaluation_before_its_checkpoint_goes_on_to_the_same_weights(
    tiny_model: Path, tmp_path: Path, overfitted: Run
):
    """After step 3 the best weights are written and the checkpoint is not."""
    out, data = tmp_path / "out", write_pairs(tmp_path / "out.jsonl", NOISY)

    def killed(evaluation: Any) -> None:
        if evaluation.step == 3:
            raise Killed

    with pytest.raises(Killed):
        train(TrainerRun(tiny_model, data, out, DPOSettings(**OVERFITS)), Callbacks(on_eval=killed))
    assert not (out / "checkpoint").exists()
    resumed = run(tiny_model, out, NOISY, **OVERFITS)
    assert largest_difference(weights(resumed.result.directory), weights(overfitted.result.directory)) == 0


def test_a_run_killed_after_it_was_decided_to_stop_trains_no_further(tiny_model: Path, tmp_path: Path):
    """Killed in the last step, so that it is done again; no step comes after it."""
    settings = {"learning_rate": 1e-2, "max_kl": 10.0, "checkpoint_steps": 1, **UNLEARNS}
    unbroken = run(tiny_model, tmp_path / "unbroken", ROWS, **settings)
    saved = tmp_path / "broken" / "checkpoint"

    def killed(step: Any) -> None:
        if step.step == unbroken.result.steps:
            raise Killed

    with pytest.raises(Killed):
        run(tiny_model, tmp_path / "broken", ROWS, on_step=killed, **settings)
    assert saved.exists()
    again = run(tiny_model, tmp_path / "broken", ROWS, **settings)
    assert [step.step for step in again.metrics] == [unbroken.result.steps]
    assert again.result.stopped == unbroken.result.stopped
    assert largest_difference(weights(again.result.directory), weights(unbroken.result.directory)) == 0


def test_a_checkpoint_of_a_run_that_has_stopped_trains_no_further(tiny_model: Path, tmp_path: Path):
    """Killed while the result was written: the checkpoint of the last step knows that the run is over."""
    settings = {"learning_rate": 1e-2, "max_kl": 10.0, "checkpoint_steps": 1, **UNLEARNS}
    unbroken = run(tiny_model, tmp_path / "unbroken", ROWS, **settings)
    out = tmp_path / "broken"
    out.mkdir()
    (out / "policy").write_text("in the way of the result")  # the rename of the result fails
    with pytest.raises(OSError):  # noqa: PT011
        run(tiny_model, out, ROWS, **settings)
    (out / "policy").unlink()
    again = run(tiny_model, out, ROWS, **settings)
    assert (again.metrics, again.result.stopped) == ([], unbroken.result.stopped)
    assert largest_difference(weights(again.result.directory), weights(unbroken.result.directory)) == 0


def test_the_best_weights_are_refused_if_they_are_broken(tiny_model: Path, tmp_path: Path):
    """Killed, harmed, and resumed at a place from which no evaluation is better."""
    with pytest.raises(Killed):
        run(tiny_model, tmp_path / "out", NOISY, on_step=killed_after(17), **TURNS_LATE)
    best = tmp_path / "out" / "best" / "state.safetensors"
    best.write_bytes(best.read_bytes()[:50])
    with pytest.raises(BadCheckpoint, match="best is broken"):
        run(tiny_model, tmp_path / "out", NOISY, **TURNS_LATE)
    assert not (tmp_path / "out" / "policy").exists()


def test_figures_of_evaluations_are_finite(overfitted: Run):
    assert all(math.isfinite(value) for e in overfitted.evaluations for value in (e.loss, e.kl, e.logps_chosen))
