import json
import struct
import time
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from training.dpo.metrics import EvalMetrics, Log, PairMetrics, StepMetrics, Sums, row

PAIR: dict[str, float] = {
    "loss": 0.5,
    "rewards_chosen": 0.25,
    "rewards_rejected": -0.75,
    "rewards_margins": 1.0,
    "rewards_accuracies": 0.875,
    "logps_chosen": -40.0,
    "logps_rejected": -50.0,
    "logps_change": -0.125,
    "lengths_chosen": 12.0,
    "lengths_rejected": 13.0,
    "kl": 2.0,
}
STEP = StepMetrics(
    **PAIR,
    step=1,
    total_steps=9,
    epoch=0.5,
    learning_rate=0.001,
    grad_norm=1.5,
    num_tokens=640,
    pairs_per_second=8.0,
    tokens_per_second=256.0,
    stage="plot",
)
PLACE = ("step", "total_steps", "stage", "memory_resident", "memory_cuda")  # or not known here
EVAL = EvalMetrics(**PAIR, step=1, epoch=0.5, stories=16, tokens=400, stage="plot")


def step(number: int, **changes: Any) -> StepMetrics:
    return replace(STEP, step=number, **changes)


def evaluation(number: int) -> EvalMetrics:
    return replace(EVAL, step=number)


def written(out: Path, *metrics: StepMetrics | EvalMetrics, done: int = 0, tensorboard: bool = False) -> Path:
    """The metrics through a log in `out`, begun after `done` steps and closed."""
    log = Log(out, tensorboard=tensorboard)
    log.done = done
    for one in metrics:
        log.write(one)
    log.close()
    return log.path


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def events(file: Path) -> Iterator[Any]:
    """What stands in an event file: records of length, its checksum, the bytes, their checksum."""
    from tensorboardX.proto.event_pb2 import Event

    data = file.read_bytes()
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        assert len(data) >= 16 + length
        yield Event.FromString(data[12 : 12 + length])
        data = data[16 + length :]


def scalars(file: Path) -> dict[tuple[str, int], float]:
    """(tag, step) -> value."""
    return {(v.tag, event.step): v.simple_value for event in events(file) for v in event.summary.value}


def event_files(out: Path) -> list[Path]:
    return sorted((out / "tensorboard").glob("events.out.tfevents.*"))


def test_a_row_of_a_step_has_the_names_of_trl():
    assert list(row(STEP)) == [
        "loss",
        "rewards/chosen",
        "rewards/rejected",
        "rewards/margins",
        "rewards/accuracies",
        "logps/chosen",
        "logps/rejected",
        "logps/change",
        "lengths/chosen",
        "lengths/rejected",
        "kl",
        "step",
        "total_steps",
        "epoch",
        "learning_rate",
        "grad_norm",
        "num_tokens",
        "pairs_per_second",
        "tokens_per_second",
        "memory_resident",
        "memory_cuda",
        "stage",
    ]


def test_a_row_of_an_evaluation_has_its_figures_under_eval():
    names = [name for name in row(STEP) if name in {f.name.replace("_", "/", 1) for f in fields(PairMetrics)}]
    assert list(row(EVAL)) == [
        *(f"eval_{name}" for name in names),
        "step",
        "epoch",
        "eval_stories",
        "eval_tokens",
        "stage",
    ]


@pytest.mark.parametrize("metrics", [STEP, EVAL], ids=["step", "eval"])
def test_a_row_keeps_the_values_in_their_order(metrics: StepMetrics | EvalMetrics):
    assert list(row(metrics).values()) == [getattr(metrics, f.name) for f in fields(metrics)]


def test_sums_begin_at_nothing():
    assert Sums().values.tolist() == [0.0] * len(Sums.names)


def test_sums_add_up_by_name():
    sums = Sums()
    sums.add(loss=0.25, tokens=10)
    sums.add(loss=0.5, kl=-3)
    assert (sums["loss"], sums["tokens"], sums["kl"], sums["stories"]) == (0.75, 10, -3, 0)


def test_two_sums_are_not_one():
    one, other = Sums(), Sums()
    one.add(loss=1)
    assert other["loss"] == 0


def test_sums_count_tokens_beyond_what_a_float_of_32_bits_holds():
    sums = Sums()
    sums.add(tokens=1 << 24)
    sums.add(tokens=1)
    assert sums["tokens"] == (1 << 24) + 1


def test_an_unknown_figure_cannot_be_added():
    with pytest.raises(ValueError, match="not in tuple"):
        Sums().add(lost=1.0)


def test_sums_of_processes_add_up_as_those_of_one():
    one, other = Sums(), Sums()
    one.add(loss=1, stories=2, kl=3)
    other.add(loss=2, stories=1, kl=-1)
    torch.add(one.values, other.values, out=one.values)
    assert (one["loss"], one["stories"], one["kl"]) == (3, 3, 2)


def test_the_means_are_what_metrics_want():
    assert PairMetrics(**Sums().means()) == PairMetrics(**dict.fromkeys(PAIR, 0.0))


def test_figures_of_pairs_are_weighted_already_and_kl_is_a_mean_over_stories():
    sums = Sums()
    sums.add(**{name: value for name, value in PAIR.items() if name not in ("rewards_margins", "kl")})
    sums.add(kl=6.0, stories=3, tokens=99, drift=8.0)
    assert sums.means() == PAIR


def test_a_line_is_appended_for_each_row(tmp_path: Path):
    assert lines(written(tmp_path / "out", STEP, EVAL)) == [row(STEP), row(EVAL)]


def test_a_line_is_in_the_file_before_the_log_is_closed(tmp_path: Path):
    log = Log(tmp_path / "out", tensorboard=False)
    log.done = 0
    log.write(STEP)
    assert lines(log.path) == [row(STEP)]


def test_writing_returns_the_row(tmp_path: Path):
    log = Log(tmp_path, tensorboard=False)
    log.done = 0
    assert log.write(EVAL) == row(EVAL)


def test_a_run_that_goes_on_keeps_the_lines_of_its_done_steps_alone(tmp_path: Path):
    written(tmp_path, step(1), step(2), evaluation(2), step(3), evaluation(3), step(4))
    path = written(tmp_path, step(3, loss=0.125), done=2)
    assert lines(path) == [row(step(1)), row(step(2)), row(evaluation(2)), row(step(3, loss=0.125))]


def test_a_new_run_begins_with_no_lines(tmp_path: Path):
    written(tmp_path, step(1), step(2))
    assert lines(written(tmp_path, step(1))) == [row(step(1))]


def test_a_run_that_goes_on_without_its_file_begins_a_new_one(tmp_path: Path):
    assert lines(written(tmp_path / "out", step(3), done=2)) == [row(step(3))]


def test_a_line_that_was_cut_off_does_not_keep_a_run_from_going_on(tmp_path: Path):
    """As a full disk leaves it: the checkpoint is whole, the last line is not."""
    path = written(tmp_path, step(1), step(2), step(3))
    path.write_text(path.read_text()[:-30])
    assert lines(written(tmp_path, step(3), done=2)) == [row(step(1)), row(step(2)), row(step(3))]


def test_there_is_no_tensorboard_unless_it_is_asked_for(tmp_path: Path):
    written(tmp_path, STEP)
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_tensorboard_holds_the_figures_of_a_step_under_train(tmp_path: Path):
    written(tmp_path, step(3), tensorboard=True)
    (file,) = event_files(tmp_path)
    expected = {name: value for name, value in row(STEP).items() if name not in PLACE}
    assert scalars(file) == {(f"train/{name}", 3): pytest.approx(value) for name, value in expected.items()}


def test_tensorboard_holds_the_figures_of_an_evaluation_under_eval(tmp_path: Path):
    written(tmp_path, evaluation(3), tensorboard=True)
    (file,) = event_files(tmp_path)
    found = {place: value for place, value in scalars(file).items() if place[0] != "train/epoch"}
    of = {"stories": 16, "tokens": 400}
    assert found == {(f"eval/{name}", 3): value for name, value in ({trl_name(n): PAIR[n] for n in PAIR} | of).items()}


def trl_name(name: str) -> str:
    return name.replace("_", "/", 1)


def test_tensorboard_keeps_the_steps_apart(tmp_path: Path):
    written(tmp_path, *(step(number, loss=number / 4) for number in (1, 2, 3)), tensorboard=True)
    (file,) = event_files(tmp_path)
    found = {number: value for (tag, number), value in scalars(file).items() if tag == "train/loss"}
    assert found == {1: 0.25, 2: 0.5, 3: 0.75}


def test_tensorboard_has_all_but_the_last_step_before_the_log_is_closed(tmp_path: Path):
    """A run that is killed goes on after its checkpoint: what was not in the file by then is never written."""
    log = Log(tmp_path, tensorboard=True)
    log.done = 0
    for number in range(1, 9):
        log.write(step(number))
    (file,) = event_files(tmp_path)
    size = file.stat().st_size
    log.close()
    assert size >= 7 / 8 * file.stat().st_size


def test_tensorboard_is_told_which_steps_are_trained_again(tmp_path: Path):
    """Its reader drops what an earlier file has from the step of a session's start."""
    from tensorboardX.proto.event_pb2 import SessionLog

    written(tmp_path, step(1), step(2), step(3), tensorboard=True)
    time.sleep(1.1)  # a file is named by its second
    written(tmp_path, step(3), done=2, tensorboard=True)
    _, later = event_files(tmp_path)
    starts = [event.step for event in events(later) if event.session_log.status == SessionLog.START]
    assert starts == [3]
    assert {number for _, number in scalars(later)} == {3}
