"""Several processes give the numbers of one. Each run here is a process group of its own, on gloo."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.dpo.cli import ROOT, command, lines_of, start
from tests.training.dpo.helpers import Killed, killed_after, largest_difference, pair, run, weights, write_pairs
from training.dpo.__main__ import main
from training.dpo.distributed import Processes

ROWS = [pair(i) for i in range(10)] + [pair(3, rejected="fox"), pair(3, rejected="home home")]
SETTINGS = {"learning_rate": 1e-3, "batch_pairs": 5, "epochs": 2, "micro_batch_tokens": 64, "checkpoint_steps": 2}
STEPS = 5
STAGES = """
[[stages]]
name = "full"
[[stages]]
name = "lora"
method = "lora"
lora_rank = 4
"""


# -- which parts a process takes


def test_one_process_takes_all_parts():
    assert Processes().mine("abc") == [("a", True), ("b", True), ("c", True)]


@pytest.mark.parametrize("sharded", [False, True])
@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize("parts", ["a", "ab", "abcd", "abcdefg"])
def test_every_part_is_counted_by_one_process(parts: str, count: int, sharded: bool):
    taken = [part for rank in range(count) for part, counted in Processes(rank, count, sharded).mine(parts) if counted]
    assert sorted(taken) == list(parts)


@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize("parts", ["a", "ab", "abcd", "abcdefg"])
def test_processes_that_share_weights_make_the_same_number_of_passes(parts: str, count: int):
    assert len({len(Processes(rank, count, sharded=True).mine(parts)) for rank in range(count)}) == 1


def test_a_process_without_a_part_takes_none_if_it_has_all_weights():
    assert Processes(1, 2).mine("a") == []


def test_a_pass_that_is_made_again_is_not_counted():
    assert Processes(1, 2, sharded=True).mine("abc") == [("b", True), ("b", False)]
    assert Processes(1, 2, sharded=True).mine("a") == [("a", False)]


def test_only_the_first_process_talks_in_a_dry_run(tiny_model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    from training.dpo.command import _dry_run
    from training.dpo.run import Run
    from training.dpo.settings import DPOSettings

    data = write_pairs(tmp_path / "data.jsonl", ROWS)
    _dry_run(Run(tiny_model, data, tmp_path / "out", DPOSettings(), processes=Processes(1, 2)), [])
    assert capfd.readouterr().out == ""


# -- two processes


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def torchrun(*arguments: str) -> list[str]:
    place = ["--master-addr", "127.0.0.1", "--master-port", str(free_port())]
    return ["-m", "torch.distributed.run", "--nproc-per-node", "2", *place, "-m", "training.dpo", *arguments]


@dataclass(frozen=True)
class Ended:
    status: int
    out: str
    err: str


def kill(process: subprocess.Popen[str]) -> None:
    """The launcher and what it started, at once and unasked. Its workers are in sessions of their own."""
    started = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    for pid in (process.pid, *map(int, started)):
        os.kill(pid, signal.SIGKILL)
    process.communicate()


def finished(process: subprocess.Popen[str], seconds: int = 100) -> Ended:
    """Killed with all that it started if it hangs."""
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        kill(process)
        pytest.fail(f"the processes were still waiting for each other after {seconds} seconds")
    return Ended(process.returncode, out, err)


def two_processes(*arguments: str, **environment: str) -> Ended:
    return finished(start(*torchrun(*arguments), environment=environment))


def options(settings: dict[str, Any]) -> list[str]:
    return [text for name, value in settings.items() for text in (f"--{name.replace('_', '-')}", str(value))]


def losses(lines: Sequence[dict[str, Any]]) -> list[float]:
    return [line.get("loss", line.get("eval_loss")) for line in lines]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("data") / "pairs.jsonl", ROWS)


@pytest.fixture(scope="module")
def staged(data: Path) -> list[str]:
    """Options of a run that trains all weights and then an adapter: both ways in one start."""
    path = data.with_name("run.toml")
    path.write_text(STAGES)
    return ["--config", str(path), "--json", *options(SETTINGS)]


@pytest.fixture(scope="module")
def alone(tiny_model: Path, data: Path, staged: list[str]) -> Path:
    """The same in one process."""
    out = data.with_name("alone")
    assert main(command(tiny_model, data, out, *staged)) == 0
    return out


@pytest.fixture(scope="module", params=["whole", "sharded"])
def together(tiny_model: Path, data: Path, staged: list[str], request: pytest.FixtureRequest) -> tuple[Path, Ended]:
    out = data.with_name(request.param)
    sharded = {"ACCELERATE_USE_FSDP": "true"} if request.param == "sharded" else {}
    ended = two_processes(*command(tiny_model, data, out, *staged), **sharded)
    assert ended.status == 0, ended.err
    return out, ended


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["1-full", "2-lora"])
def test_two_processes_have_the_losses_of_one(together: tuple[Path, Ended], alone: Path, stage: str):
    two, one = (losses(lines_of(out / "stages" / stage / "metrics.jsonl")) for out in (together[0], alone))
    assert len(one) == STEPS
    assert max(one) - min(one) > 1e-3
    assert two == pytest.approx(one, abs=1e-5)


MEASURED = re.compile("per_second|memory")  # of the machine, not of the training


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["1-full", "2-lora"])
def test_two_processes_have_all_other_figures_of_one(together: tuple[Path, Ended], alone: Path, stage: str):
    for two, one in zip(
        *(lines_of(out / "stages" / stage / "metrics.jsonl") for out in (together[0], alone)), strict=True
    ):
        figures = [{k: v for k, v in line.items() if k != "stage" and not MEASURED.search(k)} for line in (two, one)]
        assert figures[0] == pytest.approx(figures[1], rel=1e-3, abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["1-full", "2-lora"])
def test_two_processes_come_to_the_weights_of_one(together: tuple[Path, Ended], alone: Path, stage: str):
    two, one = (weights(out / "stages" / stage / "policy") for out in (together[0], alone))
    assert {name: t.shape for name, t in two.items()} == {name: t.shape for name, t in one.items()}
    assert largest_difference(two, one) < 1e-5


@pytest.mark.slow
def test_two_processes_leave_the_files_that_one_leaves(together: tuple[Path, Ended], alone: Path):
    two, one = (sorted(p.relative_to(out) for p in out.rglob("*")) for out in (together[0], alone))
    assert two == one


@pytest.mark.slow
def test_one_of_two_processes_talks(together: tuple[Path, Ended]):
    lines = [json.loads(line) for line in together[1].out.splitlines()]
    assert [(line["stage"], line["step"]) for line in lines] == [
        (s, n) for s in ("full", "lora") for n in range(1, STEPS + 1)
    ]
    said = [line for line in together[1].err.splitlines() if "pairs of" in line or " steps on " in line]
    assert len(said) == 3  # the start of each stage, and the end


@pytest.mark.slow
def test_a_run_of_one_process_goes_on_with_accelerates_launcher(tiny_model: Path, tmp_path: Path):
    """Its checkpoint is put back into two processes."""
    unbroken = run(tiny_model, tmp_path / "unbroken", ROWS, **SETTINGS)
    with pytest.raises(Killed):
        run(tiny_model, tmp_path / "broken", ROWS, on_step=killed_after(4), **SETTINGS)
    launcher = [str(Path(sys.executable).with_name("accelerate")), "launch", "--multi_gpu", "--num_processes", "2"]
    launcher += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    launcher += ["--main_process_port", str(free_port()), "-m", "training.dpo"]
    arguments = command(tiny_model, tmp_path / "broken.jsonl", tmp_path / "broken", "--json", *options(SETTINGS))
    process = subprocess.Popen(
        [*launcher, *arguments],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    ended = finished(process)
    assert ended.status == 0, ended.err
    found = [json.loads(line) for line in ended.out.splitlines() if line.startswith("{")]
    assert [line["step"] for line in found] == [3, 4, 5]
    assert losses(found) == pytest.approx([step.loss for step in unbroken.metrics[2:]], abs=1e-5)
    assert largest_difference(weights(tmp_path / "broken" / "policy"), weights(unbroken.result.directory)) < 1e-5


@pytest.mark.slow
def test_a_sharded_run_that_was_killed_goes_on_in_one_process(tiny_model: Path, data: Path, tmp_path: Path):
    """The checkpoint of two processes holds whole weights and averages."""
    arguments = command(tiny_model, data, tmp_path / "out", *options({**SETTINGS, "epochs": 20}))
    process = start(*torchrun(*arguments, "--json"), environment={"ACCELERATE_USE_FSDP": "true"})
    for line in process.stdout:
        if json.loads(line)["step"] >= 5:
            break
    kill(process)
    assert (tmp_path / "out" / "checkpoint").exists()
    assert main(arguments) == 0
    unbroken = run(tiny_model, tmp_path / "unbroken", ROWS, **{**SETTINGS, "epochs": 20})
    found = lines_of(tmp_path / "out" / "metrics.jsonl")
    assert [line["step"] for line in found] == [step.step for step in unbroken.metrics]
    assert losses(found) == pytest.approx([step.loss for step in unbroken.metrics], abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("sharded", [False, True], ids=["whole", "sharded"])
def test_two_processes_keep_the_best_weights_of_one(tiny_model: Path, data: Path, tmp_path: Path, sharded: bool):
    """One evaluation, after the last step: the first process is still writing the best weights when the
    other is done with the step."""
    settings = {**SETTINGS, "epochs": 1, "eval_share": 0.3, "patience": 1}
    ended = two_processes(
        *command(tiny_model, data, tmp_path / "out", *options(settings)),
        **({"ACCELERATE_USE_FSDP": "true"} if sharded else {}),
    )
    assert ended.status == 0, ended.err
    one = run(tiny_model, tmp_path / "one", ROWS, **settings)
    assert largest_difference(weights(tmp_path / "out" / "policy"), weights(one.result.directory)) < 1e-5


@pytest.mark.slow
def test_bad_input_ends_two_processes(tiny_model: Path, tmp_path: Path):
    data = write_pairs(tmp_path / "pairs.jsonl", [])
    ended = two_processes(*command(tiny_model, data, tmp_path / "out"))
    assert ended.status != 0
    assert "training.dpo: pairs.jsonl holds no pair to train on." in ended.err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_port_that_is_taken_is_not_called_out_of_memory(tiny_model: Path, data: Path, tmp_path: Path):
    """As when two runs are started on one machine."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(taken.getsockname()[1])}
        process = start(
            "-m",
            "training.dpo",
            *command(tiny_model, data, tmp_path / "out"),
            environment={**place, "WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0"},
        )
        ended = finished(process)
    assert ended.status not in (0, 86)
    assert "Out of memory" not in ended.err


def test_the_backend_of_gpus_adds_up_figures_that_lie_on_the_cpu():
    """Sums of metrics are CPU tensors: a group of GPUs needs a backend for them, too."""
    import inspect

    from torch.distributed.distributed_c10d import Backend, BackendConfig

    from training.dpo import distributed, metrics

    assert metrics.Sums().values.device == torch.device("cpu")
    (chosen,) = {word for word in ("nccl", "cpu:gloo,cuda:nccl") if f'"{word}"' in inspect.getsource(distributed.join)}
    assert "cpu" in BackendConfig(Backend(chosen)).get_device_backend_map()
