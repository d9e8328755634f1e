import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from generation.engines.loading import load_model, load_tokenizer
from generation.engines.values import EngineError
from tests.models import make_tiny_model
from tests.training.dpo.helpers import (
    Killed,
    Run,
    changed_model,
    killed_after,
    largest_difference,
    naive_logp,
    pair,
    run,
    weights,
)
from training.dpo.checkpoint import BadCheckpoint
from training.dpo.data import BadData
from training.dpo.settings import DPOSettings
from training.dpo.trainer import TrainingFailed, train

ROWS = [pair(i) for i in range(10)]
RANKED = [  # three stories of one prompt, ranked: three pairs of three stories
    pair(chosen="The fox came home.", rejected="fox fox", weight=1.0),
    pair(chosen="The fox came home.", rejected="the", weight=0.5),
    pair(chosen="fox fox", rejected="the", weight=2.0),
]
METHODS = pytest.mark.parametrize("method", ["full", "lora"])


@pytest.fixture(scope="module")
def tied_model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose head is its embedding."""
    config = AutoModelForCausalLM.from_pretrained(tiny_model).config
    config.tie_word_embeddings = True
    directory = tmp_path_factory.mktemp("tied") / "model"
    torch.manual_seed(2)
    AutoModelForCausalLM.from_config(config).save_pretrained(directory)
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(directory)
    return directory


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
@pytest.mark.parametrize("fixture", ["tiny_model", "tied_model"])
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


def worked_out(policy: Any, reference: Any, tokenizer: Any, rows: list[dict], *, beta: float, norm: bool) -> dict:
    """One pair after the other, each story as often as it is named, averaged by weight."""
    sums = dict.fromkeys(("loss", "rewards_chosen", "rewards_rejected", "rewards_accuracies"), 0.0)
    for row in rows:
        ratios, parts = [], []
        for side in ("chosen", "rejected"):
            prompt, story = tokenizer.encode(row["prompt"]), [*tokenizer.encode(row[side]), tokenizer.eos_token_id]
            ratios.append(naive_logp(policy, prompt, story) - naive_logp(reference, prompt, story))
            parts.append(ratios[-1] / len(story) if norm else ratios[-1])
        loss = math.log1p(math.exp(-beta * (parts[0] - parts[1])))
        figures = (loss, beta * ratios[0], beta * ratios[1], float(ratios[0] > ratios[1]))
        for name, figure in zip(sums, figures, strict=True):
            sums[name] += row.get("weight", 1.0) * figure
    total = sum(row.get("weight", 1.0) for row in rows)
    sums = {name: value / total for name, value in sums.items()}
    return sums | {"rewards_margins": sums["rewards_chosen"] - sums["rewards_rejected"]}


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


@pytest.mark.parametrize(
    "method",
    [
        "full",
        "lora",
    ],
)
def test_an_adapters_policy_is_the_reference_of_the_run_that_starts_from_it(
    tiny_model: Path, lora_run: Run, tmp_path: Path, method: str
):
    adapter = lora_run.result.directory
    first = run(tiny_model, tmp_path / "out", ROWS, adapter=adapter, method=method, epochs=1).metrics[0]
    assert first.loss == pytest.approx(math.log(2), abs=1e-5)


def test_training_goes_on_from_the_adapter(tiny_model: Path, lora_run: Run, tmp_path: Path):
    adapter = lora_run.result.directory
    out = run(tiny_model, tmp_path / "out", ROWS, adapter=adapter, learning_rate=1e-7, epochs=1).result.directory
    merged = load_model(tiny_model, adapter).state_dict()
    assert largest_difference(load_model(out).state_dict(), merged) < 1e-5


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
    small = run(tiny_model, tmp_path / "2", RANKED + ROWS[1:9], micro_batch_stories=2, **settings)
    large = run(tiny_model, tmp_path / "32", RANKED + ROWS[1:9], micro_batch_stories=32, **settings)
    assert largest_difference(weights(small.result.directory), weights(large.result.directory)) < 1e-5


def test_the_figures_do_not_depend_on_micro_batches(tiny_model: Path, tmp_path: Path):
    settings = {"batch_pairs": 99, "epochs": 2, "learning_rate": 1e-3, "sft_weight": 0.5}
    small, large = (
        run(tiny_model, tmp_path / str(size), RANKED + ROWS, micro_batch_stories=size, **settings).metrics[1]
        for size in (2, 99)
    )
    assert vars(small) == pytest.approx(vars(large), rel=1e-4, abs=1e-5)


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
    """At a rate of nothing the norm of a step's gradient is its pairs' alone."""
    found = run(tiny_model, tmp_path / "out", ROWS, batch_pairs=1, epochs=2, learning_rate=1e-12).metrics
    norms = [round(step.grad_norm, 4) for step in found]
    assert norms[:10] != norms[10:]
    assert sorted(norms[:10]) == pytest.approx(sorted(norms[10:]), abs=1e-3)


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


# -- the result


def test_a_full_result_loads_with_transformers(tiny_model: Path, tmp_path: Path):
    out = run(tiny_model, tmp_path / "out", ROWS, epochs=1).result.directory
    model, tokenizer = AutoModelForCausalLM.from_pretrained(out), AutoTokenizer.from_pretrained(out)
    assert model.generate(**tokenizer("Write.\n", return_tensors="pt"), max_new_tokens=3).shape[1] > 3


def test_a_full_result_is_not_the_model_it_began_with(tiny_model: Path, tmp_path: Path):
    out = run(tiny_model, tmp_path / "out", ROWS, epochs=1, learning_rate=1e-3).result.directory
    assert largest_difference(weights(out), weights(tiny_model)) > 1e-4


def test_a_tied_head_is_still_tied_in_the_result(tied_model: Path, tmp_path: Path):
    model = load_model(run(tied_model, tmp_path / "out", ROWS, epochs=1).result.directory)
    assert model.lm_head.weight is model.model.embed_tokens.weight


def test_the_generation_config_and_the_chat_template_are_kept(tiny_model: Path, tmp_path: Path):
    model = make_tiny_model(tmp_path / "model")
    GenerationConfig(max_new_tokens=77, eos_token_id=0).save_pretrained(model)
    (model / "chat_template.jinja").write_text("{{ messages[0].content }}!")
    out = run(model, tmp_path / "out", ROWS, epochs=1).result.directory
    assert GenerationConfig.from_pretrained(out).max_new_tokens == 77
    assert load_tokenizer(out).chat_template == "{{ messages[0].content }}!"


def test_a_lora_result_is_an_adapter_that_peft_loads(tiny_model: Path, lora_run: Run):
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_model), lora_run.result.directory)
    assert model.peft_config["default"].r == 4


def test_a_lora_result_is_the_policy_that_was_trained(tiny_model: Path, lora_run: Run):
    policy, reference, tokenizer = (
        load_model(tiny_model, lora_run.result.directory),
        load_model(tiny_model),
        load_tokenizer(tiny_model),
    )
    found = worked_out(policy, reference, tokenizer, [pair(i) for i in range(6)], beta=0.2, norm=False)
    # the last of many small steps: its figures, taken before it, are close to those of the result
    assert found["rewards_margins"] > 0.5 * lora_run.metrics[-1].rewards_margins > 0


def test_lora_leaves_the_model_it_began_with_alone(tiny_model: Path, tmp_path: Path):
    before = (tiny_model / "model.safetensors").read_bytes()
    run(tiny_model, tmp_path / "out", ROWS, method="lora", epochs=1)
    assert (tiny_model / "model.safetensors").read_bytes() == before


@METHODS
def test_safetensors_is_the_only_format_of_weights_in_a_result(tiny_model: Path, tmp_path: Path, method: str):
    out = run(tiny_model, tmp_path / "out", ROWS, method=method, epochs=1).result.directory
    assert [file.suffix for file in out.iterdir() if file.suffix not in {".json", ".md", ".jinja"}] == [".safetensors"]


def test_a_result_says_what_it_was_made_from(tiny_model: Path, tmp_path: Path):
    rows = [*ROWS, pair(99, chosen="fox " * 3000)]
    result = run(tiny_model, tmp_path / "out", rows, batch_pairs=5, epochs=2).result
    assert (result.directory, result.steps, result.pairs, result.too_long) == (tmp_path / "out" / "policy", 4, 10, 1)


def test_a_finished_run_leaves_the_result_alone_in_its_directory(tiny_model: Path, tmp_path: Path):
    run(tiny_model, tmp_path / "out", ROWS, checkpoint_steps=1)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["policy"]


# -- ends without a result


def test_a_loss_that_is_no_number_ends_the_run_with_advice(tiny_model: Path, tmp_path: Path):
    with pytest.raises(TrainingFailed, match="The loss became nan at step 2. Try a lower learning rate"):
        run(tiny_model, tmp_path / "out", ROWS, learning_rate=1e30, warmup=0.0)


def test_data_of_another_models_tokens_is_refused(tiny_model: Path, tmp_path: Path):
    with pytest.raises(BadData, match="token id 99999, but the model knows 3.. tokens"):
        run(tiny_model, tmp_path / "out", [pair(chosen_ids=[30, 99_999])])


@METHODS
def test_a_model_of_broken_weights_ends_the_run_without_a_result(tiny_model: Path, tmp_path: Path, method: str):
    model = load_model(tiny_model)
    model.lm_head.weight.data[0, 0] = math.nan
    model.save_pretrained(tmp_path / "model")
    load_tokenizer(tiny_model).save_pretrained(tmp_path / "model")
    with pytest.raises(TrainingFailed):
        run(tmp_path / "model", tmp_path / "out", ROWS, method=method)
    assert not (tmp_path / "out" / "policy").exists()


def test_a_gradient_that_is_no_number_ends_the_run_without_a_result(tiny_model: Path, tmp_path: Path):
    """Loss ln 2, but its gradient overflows; it is the last step, so no later loss tells."""
    model = load_model(tiny_model)
    with torch.no_grad():
        model.lm_head.weight *= 1e18
        model.model.norm.weight *= 1e18
        model.model.embed_tokens.weight *= 1e-3
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight *= 1e-6
            layer.mlp.down_proj.weight *= 1e-6
    model.save_pretrained(tmp_path / "model")
    load_tokenizer(tiny_model).save_pretrained(tmp_path / "model")
    with pytest.raises(TrainingFailed):
        run(tmp_path / "model", tmp_path / "out", ROWS[:1], epochs=1)


def test_bad_data_leaves_no_output_directory(tiny_model: Path, tmp_path: Path):
    with pytest.raises(BadData):
        run(tiny_model, tmp_path / "out", [])
    assert not (tmp_path / "out").exists()


def test_a_directory_that_holds_no_model_is_named(tmp_path: Path):
    with pytest.raises(EngineError, match="absent is not a directory"):
        run(tmp_path / "absent", tmp_path / "out", ROWS)


def test_an_adapter_that_is_not_there_is_named(tiny_model: Path, tmp_path: Path):
    with pytest.raises(EngineError, match="absent cannot be loaded"):
        run(tiny_model, tmp_path / "out", ROWS, adapter=tmp_path / "absent")


# -- going on


SIX_STEPS = {"batch_pairs": 5, "epochs": 3, "checkpoint_steps": 2, "learning_rate": 1e-3}


def broken_off(model: Path, out: Path, after: int = 5, **settings: Any) -> None:
    with pytest.raises(Killed):
        run(model, out, ROWS, on_step=killed_after(after), **{**SIX_STEPS, **settings})


@METHODS
def test_a_run_that_was_killed_goes_on_to_the_same_weights_bit_for_bit(tiny_model: Path, tmp_path: Path, method: str):
    unbroken = run(tiny_model, tmp_path / "unbroken", ROWS, method=method, **SIX_STEPS)
    broken_off(tiny_model, tmp_path / "broken", method=method)
    resumed = run(tiny_model, tmp_path / "broken", ROWS, method=method, **SIX_STEPS)
    assert largest_difference(weights(resumed.result.directory), weights(unbroken.result.directory)) == 0


def test_a_run_of_a_tied_model_goes_on_to_the_same_weights(tied_model: Path, tmp_path: Path):
    unbroken = run(tied_model, tmp_path / "unbroken", ROWS, **SIX_STEPS)
    broken_off(tied_model, tmp_path / "broken")
    resumed = run(tied_model, tmp_path / "broken", ROWS, **SIX_STEPS)
    assert largest_difference(weights(resumed.result.directory), weights(unbroken.result.directory)) == 0


def test_a_run_that_starts_from_an_adapter_goes_on_to_the_same_weights(tiny_model: Path, lora_run: Run, tmp_path: Path):
    start = {"adapter": lora_run.result.directory, "method": "lora", **SIX_STEPS}
    unbroken = run(tiny_model, tmp_path / "unbroken", ROWS, **start)
    with pytest.raises(Killed):
        run(tiny_model, tmp_path / "broken", ROWS, on_step=killed_after(5), **start)
    resumed = run(tiny_model, tmp_path / "broken", ROWS, **start)
    assert largest_difference(weights(resumed.result.directory), weights(unbroken.result.directory)) == 0


def test_a_run_goes_on_after_its_last_checkpoint_with_the_same_figures(tiny_model: Path, tmp_path: Path):
    unbroken = run(tiny_model, tmp_path / "unbroken", ROWS, **SIX_STEPS)
    broken_off(tiny_model, tmp_path / "broken")
    assert run(tiny_model, tmp_path / "broken", ROWS, **SIX_STEPS).metrics == unbroken.metrics[4:]


def test_a_run_that_was_killed_twice_goes_on_to_the_same_weights(tiny_model: Path, tmp_path: Path):
    unbroken = run(tiny_model, tmp_path / "unbroken", ROWS, **SIX_STEPS)
    broken_off(tiny_model, tmp_path / "broken", after=3)
    broken_off(tiny_model, tmp_path / "broken", after=5)
    resumed = run(tiny_model, tmp_path / "broken", ROWS, **SIX_STEPS)
    assert largest_difference(weights(resumed.result.directory), weights(unbroken.result.directory)) == 0


def test_a_killed_run_has_no_result(tiny_model: Path, tmp_path: Path):
    broken_off(tiny_model, tmp_path / "out")
    assert not (tmp_path / "out" / "policy").exists()


def test_the_start_is_told_how_many_steps_are_done(tiny_model: Path, tmp_path: Path):
    broken_off(tiny_model, tmp_path / "out")
    told: list[tuple[int, int]] = []
    train(
        model_directory=tiny_model,
        adapter=None,
        data=tmp_path / "out.jsonl",
        out=tmp_path / "out",
        settings=DPOSettings(**SIX_STEPS),
        on_start=lambda dataset, done: told.append((dataset.pairs, done)),
    )
    assert told == [(10, 4)]


def test_a_checkpoint_of_other_data_is_refused(tiny_model: Path, tmp_path: Path):
    broken_off(tiny_model, tmp_path / "out")
    with pytest.raises(BadCheckpoint, match="another model, data or settings"):
        run(tiny_model, tmp_path / "out", ROWS[1:], **SIX_STEPS)


@pytest.mark.parametrize("changed", [{"beta": 0.1}, {"seed": 1}, {"method": "lora"}, {"learning_rate": 1e-4}])
def test_a_checkpoint_of_other_settings_is_refused(tiny_model: Path, tmp_path: Path, changed: dict[str, Any]):
    broken_off(tiny_model, tmp_path / "out")
    with pytest.raises(BadCheckpoint, match="another model, data or settings"):
        run(tiny_model, tmp_path / "out", ROWS, **{**SIX_STEPS, **changed})


def test_a_checkpoint_of_another_model_is_refused(tiny_model: Path, tmp_path: Path):
    broken_off(tiny_model, tmp_path / "out")
    with pytest.raises(BadCheckpoint, match="another model, data or settings"):
        run(make_tiny_model(tmp_path / "other", seed=2), tmp_path / "out", ROWS, **SIX_STEPS)


def test_a_run_that_was_out_of_memory_goes_on_with_smaller_micro_batches(tiny_model: Path, tmp_path: Path):
    """That is what the command line advises."""
    broken_off(tiny_model, tmp_path / "out")
    found = run(tiny_model, tmp_path / "out", ROWS, micro_batch_stories=2, **SIX_STEPS)
    assert [step.step for step in found.metrics] == [5, 6]


def test_a_broken_checkpoint_is_refused_with_advice(tiny_model: Path, tmp_path: Path):
    broken_off(tiny_model, tmp_path / "out")
    (tmp_path / "out" / "checkpoint" / "state.safetensors").write_bytes(b"half")
    with pytest.raises(BadCheckpoint, match="is broken .*Delete it to start anew"):
        run(tiny_model, tmp_path / "out", ROWS, **SIX_STEPS)


def test_a_run_goes_on_from_the_checkpoint_before_if_the_last_was_not_in_place(tiny_model: Path, tmp_path: Path):
    unbroken = run(tiny_model, tmp_path / "unbroken", ROWS, **SIX_STEPS)
    broken_off(tiny_model, tmp_path / "broken")
    (tmp_path / "broken" / "checkpoint").rename(tmp_path / "broken" / "checkpoint.old")
    resumed = run(tiny_model, tmp_path / "broken", ROWS, **SIX_STEPS)
    assert largest_difference(weights(resumed.result.directory), weights(unbroken.result.directory)) == 0


def test_a_finished_run_leaves_no_older_checkpoint_behind(tiny_model: Path, tmp_path: Path):
    """A save that was killed before it took the older checkpoint away, at the last checkpoint of the run."""
    broken_off(tiny_model, tmp_path / "out", checkpoint_steps=4)
    (tmp_path / "out" / "checkpoint.old").mkdir()
    run(tiny_model, tmp_path / "out", ROWS, **{**SIX_STEPS, "checkpoint_steps": 4})
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["policy"]


def test_a_result_is_replaced_by_that_of_the_next_run(tiny_model: Path, tmp_path: Path):
    run(tiny_model, tmp_path / "out", ROWS, method="lora", epochs=1)
    again = run(tiny_model, tmp_path / "out", ROWS, method="full", epochs=1).result.directory
    assert {file.name for file in again.glob("*.safetensors")} == {"model.safetensors"}
