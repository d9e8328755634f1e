"""SIGTERM ends a run after the step that it is in, and nothing is lost."""

import os
import signal
from pathlib import Path

import pytest

from tests.training.dpo.helpers import largest_difference, pair, run, weights
from training.dpo.interrupt import Interrupted, asked_to_end
from training.dpo.metrics import StepMetrics

ROWS = [pair(i) for i in range(10)]
SIX_STEPS = {"batch_pairs": 5, "epochs": 3, "learning_rate": 1e-3}  # no checkpoint is due


def end_in(step: int):
    def on_step(metrics: StepMetrics) -> None:
        if metrics.step == step:
            os.kill(os.getpid(), signal.SIGTERM)

    return on_step


def test_a_run_that_was_asked_to_end_goes_on_to_the_same_weights(tiny_model: Path, tmp_path: Path) -> None:
    unbroken = run(tiny_model, tmp_path / "unbroken", ROWS, **SIX_STEPS)
    with pytest.raises(Interrupted, match="Ended after step 3: the same command goes on"):
        run(tiny_model, tmp_path / "broken", ROWS, on_step=end_in(3), **SIX_STEPS)
    resumed = run(tiny_model, tmp_path / "broken", ROWS, **SIX_STEPS)
    assert [step.step for step in resumed.metrics] == [4, 5, 6]
    assert largest_difference(weights(resumed.result.directory), weights(unbroken.result.directory)) == 0


def test_after_the_steps_the_signal_is_what_it_was() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with asked_to_end() as asked:
        assert not asked()
        os.kill(os.getpid(), signal.SIGTERM)
        assert asked()
    assert signal.getsignal(signal.SIGTERM) is before


def test_several_processes_are_ended_at_once() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with asked_to_end(2) as asked:
        assert signal.getsignal(signal.SIGTERM) is before
        assert not asked()
