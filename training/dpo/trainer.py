"""The training loop.

The reference is the model as it is before the first step: its log-probabilities of all
completions are computed once, so that no second model is held and it cannot change.
"""

import dataclasses
import hashlib
import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from generation.engines.loading import context_length, load_model, load_tokenizer
from generation.engines.values import weights_hash
from training.dpo import checkpoint
from training.dpo.data import BadData, Dataset, Group, micro_batches, optimizer_batches, read_pairs
from training.dpo.logps import completion_lengths, completion_logps
from training.dpo.losses import PairLogps, dpo_loss, sft_loss
from training.dpo.settings import DPOSettings


class TrainingFailed(RuntimeError):
    """Training ended without a result; the message says why and what to do."""


@dataclass(frozen=True)
class StepMetrics:
    """One optimizer step. Names as in TRL: rewards are beta * log(pi/ref), averaged over pairs by weight.

    kl: mean over the step's completions of log ref - log pi, in nats a story; an estimate of
    KL(ref || pi) where the reference wrote them.
    """

    step: int
    total_steps: int
    epoch: float
    loss: float
    rewards_chosen: float
    rewards_rejected: float
    rewards_margins: float
    rewards_accuracies: float
    kl: float
    learning_rate: float
    grad_norm: float


@dataclass(frozen=True)
class Result:
    """What a run made: `directory` holds full weights, or a PEFT adapter if method is "lora"."""

    directory: Path
    steps: int
    pairs: int
    too_long: int


@dataclass
class _Run:
    """The parts of a run that its steps share."""

    model: Any
    optimizer: torch.optim.Optimizer
    settings: DPOSettings
    pad_id: int
    reference: dict[int, torch.Tensor]  # id(group) -> log-probabilities [completions]
    steps: int


def train(
    *,
    model_directory: Path,
    adapter: Path | None,
    data: Path,
    out: Path,
    settings: DPOSettings,
    on_start: Callable[[Dataset, int], None] = lambda dataset, steps: None,
    on_step: Callable[[StepMetrics], None] = lambda metrics: None,
) -> Result:
    """Train the policy in `model_directory` (with `adapter`, if any) on the pairs in `data`.

    Goes on from out/checkpoint if there is one, to the same result as an unbroken run. The result
    appears in out/policy, whole or not at all. Raises EngineError, BadData, BadCheckpoint,
    TrainingFailed.
    """
    torch.manual_seed(settings.seed)
    tokenizer = load_tokenizer(model_directory)
    dataset = read_pairs(data, tokenizer, max_tokens=min(settings.max_tokens, context_length(model_directory)))
    run = _start(model_directory, adapter, dataset, tokenizer, settings)
    out.mkdir(parents=True, exist_ok=True)
    key = _run_key(model_directory, adapter, data, settings)
    done = checkpoint.load(out / "checkpoint", run.model, run.optimizer, key)
    on_start(dataset, done)
    step = 0
    for epoch, batches in enumerate(_epochs(dataset, settings)):
        for index, batch in enumerate(batches, start=1):
            step += 1
            if step <= done:
                continue
            on_step(_step(run, batch, step, epoch + index / len(batches)))
            if step % settings.checkpoint_steps == 0:
                checkpoint.save(out / "checkpoint", run.model, run.optimizer, checkpoint.Position(step, key))
    directory = _save(run.model, tokenizer, out / "policy")
    checkpoint.remove(out / "checkpoint")
    return Result(directory, step, dataset.pairs, dataset.too_long)


def _start(
    model_directory: Path, adapter: Path | None, dataset: Dataset, tokenizer: Any, settings: DPOSettings
) -> _Run:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = load_model(model_directory, adapter).float().to(device)
    _check_vocabulary(dataset, model.get_input_embeddings().num_embeddings)
    pad_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    reference = {id(g): _reference_logps(model, g, pad_id) for g in dataset.groups}
    if settings.method == "lora":
        model = _with_lora(model, settings)
    trained = [p for p in model.parameters() if p.requires_grad]
    return _Run(
        model=model.eval(),  # no dropout: policy and reference must agree before the first step
        optimizer=torch.optim.AdamW(trained, lr=settings.learning_rate, weight_decay=0.0),
        settings=settings,
        pad_id=pad_id,
        reference=reference,
        steps=sum(map(len, _epochs(dataset, settings))),
    )


def _epochs(dataset: Dataset, settings: DPOSettings) -> list[list[list[Group]]]:
    """The batches of each epoch; their number can differ, since a prompt's pairs stay together."""
    seeds = range(settings.seed, settings.seed + settings.epochs)
    return [optimizer_batches(dataset.groups, settings.batch_pairs, seed=seed) for seed in seeds]


def _check_vocabulary(dataset: Dataset, size: int) -> None:
    largest = max(max(ids) for g in dataset.groups for ids in (g.prompt_ids, *g.completions))
    if largest >= size:
        raise BadData(
            f"The data holds token id {largest}, but the model knows {size} tokens: it is another model's data."
        )


@torch.no_grad()
def _reference_logps(model: Any, group: Group, pad_id: int) -> torch.Tensor:
    return completion_logps(model, [group], pad_id).cpu()


def _with_lora(model: Any, settings: DPOSettings) -> Any:
    from peft import LoraConfig, get_peft_model

    return get_peft_model(
        model,
        LoraConfig(
            r=settings.lora_rank,
            lora_alpha=2 * settings.lora_rank,
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        ),
    )


def _step(run: _Run, batch: list[Group], step: int, epoch: float) -> StepMetrics:
    """One optimizer step on all pairs of `batch`: loss = sum(w * l) / sum(w), however it is cut."""
    settings = run.settings
    rate = settings.learning_rate * _schedule(step - 1, run.steps, settings.warmup)
    for part in run.optimizer.param_groups:
        part["lr"] = rate
    total = sum(pair.weight for group in batch for pair in group.pairs)
    sums = dict.fromkeys(("loss", "chosen", "rejected", "correct"), 0.0)
    kl: list[float] = []
    run.optimizer.zero_grad()
    for groups in micro_batches(batch, settings.micro_batch_stories):
        logps, weights = _pair_logps(run, groups, kl)
        found = dpo_loss(logps, beta=settings.beta, loss=settings.loss)
        losses = found.losses + settings.sft_weight * sft_loss(logps) if settings.sft_weight else found.losses
        share = (weights * losses).sum() / total
        share.backward()
        sums["loss"] += share.item()
        sums["chosen"] += (weights * found.chosen_rewards).sum().item() / total
        sums["rejected"] += (weights * found.rejected_rewards).sum().item() / total
        sums["correct"] += (weights * (found.chosen_rewards > found.rejected_rewards)).sum().item() / total
    norm = torch.nn.utils.clip_grad_norm_(
        [p for p in run.model.parameters() if p.requires_grad], settings.max_grad_norm or float("inf")
    )
    if not (math.isfinite(sums["loss"]) and torch.isfinite(norm)):
        what = "loss" if not math.isfinite(sums["loss"]) else "gradient"
        raise TrainingFailed(
            f"The {what} became {sums['loss'] if what == 'loss' else norm.item()} at step {step}. Try a lower "
            "learning rate or a higher beta, in a new output directory."
        )
    run.optimizer.step()
    return StepMetrics(
        step=step,
        total_steps=run.steps,
        epoch=round(epoch, 4),
        loss=sums["loss"],
        rewards_chosen=sums["chosen"],
        rewards_rejected=sums["rejected"],
        rewards_margins=sums["chosen"] - sums["rejected"],
        rewards_accuracies=sums["correct"],
        kl=sum(kl) / len(kl),
        learning_rate=rate,
        grad_norm=norm.item(),
    )


def _pair_logps(run: _Run, groups: list[Group], kl: list[float]) -> tuple[PairLogps, torch.Tensor]:
    """Each distinct story once through the model; then the pairs are picked from those numbers."""
    policy = completion_logps(run.model, groups, run.pad_id)
    reference = torch.cat([run.reference[id(g)] for g in groups]).to(policy.device)
    lengths = completion_lengths(groups).to(policy.device)
    kl += (reference - policy.detach()).tolist()
    chosen, rejected, weights, offset = [], [], [], 0
    for group in groups:
        chosen += [offset + pair.chosen for pair in group.pairs]
        rejected += [offset + pair.rejected for pair in group.pairs]
        weights += [pair.weight for pair in group.pairs]
        offset += len(group.completions)
    logps = PairLogps(
        policy[chosen], policy[rejected], reference[chosen], reference[rejected], lengths[chosen], lengths[rejected]
    )
    return logps, torch.tensor(weights, device=policy.device)


def _schedule(step: int, steps: int, warmup: float) -> float:
    """Linear warm-up over the first share of steps, then a half cosine to a tenth of the rate."""
    first = warmup * steps
    if step < first:
        return (step + 1) / (first + 1)
    return 0.1 + 0.45 * (1 + math.cos(math.pi * min((step - first) / max(steps - first, 1), 1)))


def _run_key(model_directory: Path, adapter: Path | None, data: Path, settings: DPOSettings) -> str:
    """What a checkpoint belongs to. How a batch is cut and when it is saved do not change the result."""
    weights = weights_hash(*[d for d in (model_directory, adapter) if d])
    fixed = dataclasses.replace(settings, micro_batch_stories=2, checkpoint_steps=1)
    return hashlib.sha256(f"{weights}{fixed.to_json()}".encode() + data.read_bytes()).hexdigest()


def _save(model: Any, tokenizer: Any, directory: Path) -> Path:
    temporary = directory.with_name(directory.name + ".new")
    shutil.rmtree(temporary, ignore_errors=True)
    model.save_pretrained(temporary, safe_serialization=True)
    tokenizer.save_pretrained(temporary)
    checkpoint.sync(temporary)
    shutil.rmtree(directory, ignore_errors=True)
    temporary.rename(directory)
    return directory
