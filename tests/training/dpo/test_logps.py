import math
from pathlib import Path
from typing import Any

import pytest
import torch

from generation.engines.loading import load_model, load_tokenizer
from tests.training.dpo.helpers import naive_logp
from training.dpo.data import Group
from training.dpo.logps import completion_lengths, completion_logps

PAD = 1
GROUPS = [
    Group([20, 21, 22, 23, 24], [[30, 31, 32, 0], [33, 0]]),
    Group([40], [[50, 51, 52, 53, 54, 55, 56, 0]]),
    Group([60, 61, 62], [[70, 0], [71, 72, 73, 74, 0], [70, 71, 0]]),
]


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> Any:
    return load_model(tiny_model).requires_grad_(False)


def logp(model: Any, prompt: list[int], completion: list[int]) -> float:
    return completion_logps(model, [Group(prompt, [completion])], PAD).item()


def test_logps_are_those_of_one_story_after_the_other(model: Any):
    naive = [naive_logp(model, group.prompt_ids, c) for group in GROUPS for c in group.completions]
    assert completion_logps(model, GROUPS, PAD).tolist() == pytest.approx(naive, rel=1e-6)


def test_one_token_completions_have_probabilities_that_sum_to_one(model: Any):
    """The first completion token is predicted from the last prompt position."""
    every_token = Group([20, 21, 22], [[token] for token in range(model.config.vocab_size)])
    assert completion_logps(model, [every_token], PAD).exp().sum().item() == pytest.approx(1, abs=1e-5)


def test_prompt_tokens_count_nothing(model: Any):
    """log p(b c | a) = log p(b | a) + log p(c | a b): what moves into the prompt leaves the sum."""
    a, b, c = [20, 21], [22, 23, 24], [30, 31]
    assert logp(model, a, b + c) == pytest.approx(logp(model, a, b) + logp(model, a + b, c), rel=1e-6)


def test_the_end_token_counts(model: Any):
    end = naive_logp(model, [20, 21, 30, 31], [0])
    assert logp(model, [20, 21], [30, 31, 0]) == pytest.approx(logp(model, [20, 21], [30, 31]) + end, rel=1e-6)


def test_the_end_token_counts_when_it_is_also_the_padding(model: Any):
    as_padding = completion_logps(model, GROUPS, pad_id=0)
    assert as_padding.tolist() == pytest.approx(completion_logps(model, GROUPS, PAD).tolist(), rel=1e-6)


def test_logps_are_sums_not_averages(tiny_model: Path):
    """A model that knows nothing pays ln(vocabulary) for each token, however many there are."""
    model = load_model(tiny_model)
    torch.nn.init.zeros_(model.lm_head.weight)
    each = -math.log(model.config.vocab_size)
    found = completion_logps(model, [Group([20], [[30, 31, 0], [30, 31, 32, 33, 34, 0]])], PAD)
    assert found.tolist() == pytest.approx([3 * each, 6 * each], rel=1e-6)


def test_logps_do_not_depend_on_the_other_stories_of_the_batch(model: Any):
    together = completion_logps(model, GROUPS, PAD)
    apart = torch.cat([completion_logps(model, [group], PAD) for group in GROUPS])
    assert torch.allclose(together, apart, rtol=1e-6, atol=1e-5)


def test_logps_do_not_depend_on_the_order_of_the_batch(model: Any):
    forward = completion_logps(model, GROUPS, PAD)
    turned = [Group(g.prompt_ids, g.completions[::-1]) for g in GROUPS[::-1]]
    assert torch.allclose(completion_logps(model, turned, PAD).flip(0), forward, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("length", [10, 50, 200])
def test_logps_do_not_depend_on_the_amount_of_padding(model: Any, length: int):
    mate = Group([20], [[30] * length])
    alone, padded = completion_logps(model, GROUPS[:1], PAD), completion_logps(model, [*GROUPS[:1], mate], PAD)
    assert torch.allclose(padded[:2], alone, rtol=1e-6, atol=1e-5)


def test_logps_do_not_depend_on_the_padding_token(model: Any):
    assert torch.equal(completion_logps(model, GROUPS, 5), completion_logps(model, GROUPS, PAD))


def test_logps_carry_the_gradient(tiny_model: Path):
    model = load_model(tiny_model)
    completion_logps(model, GROUPS, PAD).sum().backward()
    assert model.model.embed_tokens.weight.grad.abs().sum().item() > 0


def test_a_half_precision_model_is_summed_in_single_precision(tiny_model: Path):
    model = load_model(tiny_model).bfloat16()
    story = [30 + i % 200 for i in range(200)]
    found = completion_logps(model, [Group([20, 21], [story])], PAD)
    assert found.dtype == torch.float32
    # a sum of 200 terms in bfloat16 (8 bits) would be off by whole nats
    assert found.item() == pytest.approx(naive_logp(model, [20, 21], story), rel=1e-5)


def test_logps_of_text_match_the_likelihood_that_transformers_reports(tiny_model: Path, model: Any):
    """An oracle of another hand: labels of -100 on the prompt, mean loss times tokens."""
    tokenizer = load_tokenizer(tiny_model)
    prompt, story = tokenizer.encode("Write a story.\n"), tokenizer.encode("Once upon a time there was a fox.")
    labels = torch.tensor([[-100] * len(prompt) + story])
    loss = model(input_ids=torch.tensor([prompt + story]), labels=labels).loss
    assert logp(model, prompt, story) == pytest.approx(-loss.item() * len(story), rel=1e-5)


def test_lengths_count_the_end_token():
    assert completion_lengths(GROUPS).tolist() == [4, 2, 8, 2, 5, 3]
