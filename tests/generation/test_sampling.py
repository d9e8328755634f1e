"""The sampler on logits made by hand, and against transformers' own logits processors."""

from collections import Counter
from collections.abc import Iterable

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from transformers.generation.logits_process import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from generation.engines.sampling import Sampling, descending, likelihoods, penalise, sample
from generation.engines.values import SamplingParams

SHARES = (0.5, 0.25, 0.15, 0.1)


def params(**given: float) -> SamplingParams:
    return SamplingParams(**{"temperature": 1.0, "top_p": 1.0, "min_p": 0.0, "seed": 0, "max_tokens": 1, **given})


def draw(shares: Iterable[float], uniform: float, seen: Iterable[int] = (), **given: float) -> int:
    """The token that `sample` draws from one row of probabilities."""
    logits = torch.tensor([list(shares)]).log()
    return draw_from(logits, uniform, seen, **given)


def draw_from(logits: torch.Tensor, uniform: float, seen: Iterable[int] = (), **given: float) -> int:
    before = torch.zeros_like(logits, dtype=torch.bool)
    before[0, list(seen)] = True
    return sample(logits, Sampling.of([params(**given)]), torch.tensor([uniform]), before).item()


def drawn(**given: float) -> Counter[int]:
    """How often each token of SHARES is drawn at a thousand evenly spaced uniform numbers."""
    return Counter(draw(SHARES, (i + 0.5) / 1000, **given) for i in range(1000))


def test_the_tokens_lie_under_the_uniform_number_in_the_order_of_the_vocabulary():
    assert [draw(SHARES, u) for u in (0.0, 0.49, 0.51, 0.74, 0.76, 0.89, 0.91, 0.9999)] == [0, 0, 1, 1, 2, 2, 3, 3]


def test_each_token_is_drawn_as_often_as_it_is_likely():
    assert drawn() == {0: 500, 1: 250, 2: 150, 3: 100}


@pytest.mark.parametrize("uniform", [0.0, 0.5, 0.9999])
def test_temperature_zero_takes_the_likeliest(uniform):
    assert draw((0.3, 0.4, 0.3), uniform, temperature=0.0) == 1


def test_temperature_zero_leaves_nothing_to_chance_between_equals():
    assert len({draw((0.4, 0.4, 0.2), uniform, temperature=0.0) for uniform in (0.0, 0.3, 0.6, 0.9)}) == 1


def test_a_temperature_of_a_half_squares_the_shares():
    total = sum(share**2 for share in SHARES)
    for token, count in drawn(temperature=0.5).items():
        assert count == pytest.approx(1000 * SHARES[token] ** 2 / total, abs=1)


def test_a_high_temperature_makes_all_tokens_alike():
    assert all(count == pytest.approx(250, abs=2) for count in drawn(temperature=1000.0).values())


@pytest.mark.parametrize(("top_p", "kept"), [(0.4, {0}), (0.6, {0, 1}), (0.8, {0, 1, 2}), (0.95, {0, 1, 2, 3})])
def test_top_p_keeps_the_fewest_tokens_that_reach_it(top_p, kept):
    assert set(drawn(top_p=top_p)) == kept


@pytest.mark.parametrize(("top_k", "kept"), [(1, {0}), (3, {0, 1, 2}), (4, {0, 1, 2, 3}), (9, {0, 1, 2, 3})])
def test_top_k_keeps_the_likeliest_tokens(top_k, kept):
    assert set(drawn(top_k=top_k)) == kept


def test_a_top_k_of_zero_keeps_all():
    assert set(drawn(top_k=0)) == {0, 1, 2, 3}


@pytest.mark.parametrize(("min_p", "kept"), [(0.15, {0, 1, 2, 3}), (0.25, {0, 1, 2}), (0.4, {0, 1}), (1.0, {0})])
def test_min_p_keeps_tokens_at_least_that_share_of_the_likeliest(min_p, kept):
    assert set(drawn(min_p=min_p)) == kept


def test_what_is_kept_shares_the_whole_probability():
    assert drawn(top_p=0.6) == {0: 667, 1: 333}


def test_top_p_and_min_p_look_at_the_shares_after_the_temperature():
    assert set(drawn(temperature=0.5, min_p=0.25)) == {0, 1}  # squared, the shares are 1 : 1/4 : 9/100 : 1/25
    assert set(drawn(temperature=0.5, top_p=0.9)) == {0, 1}


def test_top_p_looks_at_what_top_k_and_min_p_have_left():
    # of all, 0.6 needs two tokens; of the first two alone, 0.5 / 0.75 > 0.6 needs one
    assert set(drawn(top_k=2, top_p=0.6)) == {0}
    assert set(drawn(min_p=0.4, top_p=0.6)) == {0}


def test_a_penalty_makes_tokens_that_stood_before_less_likely():
    # logits 1 and -1: 1 / 2 and -1 * 2
    logits = torch.tensor([[1.0, -1.0, 0.0]])
    sampling = Sampling.of([params(repetition_penalty=2.0)])
    seen = torch.tensor([[True, True, False]])
    found = torch.bincount(
        sample(
            logits.expand(1000, 3),
            Sampling.of([params(repetition_penalty=2.0)] * 1000),
            (torch.arange(1000) + 0.5) / 1000,
            seen.expand(1000, 3),
        ),
        minlength=3,
    )
    shares = torch.softmax(torch.tensor([0.5, -2.0, 0.0]), -1)
    assert sampling.penalised
    assert ((found - 1000 * shares).abs() <= 1).all()


def test_a_penalty_comes_before_the_greedy_choice():
    assert draw_from(torch.tensor([[2.0, 1.5]]), 0.5, seen=[0], temperature=0.0, repetition_penalty=1.5) == 1


def test_each_row_is_drawn_with_its_own_parameters():
    logits = torch.tensor([SHARES] * 6).log()
    rows = [{}, {"temperature": 0.0}, {"top_p": 0.6}, {"min_p": 0.25}, {"top_k": 1}, {"repetition_penalty": 100.0}]
    seen = torch.tensor([[False, False, False, True]] * 6)
    tokens = sample(logits, Sampling.of([params(**row) for row in rows]), torch.full((6,), 0.99), seen)
    assert tokens.tolist() == [3, 0, 1, 2, 0, 2]


def test_a_row_without_a_cut_is_drawn_as_if_no_other_had_one():
    torch.manual_seed(1)
    logits, uniform = torch.randn(200, 50) * 4, torch.rand(200)
    alone = sample(logits, Sampling.of([params()] * 200), uniform)
    beside = sample(logits, Sampling.of([params(), params(top_p=0.5, top_k=3)] * 100), uniform)
    assert torch.equal(alone[::2], beside[::2])


def test_many_draws_of_a_big_vocabulary_follow_the_distribution():
    torch.manual_seed(1)
    shares = torch.softmax(torch.randn(50), -1)
    rows = 200_000
    tokens = sample(shares.log().expand(rows, 50), Sampling.of([params()] * rows), torch.rand(rows))
    found = torch.bincount(tokens, minlength=50) / rows
    deviation = (shares * (1 - shares) / rows).sqrt()
    assert ((found - shares).abs() < 5 * deviation).all()


@pytest.mark.parametrize("temperature", [1.0, 0.01, 0.0])
def test_logits_that_are_no_numbers_are_told_by_a_token_that_is_none(temperature):
    logits = torch.tensor([[0.0, float("nan"), 1.0]])
    assert draw_from(logits, 0.5, temperature=temperature) == 3


def test_tokens_that_the_model_rules_out_are_never_drawn():
    logits = torch.tensor([[float("-inf"), 0.0, float("-inf")]])
    assert {draw_from(logits, u) for u in (0.0, 0.5, 1 - 2**-24)} == {1}


def test_numpy_sorts_as_torch_does():
    values = torch.rand(5, 100, generator=torch.Generator().manual_seed(1))
    assert torch.equal(descending(values), values.sort(-1, descending=True).values)


LOGITS = st.lists(st.integers(-120, 120), min_size=1, max_size=30, unique=True)


@settings(deadline=None)  # the first call imports
@given(
    numbers=LOGITS,
    temperature=st.floats(0.25, 3, width=32),
    top_p=st.floats(2**-10, 1, width=32),
    min_p=st.floats(0, 1, width=32),
    top_k=st.integers(0, 32),
    penalty=st.floats(0.5, 3, width=32),
    seen=st.sets(st.integers(0, 29)),
)
def test_each_token_is_as_likely_as_transformers_own_processors_make_it(
    numbers, temperature, top_p, min_p, top_k, penalty, seen
):
    logits = torch.tensor([[number / 8 for number in numbers]])
    before = torch.tensor([[token for token in sorted(seen) if token < len(numbers)]], dtype=torch.long)
    processors = [RepetitionPenaltyLogitsProcessor(penalty), TemperatureLogitsWarper(temperature)]
    processors += [MinPLogitsWarper(min_p), *([TopKLogitsWarper(top_k)] if top_k else []), TopPLogitsWarper(top_p)]
    theirs = logits
    for processor in processors:
        assume(_is_clear(theirs, processor))
        theirs = processor(before, theirs)

    sampling = Sampling.of(
        [params(temperature=temperature, top_p=top_p, min_p=min_p, top_k=top_k, repetition_penalty=penalty)]
    )
    stood = torch.zeros_like(logits, dtype=torch.bool).scatter(1, before, True)
    ours = likelihoods(torch.where(stood, penalise(logits, sampling.penalty), logits), sampling)
    torch.testing.assert_close(ours / ours.sum(), torch.softmax(theirs, -1), atol=1e-5, rtol=1e-4)


def _is_clear(scores: torch.Tensor, processor: object) -> bool:
    """No token stands on the very edge of what is kept, where rounding decides, and no two are equal there."""
    shares = torch.softmax(scores.double(), -1).sort(descending=True).values[0]
    apart = len(shares) < 2 or bool(((shares[:-1] - shares[1:])[shares[1:] > 0] > 1e-9).all())
    if isinstance(processor, TopPLogitsWarper):
        return apart and bool(((shares.cumsum(-1) - processor.top_p).abs() > 1e-5).all())
    if isinstance(processor, MinPLogitsWarper):
        return bool(((shares / shares[0] - processor.min_p).abs()[1:] > 1e-5).all())
    return apart


@given(
    logits=st.lists(st.floats(-30, 30, width=32), min_size=1, max_size=30),
    temperature=st.floats(0.125, 3, width=32),
    top_p=st.floats(2**-10, 1, width=32),
    min_p=st.floats(0, 1, width=32),
    uniform=st.floats(0, 1, width=32, exclude_max=True),
)
def test_the_drawn_token_is_always_one_that_is_kept(logits, temperature, top_p, min_p, uniform):
    token = draw_from(torch.tensor([logits]), uniform, temperature=temperature, top_p=top_p, min_p=min_p)
    shares = torch.softmax(torch.tensor(logits, dtype=torch.float64) / temperature, -1)
    before = shares[shares > shares[token] * (1 + 1e-6)].sum()  # equals stay, and float32 has more of them
    assert before < top_p + 1e-5
    assert shares[token] >= min_p * shares.max() * (1 - 1e-4)
    assert shares[token] > 0


@given(st.lists(st.floats(-30, 30, width=32), min_size=2, max_size=30), st.floats(0, 1, width=32, exclude_max=True))
def test_greedy_takes_a_likeliest_token_whatever_the_uniform_number(logits, uniform):
    token = draw_from(torch.tensor([logits]), uniform, temperature=0.0)
    assert logits[token] >= max(logits) - 1e-9
