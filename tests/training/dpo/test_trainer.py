"""The steps of a run and their figures, against figures worked out naively."""

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from generation.engines.loading import load_model, load_tokenizer
from tests.training.dpo.helpers import Run, changed_model, largest_difference, naive_logp, pair, run, weights
from tests.training.dpo.naive import tied_model, worked_out

ROWS = [pair(i) for i in range(10)]
RANKED = [  # three stories of one prompt, ranked: three pairs of three stories
    pair(chosen="The fox came home.", rejected="fox fox", weight=1.0),
    pair(chosen="The fox came home.", rejected="the", weight=0.5),
    pair(chosen="fox fox", rejected="the", weight=2.0),
]
METHODS = pytest.mark.parametrize("method", ["full", "lora"])


@pytest.fixture(scope="module")
def tied(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tied_model(tiny_model, tmp_path_factory.mktemp("tied") / "model")


# -- the first step


@METHODS
@pytest.mark.parametrize("loss", ["sigmoid", "sigmoid_norm"])
def test_loss_of_the_first_step_is_ln_2(tiny_model: Path, tmp_path: Path, method: str, loss: str):
    first = run(tiny_model, tmp_path / "out", ROWS, method=method, loss=loss, epochs=1).metrics[0]
    assert first.loss == pytest.approx(math.log(2), abs=1e-5)


@METHODS
def test_kl_and_rewards_of_the_first_step_are_nothing(tiny_model: Path, tmp_path: Path, method: str):
    first = run(tiny_model, tmp_path / "out", ROWS, method=method, epochs=1).metrics[0]
    assert (first.kl, first.rewards_chosen, first.rewards_rejected) == pytest.approx((0, 0, 0), abs=1e-4)


@METHODS
def test_dropout_is_off(tiny_model: Path, tmp_path: Path, method: str):
    model = changed_model(tiny_model, tmp_path / "model", attention_dropout=0.5)
    first = run(model, tmp_path / "out", ROWS, method=method, epochs=1).metrics[0]
    assert first.loss == pytest.approx(math.log(2), abs=1e-5)


# -- the reference


@pytest.mark.parametrize("loss", ["sigmoid", "sigmoid_norm"])
@pytest.mark.parametrize("fixture", ["tiny_model", "tied"])
def test_rewards_are_against_the_untouched_model(
    fixture: str, loss: str, tmp_path: Path, request: pytest.FixtureRequest
):
    """The third step's policy is in the checkpoint after the second; its figures are worked out here anew."""
    model, states = request.getfixturevalue(fixture), []

    def keep_policy(metrics: Any) -> None:
        if metrics.step == 3:
            states.append(load_file(tmp_path / "out" / "checkpoint" / "state.safetensors"))

    rows = RANKED + ROWS
    settings = {"learning_rate": 1e-3, "epochs": 3, "batch_pairs": 99, "checkpoint_steps": 1, "loss": loss}
    found = run(model, tmp_path / "out", rows, on_step=keep_policy, **settings).metrics[2]
    reference, policy = load_model(model), load_model(model)
    names = [name for name in states[0] if name.startswith("weight.")]
    policy.load_state_dict({name.removeprefix("weight."): states[0][name] for name in names}, strict=False)
    expected = worked_out(policy, reference, load_tokenizer(model), rows, beta=0.2, norm=loss == "sigmoid_norm")
    assert [getattr(found, name) for name in expected] == pytest.approx(list(expected.values()), abs=1e-4)


def test_kl_counts_each_distinct_story_once(tiny_model: Path, tmp_path: Path):
    """RANKED names three stories twice each; the figure is the mean of their three log(ref/pi)."""
    settings = {"learning_rate": 1e-2, "epochs": 2, "batch_pairs": 99, "warmup": 0.0}
    found = run(tiny_model, tmp_path / "out", RANKED, **settings)
    after_one_step = run(tiny_model, tmp_path / "one", RANKED, **{**settings, "epochs": 1}).result.directory
    reference, policy, tokenizer = load_model(tiny_model), load_model(after_one_step), load_tokenizer(tiny_model)
    prompt, ratios = tokenizer.encode(RANKED[0]["prompt"]), []
    for text in ("The fox came home.", "fox fox", "the"):
        story = [*tokenizer.encode(text), tokenizer.eos_token_id]
        ratios.append(naive_logp(reference, prompt, story) - naive_logp(policy, prompt, story))
    assert found.metrics[1].kl == pytest.approx(sum(ratios) / 3, abs=1e-3)


# -- the steps


@METHODS
def test_margin_of_a_separable_pair_rises(tiny_model: Path, tmp_path: Path, method: str):
    found = run(tiny_model, tmp_path / "out", ROWS[:1], method=method, learning_rate=1e-3, epochs=20).metrics
    assert all(later.rewards_margins > earlier.rewards_margins for earlier, later in pairwise(found))


def test_the_trained_policy_prefers_the_chosen_to_the_rejected(tiny_model: Path, tmp_path: Path):
    """Were the two swapped somewhere, margins and policy would part ways."""
    row = pair(prompt="Write.\n", chosen="A fox.", rejected="No fox")
    out = run(tiny_model, tmp_path / "out", [row], learning_rate=1e-2, epochs=10).result.directory
    policy, tokenizer = load_model(out), load_tokenizer(tiny_model)
    prompt, chosen, rejected = (tokenizer.encode(row[name]) for name in ("prompt", "chosen", "rejected"))
    assert naive_logp(policy, prompt, chosen) > naive_logp(policy, prompt, rejected) + 10


@METHODS
def test_the_result_does_not_depend_on_micro_batches(tiny_model: Path, tmp_path: Path, method: str):
    """Eleven pairs by four: the last step is a short one; RANKED is one group of three pairs."""
    settings = {"method": method, "batch_pairs": 4, "epochs": 2, "learning_rate": 1e-4}
    small = run(tiny_model, tmp_path / "2", RANKED + ROWS[1:9], micro_batch_tokens=1, **settings)
    large = run(tiny_model, tmp_path / "32", RANKED + ROWS[1:9], micro_batch_tokens=4096, **settings)
    assert largest_difference(weights(small.result.directory), weights(large.result.directory)) < 1e-5


def test_the_figures_do_not_depend_on_micro_batches(tiny_model: Path, tmp_path: Path):
    settings = {"batch_pairs": 99, "epochs": 2, "learning_rate": 1e-3, "sft_weight": 0.5}
    small, large = (
        run(tiny_model, tmp_path / str(size), RANKED + ROWS, micro_batch_tokens=size, **settings).metrics[1]
        for size in (1, 4096)
    )
    figures = [{name: value for name, value in vars(step).items() if name != "stage"} for step in (small, large)]
    assert figures[0] == pytest.approx(figures[1], rel=1e-4, abs=1e-5)


def test_the_sft_term_is_the_chosen_stories_nats_a_token_averaged_by_weight(tiny_model: Path, tmp_path: Path):
    # at the first step the DPO term is ln 2; weights 3 and 1: ln 2 + 0.5 * (3 * a + 1 * b) / 4
    rows = [{**ROWS[0], "weight": 3.0}, {**ROWS[1], "weight": 1.0}]
    model, tokenizer, nats = load_model(tiny_model), load_tokenizer(tiny_model), []
    for row in rows:
        story = [*tokenizer.encode(row["chosen"]), tokenizer.eos_token_id]
        nats.append(-naive_logp(model, tokenizer.encode(row["prompt"]), story) / len(story))
    found = run(tiny_model, tmp_path / "out", rows, sft_weight=0.5, epochs=1).metrics[0]
    assert found.loss == pytest.approx(math.log(2) + 0.5 * (3 * nats[0] + nats[1]) / 4, abs=1e-5)


def test_a_pair_of_weight_two_counts_as_much_as_the_pair_given_twice(tiny_model: Path, tmp_path: Path):
    settings = {"epochs": 2, "learning_rate": 1e-3}
    heavy = run(tiny_model, tmp_path / "heavy", [{**ROWS[0], "weight": 2.0}, ROWS[1]], **settings)
    twice = run(tiny_model, tmp_path / "twice", [ROWS[0], ROWS[0], ROWS[1]], **settings)
    assert largest_difference(weights(heavy.result.directory), weights(twice.result.directory)) < 1e-5


def test_weights_count_against_each_other_only(tiny_model: Path, tmp_path: Path):
    settings = {"epochs": 2, "learning_rate": 1e-3, "batch_pairs": 4}
    halves = run(tiny_model, tmp_path / "halves", [{**row, "weight": 0.5} for row in ROWS], **settings)
    wholes = run(tiny_model, tmp_path / "wholes", ROWS, **settings)
    assert largest_difference(weights(halves.result.directory), weights(wholes.result.directory)) < 1e-5


def test_a_pair_of_little_weight_moves_the_policy_little(tiny_model: Path, tmp_path: Path):
    """Two pairs that contradict each other: the heavier wins."""
    said = pair(chosen="A fox.", rejected="No fox.", weight=0.1)
    unsaid = pair(chosen="No fox.", rejected="A fox.", weight=1.0)
    last = run(tiny_model, tmp_path / "out", [said, unsaid], epochs=5, learning_rate=1e-3).metrics[-1]
    assert last.rewards_accuracies == pytest.approx(1 / 1.1, abs=1e-6)


def test_the_rate_rises_to_its_full_height_and_falls_to_a_tenth(tiny_model: Path, tmp_path: Path):
    # 10 steps, warm-up over 2: 1/3, 2/3, then 0.1 + 0.45 * (1 + cos(pi * k / 8)) for k = 0..7
    found = run(tiny_model, tmp_path / "out", ROWS[:2], batch_pairs=1, epochs=5, warmup=0.2, learning_rate=1e-3)
    by_hand = [1 / 3, 2 / 3] + [0.1 + 0.45 * (1 + math.cos(math.pi * k / 8)) for k in range(8)]
    assert [step.learning_rate for step in found.metrics] == pytest.approx([1e-3 * share for share in by_hand])


def test_a_run_of_one_step_without_warm_up_has_the_full_rate(tiny_model: Path, tmp_path: Path):
    (step,) = run(tiny_model, tmp_path / "out", ROWS, epochs=1, warmup=0.0, learning_rate=1e-3).metrics
    assert step.learning_rate == 1e-3


def test_no_clipping_is_as_good_as_a_very_high_limit(tiny_model: Path, tmp_path: Path):
    off = run(tiny_model, tmp_path / "off", ROWS, max_grad_norm=0.0, epochs=2)
    high = run(tiny_model, tmp_path / "high", ROWS, max_grad_norm=1000.0, epochs=2)
    assert largest_difference(weights(off.result.directory), weights(high.result.directory)) == 0


def test_the_same_command_gives_the_same_weights(tiny_model: Path, tmp_path: Path):
    one, two = (run(tiny_model, tmp_path / name, ROWS, method="lora", batch_pairs=3) for name in "ab")
    assert largest_difference(weights(one.result.directory), weights(two.result.directory)) == 0


def test_another_seed_gives_other_weights(tiny_model: Path, tmp_path: Path):
    one, two = (run(tiny_model, tmp_path / str(seed), ROWS, batch_pairs=3, seed=seed) for seed in (1, 2))
    assert largest_difference(weights(one.result.directory), weights(two.result.directory)) > 0


def test_each_epoch_has_an_order_of_its_own(tiny_model: Path, tmp_path: Path):
    """A pair is known by its tokens: no two of these have the same lengths."""
    rows = [pair(i, chosen=" fox" * (i + 1)) for i in range(8)]
    found = run(tiny_model, tmp_path / "out", rows, batch_pairs=1, epochs=2).metrics
    order = [step.lengths_chosen for step in found]
    assert order[:8] != order[8:]
    assert sorted(order[:8]) == sorted(order[8:]) == sorted(set(order))


def test_without_shuffling_the_order_is_the_files(tiny_model: Path, tmp_path: Path):
    rows = [pair(i, chosen=" fox" * (i + 1)) for i in range(4)]
    found = run(tiny_model, tmp_path / "out", rows, batch_pairs=1, epochs=2, shuffle=False).metrics
    order = [step.lengths_chosen for step in found]
    assert order == sorted(set(order)) * 2


def test_steps_and_epochs_are_counted(tiny_model: Path, tmp_path: Path):
    found = run(tiny_model, tmp_path / "out", ROWS, batch_pairs=5, epochs=2).metrics
    assert [(s.step, s.total_steps, s.epoch) for s in found] == [(1, 4, 0.5), (2, 4, 1.0), (3, 4, 1.5), (4, 4, 2.0)]


def uneven_epochs(tmp_path: Path, model: Path) -> Run:
    """A prompt of one pair and one of two, by two pairs: one batch in some orders, two in others."""
    rows = [pair(1), pair(2, rejected="a"), pair(2, rejected="b")]
    return run(model, tmp_path / "out", rows, batch_pairs=2, epochs=6)


def test_the_epoch_rises_to_the_number_of_epochs_though_their_batches_differ(tiny_model: Path, tmp_path: Path):
    found = [step.epoch for step in uneven_epochs(tmp_path, tiny_model).metrics]
    assert found == sorted(set(found))
    assert found[-1] == 6


def test_the_total_of_steps_is_known_from_the_first_step_though_epochs_differ(tiny_model: Path, tmp_path: Path):
    found = uneven_epochs(tmp_path, tiny_model)
    assert {step.total_steps for step in found.metrics} == {found.result.steps}
