"""The training loop of one stage.

The reference is the model as it is before the first step (or another that is named): its
log-probabilities of all completions are computed once, so that no second model is held and it
cannot change.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from generation.engines.loading import load_model, load_tokenizer
from training.dpo import checkpoint
from training.dpo.data import BadData, Dataset, Group
from training.dpo.distributed import whole
from training.dpo.estimate import peak_allocated, peak_resident
from training.dpo.interrupt import Interrupted, asked_to_end
from training.dpo.linear import use_onednn
from training.dpo.logps import Scorer, scorer_for
from training.dpo.metrics import EvalMetrics, StepMetrics, Sums
from training.dpo.objective import Objective
from training.dpo.plan import Batch, batch_of, epochs, group_tokens, hold_out, micro_batches
from training.dpo.policy import load_policy, save_policy
from training.dpo.record import Result, write_record
from training.dpo.reference import ReferenceLogps, compute, distinct_groups, longest
from training.dpo.run import Keys, Run, keys
from training.dpo.settings import DPOSettings
from training.dpo.stops import TrainingFailed, check_finite, check_step_0, reason_to_stop

__all__ = ["Callbacks", "Result", "TrainingFailed", "train"]


@dataclass(frozen=True)
class Callbacks:
    """How a run tells of itself. Called in the first process alone."""

    on_start: Callable[[Dataset, int], None] = lambda dataset, done: None
    on_step: Callable[[StepMetrics], None] = lambda metrics: None
    on_eval: Callable[[EvalMetrics], None] = lambda metrics: None
    on_note: Callable[[str], None] = lambda note: None


@dataclass
class _State:
    """The parts of a run that its steps share."""

    run: Run
    keys: Keys
    model: Any
    optimizer: torch.optim.Optimizer
    objective: Objective
    plan: list[list[Batch]]
    held_out: Batch
    position: checkpoint.Position
    callbacks: Callbacks

    @property
    def steps(self) -> int:
        return sum(map(len, self.plan))

    @property
    def trained(self) -> list[torch.Tensor]:
        return [p for p in self.model.parameters() if p.requires_grad]


def train(run: Run, callbacks: Callbacks | None = None) -> Result:
    """Train a policy on pairs, as `run` says.

    Goes on from out/checkpoint if there is one, to the same result as an unbroken run. The result
    appears in out/policy, whole or not at all. Raises EngineError, BadData, BadSettings,
    BadCheckpoint, TrainingFailed; Interrupted on SIGTERM, with a checkpoint of the step that was under way.
    """
    callbacks = callbacks if callbacks and run.processes.first else Callbacks()
    run.check()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()  # what an earlier stage has left is free
    given, run = run, run.settled()
    torch.manual_seed(run.settings.seed)
    tokenizer = load_tokenizer(run.model)
    dataset = run.read(tokenizer)
    state = _start(run, dataset, tokenizer, callbacks)
    with asked_to_end(run.processes.count) as asked:
        for epoch, last, batch in _batches_to_do(state):
            if state.position.stopped:
                break
            _step(state, batch, epoch)
            _after_step(state, epoch, last=last)
            if asked():
                _save(state, "checkpoint")
                raise Interrupted(f"Ended after step {state.position.step}: the same command goes on from there.")
    if run.settings.patience:
        _restore_best(state)
    position = state.position
    result = Result(
        run.out / "policy", position.step, dataset.pairs, dataset.too_long, position.stopped, state.keys.run
    )
    _finish(state, tokenizer, result, given)
    return result


def _start(run: Run, dataset: Dataset, tokenizer: Any, callbacks: Callbacks) -> _State:
    settings, device = run.settings, run.processes.device()
    training, held_out = hold_out(dataset, settings.eval_share, settings.seed)
    limit = run.token_limit()
    plan = epochs(training, settings, max_tokens=limit)
    evaluation = batch_of(held_out, replace(settings, contrastive_weight=0.0), max_tokens=limit) if held_out else []
    found = keys(run)
    callbacks.on_start(dataset, checkpoint.position_of(run.out / "checkpoint", found.run).step)
    model = load_policy(run.model, run.adapter, settings, device)
    _check_vocabulary(dataset.groups, model)
    distinct = distinct_groups([*chain(*plan), evaluation], run.settings.micro_batch_tokens)
    probe = longest(distinct)
    scorer = _scorer(run, model, tokenizer, probe)
    if not scorer.packed:
        callbacks.on_note("this model's attention cannot share prompts: stories are padded, which is slower")
    objective = Objective(scorer, ReferenceLogps(), settings)
    callbacks.on_note(run.time_estimate(_seconds_a_token(scorer, probe), distinct, plan))
    _compute_reference(run, objective, distinct, tokenizer, probe, found.reference_file(run))
    run.processes.shard(model)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True)
    run.out.mkdir(parents=True, exist_ok=True)
    position = checkpoint.load(run.out / "checkpoint", model, optimizer, found.run)
    if not position.step and run.processes.first:
        checkpoint.remove(run.out / "best")  # of a run that was killed before its first checkpoint
    return _State(run, found, model, optimizer, objective, plan, evaluation, position, callbacks)


def _scorer(run: Run, model: Any, tokenizer: Any, probe: Group) -> Scorer:
    pad_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    return scorer_for(model, pad_id, probe, precision=run.precision(), fused=not run.processes.sharded)


def time_a_pass(run: Run, tokenizer: Any, group: Group) -> float:
    """Seconds a token of a forward pass on this machine, for an estimate."""
    model = load_policy(run.model, run.adapter, run.settings, run.processes.device())
    probe = longest([group])
    return _seconds_a_token(_scorer(run, model, tokenizer, probe), probe)


@torch.no_grad()
def _seconds_a_token(scorer: Scorer, group: Group) -> float:
    """Of a pass on what the scorer has been tried on: its kernels are compiled by now."""
    began = time.monotonic()
    sum(t.sum().item() for t in scorer.token_logps([group]))
    return (time.monotonic() - began) / group_tokens(group)


def _check_vocabulary(groups: list[Group], model: Any) -> None:
    size = model.get_input_embeddings().weight.shape[0]
    largest = max(max(ids) for g in groups for ids in (g.prompt_ids, *g.completions))
    if largest >= size:
        raise BadData(
            f"The data holds token id {largest}, but the model knows {size} tokens: it is another model's data."
        )


def _compute_reference(
    run: Run, objective: Objective, groups: list[Group], tokenizer: Any, probe: Group, path: Path
) -> None:
    """Read what an earlier run has kept, compute the rest, and keep it."""
    known, processes = objective.reference, run.processes
    known.read(path)
    missing = [group for group in groups if known.lacks(group)]
    if not missing:
        return
    scorer = objective.scorer
    if run.reference:
        other = load_model(run.reference, run.reference_adapter, exact=True).to(processes.device())
        _check_vocabulary(groups, other)
        if processes.device().type == "cpu":
            use_onednn(other)
        scorer = _scorer(run, other, tokenizer, probe)
    # a new adapter adds nothing yet: without it the reference is the same, and cheaper
    new = run.settings.method == "lora" and not run.adapter and not run.reference
    with scorer.model.disable_adapter() if new else nullcontext():
        mine = [group for group, _ in processes.mine(missing)]
        compute(known, mine, scorer.token_logps, run.settings.micro_batch_tokens)
    known.take(processes.gathered(known.found))
    if processes.first:
        known.write(path)
    processes.wait()


def _batches_to_do(state: _State) -> Iterator[tuple[float, bool, Batch]]:
    """(epochs so far after it, whether it is an epoch's last, batch) for each step still to be done."""
    done, number = state.position.step, 0
    for epoch, batches in enumerate(state.plan):
        for index, batch in enumerate(batches, start=1):
            number += 1
            if number > done:
                yield round(epoch + index / len(batches), 4), index == len(batches), batch


def _step(state: _State, batch: Batch, epoch: float) -> None:
    """One optimizer step on all pairs of `batch`: loss = sum(share * loss), however it is cut."""
    settings, processes = state.run.settings, state.run.processes
    began, step = time.monotonic(), state.position.step + 1
    rate = settings.learning_rate * rate_factor(step - 1, state.steps, settings)
    for part in state.optimizer.param_groups:
        part["lr"] = rate
    state.optimizer.zero_grad()
    sums = _pass(state, batch, backward=True)
    processes.gradients_added(state.model)
    limit = settings.max_grad_norm or float("inf")
    norm = whole(torch.nn.utils.clip_grad_norm_(state.trained, limit)).item()
    check_finite(sums["loss"], norm, step)
    if step == 1 and not state.run.reference:
        check_step_0(sums, bf16=state.objective.scorer.precision == "bf16")
    state.optimizer.step()
    seconds = time.monotonic() - began
    tokens = state.position.tokens + int(sums["tokens"])
    metrics = StepMetrics(
        **sums.means(),
        step=step,
        total_steps=state.steps,
        epoch=epoch,
        learning_rate=rate,
        grad_norm=norm,
        num_tokens=tokens,
        pairs_per_second=round(sum(term.weight > 0 for work in batch for term in work.terms) / seconds, 3),
        tokens_per_second=round(sums["tokens"] / seconds, 1),
        memory_resident=peak_resident(),
        memory_cuda=peak_allocated(processes.device()),
        stage=state.run.stage,
    )
    state.callbacks.on_step(metrics)
    state.position = replace(state.position, step=step, tokens=tokens, stopped=reason_to_stop(metrics, settings))


def _pass(state: _State, batch: Batch, *, backward: bool) -> Sums:
    """The batch through the model, this process's part of it; the figures of all processes."""
    run, sums = state.run, Sums()
    for part, counted in run.processes.mine(micro_batches(batch, run.settings.micro_batch_tokens)):
        loss = state.objective.loss(part, sums if counted else Sums())
        if backward:
            (loss * (run.processes.scale() if counted else 0.0)).backward()
    run.processes.add_up([sums.values])
    if not backward:
        run.processes.reshard(state.model)
    return sums


def _after_step(state: _State, epoch: float, *, last: bool) -> None:
    settings, step = state.run.settings, state.position.step
    due = step % settings.eval_steps == 0 if settings.eval_steps else last
    if state.held_out and (due or step == state.steps):
        _evaluate(state, epoch)
    if step % settings.checkpoint_steps == 0:
        _save(state, "checkpoint")


def _save(state: _State, name: str) -> None:
    checkpoint.save(state.run.out / name, state.model, state.optimizer, state.position, state.run.processes)


@torch.no_grad()
def _evaluate(state: _State, epoch: float) -> None:
    """The held-out pairs; the best weights so far are kept if the run may stop early."""
    position = state.position
    sums = _pass(state, state.held_out, backward=False)
    found, stories, tokens = sums.means(), int(sums["stories"]), int(sums["completion_tokens"])
    state.callbacks.on_eval(
        EvalMetrics(**found, step=position.step, epoch=epoch, stories=stories, tokens=tokens, stage=state.run.stage)
    )
    patience = state.run.settings.patience
    if math.isfinite(found["loss"]) and (position.best_loss is None or found["loss"] < position.best_loss):
        state.position = replace(position, best_loss=found["loss"], waited=0)
        if patience:
            _save(state, "best")
        return
    waited = position.waited + 1
    stopped = position.stopped
    if patience and waited >= patience:
        stopped = f"the held-out loss has not fallen in {waited} evaluations; the weights of the lowest are kept"
    state.position = replace(position, waited=waited, stopped=stopped)


def _restore_best(state: _State) -> None:
    state.run.processes.wait()  # the first may still be writing
    if (state.run.out / "best").exists():
        checkpoint.load(state.run.out / "best", state.model, state.optimizer, state.position.run)


def _finish(state: _State, tokenizer: Any, result: Result, given: Run) -> None:
    """Write the result, and take away what only a run that is under way needs."""
    run, model = state.run, state.model
    gathered = checkpoint.trained_weights(model, keep=run.processes.first) if run.processes.sharded else {}
    if run.processes.first:
        if gathered:
            model = load_policy(run.model, run.adapter, run.settings, torch.device("cpu"))
            checkpoint.put_back(model, gathered)
        save_policy(model, tokenizer, result.directory)
        write_record(given, result)
        for name in ("checkpoint", "best"):
            checkpoint.remove(run.out / name)
        if not run.cache:
            state.keys.reference_file(run).unlink(missing_ok=True)
    run.processes.wait()


def rate_factor(step: int, steps: int, settings: DPOSettings) -> float:
    """What the learning rate is multiplied with in step `step` (from 0): linear warm-up over the first
    share of steps, then constant, or down to a tenth in a line or half a cosine."""
    first = settings.warmup * steps
    if step < first:
        return (step + 1) / (first + 1)
    if settings.schedule == "constant":
        return 1.0
    share = min((step - first) / max(steps - first, 1), 1)
    return 1 - 0.9 * share if settings.schedule == "linear" else 0.1 + 0.45 * (1 + math.cos(math.pi * share))
