"""The same pairs in the same order through TRL's DPOTrainer: the same losses, rewards and weights.

For every loss that both have, with all weights trained, with a new adapter, and with an adapter
that is trained further; by comparison (each story once through the model) and pair by pair, where
TRL has but the loose pairs.
"""

from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import torch

from generation.engines.loading import load_model, load_tokenizer
from tests.training.dpo.helpers import WORDS, Run, largest_difference, run, weights
from training.dpo.policy import load_policy
from training.dpo.settings import DPOSettings
from training.dpo.trainer import rate_factor

pytestmark = pytest.mark.slow

STORIES = (4, 3, 3, 4)  # of each prompt: batches of 6, 3 + 3 and 6 pairs, whole ones only
BATCH, EPOCHS, STEPS, BETA, WARMUP, CLIP, SEED = 6, 2, 6, 0.3, 0.2, 1.0, 42
RATES = {"full": 3e-4, "new adapter": 3e-3, "trained adapter": 3e-3}
BATCHINGS = ("comparison", "pair")


@dataclass(frozen=True)
class Case:
    """One loss, in our settings and in TRL's. level: the chosen stories have as many tokens as one another."""

    ours: dict[str, Any]
    trl: dict[str, Any] = field(default_factory=dict)
    level: bool = False


CASES = {
    "sigmoid": Case({"loss": "sigmoid"}, {"loss_type": ["sigmoid"]}),
    "robust": Case({"loss": "robust", "label_smoothing": 0.2}, {"loss_type": ["robust"], "label_smoothing": 0.2}),
    **{name: Case({"loss": name}, {"loss_type": [name]}) for name in ("ipo", "hinge", "sigmoid_norm")},
    **{name: Case({"loss": name}, {"loss_type": [name]}) for name in ("apo_zero", "apo_down")},
    "ld": Case({"ld_alpha": 0.5}, {"loss_type": ["sigmoid"], "ld_alpha": 0.5}),
    # TRL's SFT term is a mean over a batch's tokens, ours over its stories: the same where all are as long
    "sft": Case({"sft_weight": 0.5}, {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.5]}, level=True),
}


@dataclass(frozen=True)
class Both:
    ours: dict[str, Run]  # by batching
    trl: Any
    trl_losses: list[float]  # unrounded
    initial: dict[str, torch.Tensor]
    trl_weights: dict[str, torch.Tensor]

    def trl_figures(self, name: str) -> list[float]:
        return [line[name] for line in self.trl.state.log_history if "loss" in line]


def story(prompt: int, rank: int, *, level: bool) -> str:
    """The story at `rank` of its prompt. If level, every letter is a token, and all but the last have 9."""
    if level:
        letters = "BCDFGHJKLMNPQRSTVXYZ"
        count = 9 if rank < STORIES[prompt] - 1 else 5
        return "".join(letters[(7 * prompt + 3 * rank + i * (rank + 1)) % len(letters)] for i in range(count))
    return " ".join(WORDS[(5 * prompt + 2 * rank + i) % len(WORDS)] for i in range(3 + (prompt + 3 * rank) % 7))


def comparisons(*, level: bool) -> list[dict[str, Any]]:
    """Ranked stories, the best first."""
    return [
        {"prompt": f"Write story {i}.\n", "completions": [story(i, rank, level=level) for rank in range(count)]}
        for i, count in enumerate(STORIES)
    ]


def loose_pairs(rows: list[dict[str, Any]]) -> list[dict[str, str]]:
    return [
        {"prompt": row["prompt"], "chosen": better, "rejected": worse}
        for row in rows
        for better, worse in combinations(row["completions"], 2)
    ]


def trl_model(model: Path, adapter: Path | None) -> Any:
    from peft import PeftModel

    base = load_model(model).float()
    return PeftModel.from_pretrained(base, adapter, is_trainable=True) if adapter else base


def trained_weights(model: Any) -> dict[str, torch.Tensor]:
    """All weights, or those of the adapter under the names of its file."""
    from peft import PeftModel, get_peft_model_state_dict

    found = get_peft_model_state_dict(model) if isinstance(model, PeftModel) else model.state_dict()
    return {name: tensor.detach().clone() for name, tensor in found.items()}


def trl_run(directory: Path, model: Any, pairs: list[dict[str, str]], rate: float, options: dict[str, Any]) -> Any:
    """TRL's trainer after its run over `pairs`, as often as there are epochs, and the unrounded loss of each step."""
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    losses: list[float] = []

    class Trainer(DPOTrainer):
        def compute_loss(self, *arguments: Any, **named: Any) -> Any:
            found = super().compute_loss(*arguments, **named)
            losses.append(found.item())
            return found

    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=rate, weight_decay=0.0)
    settings = DPOSettings(warmup=WARMUP)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate_factor(step, STEPS, settings))
    config = DPOConfig(
        output_dir=str(directory.parent / "trl"),
        per_device_train_batch_size=BATCH,
        num_train_epochs=1,
        max_length=None,
        beta=BETA,
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
        **options,
    )
    trainer = Trainer(
        model=model,
        args=config,
        train_dataset=Dataset.from_list(pairs * EPOCHS),
        processing_class=load_tokenizer(directory),
        optimizers=(optimizer, schedule),
    )
    trainer.train()
    return trainer, losses


@pytest.fixture(scope="module")
def new_adapter(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The adapter that a run with this seed begins with: it changes nothing yet."""
    directory = tmp_path_factory.mktemp("adapter")
    torch.manual_seed(SEED)
    settings = DPOSettings(method="lora", lora_rank=4)
    load_policy(tiny_model, None, settings, torch.device("cpu")).save_pretrained(directory)
    return directory


@pytest.fixture(scope="module", params=RATES)
def method(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module", params=CASES)
def both(
    method: str,
    tiny_model: Path,
    new_adapter: Path,
    lora_run: Run,
    tmp_path_factory: pytest.TempPathFactory,
    request: pytest.FixtureRequest,
) -> Both:
    case, rate, folder = CASES[request.param], RATES[method], tmp_path_factory.mktemp("parity")
    trained = lora_run.result.directory if method == "trained adapter" else None
    rows = comparisons(level=case.level)
    ours = {
        batching: run(
            tiny_model, folder / batching, rows, adapter=trained, batching=batching, shuffle=False, epochs=EPOCHS,
            batch_pairs=BATCH, learning_rate=rate, beta=BETA, warmup=WARMUP, max_grad_norm=CLIP, seed=SEED,
            precision="fp32", method="full" if method == "full" else "lora", lora_rank=4, **case.ours,
        )
        for batching in BATCHINGS
    }  # fmt: skip
    begin = {"full": None, "new adapter": new_adapter, "trained adapter": trained}[method]
    model = trl_model(tiny_model, begin)
    initial = trained_weights(model)
    trainer, losses = trl_run(tiny_model, model, loose_pairs(rows), rate, case.trl)
    return Both(ours, trainer, losses, initial, trained_weights(trainer.model))


@pytest.mark.parametrize("batching", BATCHINGS)
def test_the_loss_of_each_step_is_that_of_trl(both: Both, batching: str):
    assert len(both.trl_losses) == STEPS
    assert [step.loss for step in both.ours[batching].metrics] == pytest.approx(both.trl_losses, rel=0, abs=1e-4)


@pytest.mark.parametrize("batching", BATCHINGS)
@pytest.mark.parametrize(
    ("figure", "trl_figure"),
    [
        ("rewards_chosen", "rewards/chosen"),
        ("rewards_rejected", "rewards/rejected"),
        ("rewards_margins", "rewards/margins"),
        ("rewards_accuracies", "rewards/accuracies"),
        ("logps_chosen", "logps/chosen"),
        ("logps_rejected", "logps/rejected"),
        ("learning_rate", "learning_rate"),
    ],
)
def test_the_figures_of_each_step_are_those_of_trl(both: Both, batching: str, figure: str, trl_figure: str):
    expected = both.trl_figures(trl_figure)
    assert len(expected) == STEPS
    found = [getattr(step, figure) for step in both.ours[batching].metrics]
    assert found == pytest.approx(expected, rel=1e-5, abs=1e-4)


@pytest.mark.parametrize("batching", BATCHINGS)
def test_the_gradient_of_each_step_is_that_of_trl(both: Both, batching: str):
    found = [step.grad_norm for step in both.ours[batching].metrics]
    assert found == pytest.approx(both.trl_figures("grad_norm"), rel=1e-3)


@pytest.mark.parametrize("batching", BATCHINGS)
def test_the_weights_after_the_last_step_are_those_of_trl(both: Both, batching: str, method: str):
    directory = both.ours[batching].result.directory
    found = load_model(directory).state_dict() if method == "full" else weights(directory)
    assert largest_difference(found, both.trl_weights) < 1e-4


def test_the_weights_have_moved_by_more_than_the_two_may_differ(both: Both):
    """Otherwise the parity says nothing about training."""
    assert largest_difference(both.initial, both.trl_weights) > 1e-3


@pytest.mark.parametrize("both", ["sigmoid"], indirect=True)
def test_the_gradient_was_clipped_in_some_steps(both: Both):
    """Otherwise the parity says nothing about clipping."""
    assert max(both.trl_figures("grad_norm")) > CLIP


def test_a_run_of_the_same_pairs_by_comparison_reads_fewer_tokens(both: Both):
    by_comparison, by_pair = (both.ours[batching].metrics[-1].num_tokens for batching in BATCHINGS)
    assert by_comparison < by_pair


def test_the_chosen_stories_of_the_sft_case_are_of_one_length(tiny_model: Path):
    """Otherwise TRL's SFT term is another than ours."""
    tokenizer = load_tokenizer(tiny_model)
    assert {len(tokenizer.encode(pair["chosen"])) for pair in loose_pairs(comparisons(level=True))} == {9}
