"""Working on a round that has been taken: freeze, train, write, open the comparisons.

Each phase can be done again after a kill: what is already there is found and kept.
"""

import hashlib
import json
import logging
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import transaction

from annotate.comparisons import open_evaluation_comparisons
from annotate.imports import NoTemplate
from annotate.pairs import NoPairs
from generation.engines import processes
from generation.engines.opening import TRANSFORMERS
from generation.engines.values import EngineError
from generation.heartbeat import beating
from generation.management.commands.write_stories import LOST_DATABASE
from generation.models import WritingRun
from generation.policies import register_policy
from generation.queues import TRAINING
from generation.runs import cancel_of_policy, missing_count
from generation.stores import single
from generation.stores.folders import at_hand
from generation.writers import announce_adapter
from training import ends
from training.alarms import check_alarms
from training.clearing import clear_away
from training.imported import freeze
from training.launching import TRAINER_SETTINGS, trainer_stages
from training.models import Round, RoundMetric, State
from training.rounds import LEASE, Lease, LeaseLost, end_round
from training.selection import BadSelection, Selection
from training.sight import NotVisible, check_sight
from training.steps import counted_on, metric_files, read_lines

log = logging.getLogger(__name__)

HEARTBEAT = 1.0  # seconds
SAVING = 120.0  # seconds that a trainer which is cancelled has for its step and its checkpoint
SHOWN_EVERY = 10.0  # seconds between looks of other machines at a log
LOG_BYTES = 16_384
KILLS_IN_PLACE = 3  # of a trainer or writer that does not get on between them
METRICS = [field.name for field in RoundMetric._meta.concrete_fields if field.name not in ("id", "round", "step")]


class Ended(Exception):
    """The round cannot go on: an ordinary end, with its state and a message for a person."""

    def __init__(self, state: State, message: str) -> None:
        super().__init__(message)
        self.state = state
        self.message = message


class Killed(Ended):
    """The process was killed, or has lost its database: begun again, it goes on from where it was."""


def work_on(lease: Lease, *, queue: str = "") -> bool:
    """Take the round from where it stands to being judged, or to its end.

    queue: do that queue's part alone. True: it is done, and the round waits for the workers of another.
    """
    try:
        return _worked_on(lease, queue)
    except LeaseLost:
        log.warning("round %s: another process has it now", lease.round_id)
        return False


def _worked_on(lease: Lease, queue: str) -> bool:
    try:
        if lease.cancel_requested():
            raise Ended(State.CANCELLED, ends.said("cancelled"))
        with _kept_alive(lease):  # it may fetch
            check_sight(_round(lease))
        for phase in (_freeze, _train) if queue == TRAINING else (_freeze, _train, _write, _watch):
            with _kept_alive(lease):
                phase(_round(lease), lease)
        if queue == TRAINING:
            if lease.hand_over(State.WRITING):
                return True
            raise Ended(State.CANCELLED, ends.said("cancelled"))
        _compare(_round(lease), lease)
    except Ended as end:
        end_round(lease, end.state, end.message)
    except (NoPairs, NoTemplate, BadSelection, NotVisible, EngineError) as error:
        end_round(lease, State.FAILED, ends.of_error(error))
    except OSError as error:
        at = _round(lease)
        folder = at.folder if at.export_path else Path(settings.EXPORT_DIR)
        end_round(lease, State.FAILED, ends.of_os_error(error, folder))
    return False


def _round(lease: Lease) -> Round:
    return Round.objects.select_related("policy", "result").get(pk=lease.round_id)


def _kept_alive(lease: Lease) -> AbstractContextManager[None]:
    """Renew the lease beside what does not: freezing many pairs, or hashing large weights."""
    return beating(lease.update, LEASE.total_seconds() / 6, until=(LeaseLost,))


def _freeze(current: Round, lease: Lease) -> None:
    """The pairs as they are now, in a file that never changes: path, count and SHA-256 on the round."""
    if current.export_path:
        return
    lease.update(state=State.FREEZING)
    selection = Selection.of(current.selection, simulated=current.include_simulated)
    path = settings.EXPORT_DIR / f"{current.folder.name}.jsonl"
    export = freeze(selection, current.policy, path)
    single.put(export.path)
    lease.update(export_path=str(export.path), export_sha256=export.sha256, pair_count=export.count)


def _train(current: Round, lease: Lease) -> None:
    if current.result:
        return
    lease.update(state=State.TRAINING, done=0, total=0)
    clear_away()
    out = current.folder
    with at_hand(map(Path, _read_in_training(current))):
        _train_here(current, lease, out)
    name = f"round-{current.number}"
    if current.method == "lora":
        policy = register_policy(name=name, path=out / "merged", adapter_path=out / "policy", parent=current.policy)
    else:
        policy = register_policy(name=name, path=out / "policy", parent=current.policy)
    lease.update(result=policy)


def _read_in_training(current: Round) -> list[str]:
    """Folders of the policies that the trainer loads."""
    return [current.policy.path, *([current.policy.lineage()[-1].path] if current.reference == "base" else [])]


def _train_here(current: Round, lease: Lease, out: Path) -> None:
    """Train, and merge an adapter, in processes of this machine."""
    _check_export(current)
    result = out / "policy"
    if not result.exists():
        ends.require_whole_weights(current.policy)
        keep = partial(_keep_metrics, current, lease, out)
        train = partial(_run, lease, trainer_command(current, out), out / "trainer.log", keep)
        _again_if_killed(train, partial(_position, out))
    _keep_missed_metrics(current, out)
    for path in filter(Path.exists, metric_files(current, out)):
        single.put(path)
    if current.method == "lora":
        _announce(current, result)
        _merged(lease, current, out)


def _announce(current: Round, adapter: Path) -> None:
    """The servers have the adapter before its weights are merged for the next round."""
    begin = time.monotonic()
    if servers := announce_adapter(parent=current.policy, adapter=adapter):
        log.info(
            "round %s: its adapter is on %d vLLM servers, %.2f s after training",
            current.number,
            servers,
            time.monotonic() - begin,
        )


def _check_export(current: Round) -> None:
    with single.get(Path(current.export_path), sha256=current.export_sha256).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != current.export_sha256:
        raise Ended(State.FAILED, ends.said("pairs_changed", path=current.export_path))


def trainer_command(current: Round, out: Path) -> list[str]:
    command = [sys.executable, "-m", "training.dpo", "--json"]
    command += ["--model", current.policy.path, "--data", current.export_path, "--out", str(out)]
    for name in TRAINER_SETTINGS:
        command += [f"--{name.replace('_', '-')}", str(getattr(current, name))]
    if current.reference == "base":
        command += ["--reference", _read_in_training(current)[-1]]
    if current.stages:
        out.mkdir(parents=True, exist_ok=True)
        config = out / "stages.json"
        config.write_text(json.dumps({"stages": trainer_stages(current.stages)}))
        command += ["--config", str(config)]
    return command


def _merged(lease: Lease, current: Round, out: Path) -> None:
    directory = out / "merged"
    if not directory.exists():
        command = [sys.executable, "-m", "training.dpo.merge", current.policy.path, str(out / "policy"), str(directory)]
        merge = partial(_run, lease, command, out / "trainer.log", lambda line: None)
        _again_if_killed(merge, directory.exists)


def _keep_metrics(current: Round, lease: Lease, out: Path, line: str) -> None:
    found = counted_on(current, out, json.loads(line))
    progress = {"done": found["step"], "total": found["total_steps"]} if "total_steps" in found else {}
    lease.update(**progress)  # before the row: who has lost the round writes nothing
    _keep_metric(current, found)
    if "eval_loss" in found:
        check_alarms(checked=current)  # those of held-out stories: no reason to wait for the end


def _keep_metric(current: Round, line: dict[str, Any]) -> None:
    """A line of the trainer under the columns' names: rewards/chosen and eval_rewards/chosen are TRL's."""
    held_out = "eval_loss" in line
    found = {name.removeprefix("eval_").replace("/", "_"): value for name, value in line.items()}
    values = {name: found[name] for name in METRICS if name in found}
    RoundMetric.objects.update_or_create(round=current, step=found["step"], held_out=held_out, defaults=values)


def _keep_missed_metrics(current: Round, out: Path) -> None:
    """Lines that the trainer wrote while nobody listened: the process here may have died at the end."""
    known = set(current.metrics.values_list("step", "held_out"))
    for line in chain.from_iterable(map(read_lines, metric_files(current, out))):
        found = counted_on(current, out, line)
        if (found["step"], "eval_loss" in found) not in known:
            _keep_metric(current, found)


def _write(current: Round, lease: Lease) -> None:
    """The new policy writes stories for the same prompts, in a process of its own.

    The policies that it is compared with write what they lack: prompts may have been imported since.
    """
    assert current.result is not None
    for policy in dict.fromkeys((current.result, *current.baselines())):
        if policy.weights_deleted_at:
            continue  # it is compared by the stories that it has
        lease.update(state=State.WRITING, done=0, total=0)
        if settings.ENGINE == TRANSFORMERS and missing_count(policy, settings.STORIES_PER_PROMPT):
            ends.require_whole_weights(policy)
        command = [sys.executable, "manage.py", "write_stories", "--policy", policy.name, "--json"]
        log_path = current.folder / "writer.log"
        others = WritingRun.objects.at_work().filter(policy=policy).exists()
        try:
            keep = partial(_keep_progress, lease, note=policy == current.result)
            _again_if_killed(partial(_run, lease, command, log_path, keep), policy.stories.count)
        except Ended as end:
            if end.state == State.CANCELLED and not others:
                cancel_of_policy(policy)
            raise


def _keep_progress(lease: Lease, line: str, *, note: bool) -> None:
    found = json.loads(line)
    said = {"message": ends.of_writing(found)} if found["note"] and note else {}
    lease.update(done=found["done"], total=found["wanted"], **said)


@transaction.atomic
def _watch(current: Round, lease: Lease) -> None:
    """What went too far is known before anybody judges. It holds nothing up: experts may see what figures do not."""
    lease.update()
    check_alarms(checked=current)


@transaction.atomic
def _compare(current: Round, lease: Lease) -> None:
    """Blind comparisons of new against old, and against the base, go into the same queue.

    In one transaction with the lease: a process that was given up for dead opens none.
    """
    assert current.result is not None
    lease.update()
    if lease.cancel_requested():
        raise Ended(State.CANCELLED, ends.said("cancelled"))
    for baseline in current.baselines():
        open_evaluation_comparisons(policy=current.result, baseline=baseline)
    if not current.result.comparisons.exists():
        raise Ended(State.FAILED, ends.said("nothing_to_compare"))
    lease.update(state=State.JUDGING)


def _again_if_killed(act: Callable[[], None], position: Callable[[], object]) -> None:
    """`act` once more whenever its process is killed, unless it got no further than the last time. Raises Ended.

    Out of memory is killed in the same place each time; what another process or a person has killed is not.
    """
    kills, reached = 0, position()
    while True:
        try:
            return act()
        except Killed as end:
            kills, before, reached = kills + 1, reached, position()
            if reached != before:
                kills = 1
            if kills == KILLS_IN_PLACE:
                raise
            log.warning("begun again after kill %d at %s: %s", kills, reached, end)


def _position(out: Path) -> str:
    """How far the trainer has come, as its checkpoints say, those of its stages too; "" before the first."""
    found = [*out.glob("checkpoint/position.json"), *sorted(out.glob("stages/*/checkpoint/position.json"))]
    over = sorted(out.glob("stages/*/policy"))
    return " ".join([*map(str, over), *(path.read_text() for path in found)])


def _run(lease: Lease, command: Sequence[str], path: Path, on_line: Callable[[str], None]) -> None:
    """Run `command` while keeping the lease; give each line it prints to `on_line`. Raises Ended."""
    environment = {"STORYLOOP_ROUND_ID": str(lease.round_id)}  # its lines say which round they belong to
    process = processes.start(command, log=path, directory=settings.BASE_DIR, capture=True, environment=environment)
    shown = time.monotonic()
    lines: queue.Queue[str | None] = queue.Queue()
    reader = threading.Thread(target=_read, args=(process.stdout, lines), daemon=True)
    reader.start()
    try:
        while (line := _next(lines)) is not None:
            if line:
                on_line(line)
            else:
                lease.update()
            if time.monotonic() - shown > SHOWN_EVERY:
                single.put_tail(path, LOG_BYTES)
                shown = time.monotonic()
            if lease.cancel_requested():
                processes.stop(process, grace=SAVING)
                raise Ended(State.CANCELLED, ends.said("cancelled"))
        status = process.wait()
    except LeaseLost:
        processes.stop(process, grace=0)  # it must not write a checkpoint beside the one who has the round now
        raise
    finally:
        processes.stop(process)
        single.put_tail(path, LOG_BYTES)
    if status != 0:
        kind = Killed if status in (-signal.SIGKILL, LOST_DATABASE) else Ended
        raise kind(State.FAILED, ends.of_process(status, path))


def _read(pipe: Sequence[str] | None, lines: "queue.Queue[str | None]") -> None:
    try:
        for line in pipe or ():
            lines.put(line)
    except ValueError:  # the pipe was closed by processes.stop
        pass
    lines.put(None)


def _next(lines: "queue.Queue[str | None]") -> str | None:
    """The next line; "" after a HEARTBEAT without one; None at the end."""
    try:
        return lines.get(timeout=HEARTBEAT)
    except queue.Empty:
        return ""
