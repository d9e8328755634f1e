"""The same pairs in the same order through TRL's DPOTrainer: the same losses, rewards and weights."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from generation.engines.loading import load_model, load_tokenizer
from tests.training.dpo.helpers import Run, largest_difference, pair, run
from training.dpo.data import optimizer_batches, read_pairs
from training.dpo.trainer import _schedule

pytestmark = pytest.mark.slow

ROWS = [pair(i) for i in range(12)]  # whole batches only: TRL's would go over the end of an epoch
BATCH, EPOCHS, STEPS, RATE, BETA, WARMUP, CLIP, SEED = 4, 2, 6, 3e-4, 0.3, 0.2, 1.0, 42


@dataclass(frozen=True)
class Both:
    ours: Run
    trl: Any
    trl_losses: list[float]  # unrounded


def batches_of(tokenizer: Any, data: Path) -> list[list[dict[str, str]]]:
    """The lines in the order in which our trainer takes them, batch by batch."""
    groups = read_pairs(data, tokenizer, max_tokens=2048).groups
    rows = {id(group): row for group, row in zip(groups, ROWS, strict=True)}
    epochs = [optimizer_batches(groups, BATCH, seed=SEED + epoch) for epoch in range(EPOCHS)]
    return [[rows[id(group)] for group in batch] for batches in epochs for batch in batches]


def trl_run(
    model_directory: Path, batches: list[list[dict[str, str]]], out: Path, loss: str
) -> tuple[Any, list[float]]:
    """TRL's trainer after its run over `batches`, and the loss of each step unrounded."""
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    losses: list[float] = []

    class Trainer(DPOTrainer):
        def compute_loss(self, *arguments: Any, **named: Any) -> Any:
            found = super().compute_loss(*arguments, **named)
            losses.append(found.item())
            return found

    model = load_model(model_directory).float()
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _schedule(step, STEPS, WARMUP))
    settings = DPOConfig(
        output_dir=str(out),
        per_device_train_batch_size=BATCH,
        num_train_epochs=1,
        max_length=None,
        beta=BETA,
        loss_type=[loss],
        max_grad_norm=CLIP,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        train_sampling_strategy="sequential",
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
    trainer = Trainer(
        model=model,
        args=settings,
        train_dataset=Dataset.from_list([row for batch in batches for row in batch]),
        processing_class=load_tokenizer(model_directory),
        optimizers=(optimizer, schedule),
    )
    trainer.train()
    return trainer, losses


@pytest.fixture(scope="module", params=["sigmoid", "sigmoid_norm"])
def both(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Both:
    folder = tmp_path_factory.mktemp("parity")
    settings = {"learning_rate": RATE, "beta": BETA, "warmup": WARMUP, "max_grad_norm": CLIP, "seed": SEED}
    ours = run(tiny_model, folder / "out", ROWS, batch_pairs=BATCH, epochs=EPOCHS, loss=request.param, **settings)
    batches = batches_of(load_tokenizer(tiny_model), folder / "out.jsonl")
    assert [len(batch) for batch in batches] == [BATCH] * STEPS
    return Both(ours, *trl_run(tiny_model, batches, folder / "trl", request.param))


def test_the_loss_of_each_step_is_that_of_trl(both: Both):
    assert [step.loss for step in both.ours.metrics] == pytest.approx(both.trl_losses, abs=1e-4)


@pytest.mark.parametrize(
    ("figure", "trl_figure"),
    [
        ("rewards_chosen", "rewards/chosen"),
        ("rewards_rejected", "rewards/rejected"),
        ("rewards_margins", "rewards/margins"),
        ("rewards_accuracies", "rewards/accuracies"),
        ("learning_rate", "learning_rate"),
    ],
)
def test_the_figures_of_each_step_are_those_of_trl(both: Both, figure: str, trl_figure: str):
    expected = [line[trl_figure] for line in both.trl.state.log_history if "loss" in line]
    assert len(expected) == STEPS
    assert [getattr(step, figure) for step in both.ours.metrics] == pytest.approx(expected, rel=1e-5, abs=1e-4)


def test_the_gradient_of_each_step_is_that_of_trl(both: Both):
    expected = [line["grad_norm"] for line in both.trl.state.log_history if "loss" in line]
    assert [step.grad_norm for step in both.ours.metrics] == pytest.approx(expected, rel=1e-4)


def test_the_gradient_was_clipped_in_some_steps(both: Both):
    """Otherwise the parity says nothing about clipping."""
    assert max(step.grad_norm for step in both.ours.metrics) > CLIP


def test_the_weights_after_the_last_step_are_those_of_trl(both: Both):
    ours = load_model(both.ours.result.directory).state_dict()
    assert largest_difference(ours, both.trl.model.state_dict()) < 1e-5
