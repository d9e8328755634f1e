"""The embedded engine on a real model of random weights, and the sampler on logits made by hand."""

from collections import Counter
from collections.abc import Iterable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from generation.engines.transformers_engine import TransformersEngine, sample
from generation.engines.values import Completion, EngineError, Request, SamplingParams, weights_hash
from tests.models import make_tiny_model

PROMPTS = (
    "Write a story.",
    "Write a story about a brave fox who lives near a green wood with grandma, for children aged 5-6.",
    "从前，有一只小狐狸。",
    "x",
)


def request(key: int = 0, prompt: str = PROMPTS[0], *, tokens: int = 24, **sampling: float) -> Request:
    given = {"temperature": 1.0, "top_p": 1.0, "min_p": 0.0, "seed": 7, **sampling}
    return Request(key, prompt, SamplingParams(max_tokens=tokens, **given))


def by_key(completions: Iterable[Completion]) -> dict[int, tuple[int, ...]]:
    return {c.key: c.token_ids for c in completions}


@pytest.fixture
def engine(tiny_model) -> TransformersEngine:
    return TransformersEngine(tiny_model)


def alone(engine: TransformersEngine, wanted: Request) -> Completion:
    (completion,) = engine.write([wanted])
    return completion


def end_with(engine: TransformersEngine, token: int) -> None:
    """From now on `token` ends a story: a random model hardly ever writes the real end token."""
    engine.tokenizer.eos_token = engine.tokenizer.convert_ids_to_tokens(token)
    assert engine.tokenizer.eos_token_id == token


def mixed_requests() -> list[Request]:
    """Prompts, lengths and sampling of all kinds side by side."""
    return [
        request(key, PROMPTS[key % 4], tokens=(12, 40, 25)[key % 3], seed=key, temperature=(1.0, 0.7, 0.0)[key % 3])
        for key in range(12)
    ]


# --- a story -----------------------------------------------------------------------------------------------


def test_a_story_does_not_depend_on_the_stories_written_beside_it(engine):
    requests = mixed_requests()
    together = by_key(engine.write(requests))
    assert together == {r.key: alone(engine, r).token_ids for r in requests}


def test_a_story_does_not_depend_on_sisters_that_end_before_it(engine):
    requests = [request(key, PROMPTS[key % 4], seed=key, tokens=40) for key in range(12)]
    common = Counter(t for ids in by_key(engine.write(requests)).values() for t in set(ids)).most_common(1)[0][0]
    end_with(engine, common)
    together = by_key(engine.write(requests))
    assert len({len(ids) for ids in together.values()}) > 3
    assert together == {r.key: alone(engine, r).token_ids for r in requests}


def test_a_story_does_not_depend_on_the_size_of_the_batch(tiny_model, engine):
    requests = mixed_requests()
    assert by_key(TransformersEngine(tiny_model, batch=5).write(requests)) == by_key(engine.write(requests))


def test_the_same_seed_gives_the_same_story_in_a_new_process_or_engine(tiny_model, engine):
    assert alone(TransformersEngine(tiny_model), request()) == alone(engine, request())


def test_another_seed_gives_another_story(engine):
    assert alone(engine, request(seed=1)).token_ids != alone(engine, request(seed=2)).token_ids


def test_writing_leaves_the_random_state_of_the_process_alone(engine):
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    alone(engine, request())
    assert torch.rand(1) == expected


def test_greedy_stories_are_those_of_transformers_own_generate(engine):
    requests = [request(key, prompt, temperature=0.0) for key, prompt in enumerate(PROMPTS)]
    ours = by_key(engine.write(requests))
    for wanted in requests:
        ids = torch.tensor([engine.tokenizer.encode(wanted.prompt + "\n")], device=engine.device)
        theirs = engine.model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=wanted.sampling.max_tokens
        )
        written = [t for t in theirs[0, ids.shape[1] :].tolist() if t != engine.tokenizer.eos_token_id]
        assert ours[wanted.key] == tuple(written)


def test_every_request_is_answered_once(engine):
    requests = mixed_requests()
    assert sorted(c.key for c in engine.write(requests)) == [r.key for r in requests]


def test_no_requests_give_no_stories(engine):
    assert list(engine.write([])) == []


def test_a_story_that_reaches_its_limit_is_marked_length(engine):
    story = alone(engine, request(tokens=9))
    assert (len(story.token_ids), story.finish_reason) == (9, "length")


def test_the_end_token_ends_the_story_and_is_no_part_of_it(engine):
    whole = alone(engine, request()).token_ids
    end = next(i for i in range(5, 24) if whole[i] not in whole[:i])
    end_with(engine, whole[end])
    story = alone(engine, request())
    assert (story.token_ids, story.finish_reason) == (whole[:end], "stop")


def test_an_end_token_in_the_last_place_still_ends_the_story(engine):
    whole = alone(engine, request()).token_ids
    end = next(i for i in range(5, 24) if whole[i] not in whole[:i])
    end_with(engine, whole[end])
    assert alone(engine, request(tokens=end + 1)).finish_reason == "stop"


def test_a_story_that_ends_at_once_is_empty(engine):
    end_with(engine, alone(engine, request()).token_ids[0])
    story = alone(engine, request())
    assert (story.text, story.token_ids, story.finish_reason) == ("", (), "stop")


def test_the_text_is_what_the_token_ids_say(engine):
    story = alone(engine, request())
    assert story.text == engine.tokenizer.decode(story.token_ids, skip_special_tokens=True).strip()


def test_the_rendered_prompt_is_what_the_model_read(engine):
    assert alone(engine, request()).rendered_prompt == "Write a story.\n"


def test_a_chat_model_reads_its_prompt_in_the_chat_template(engine):
    engine.tokenizer.chat_template = "<user>{{ messages[0].content }}<story>"
    assert alone(engine, request()).rendered_prompt == "<user>Write a story.<story>"


def test_a_prompt_that_leaves_no_room_says_what_to_do(engine):
    with pytest.raises(
        EngineError, match=r"do not fit the model's 256.*Shorten the prompt or lower STORYLOOP_MAX"
    ) as told:
        list(engine.write([request(), request(1, "fox " * 100, tokens=240)]))
    assert "'fox fox " in str(told.value)


def test_a_prompt_that_just_fits_is_written_to_the_models_last_place(engine):
    taken = len(engine.tokenizer.encode(PROMPTS[0] + "\n"))
    assert len(alone(engine, request(tokens=256 - taken, seed=8)).token_ids) == 256 - taken


def test_the_engine_tells_which_weights_it_holds(tiny_model, engine, tmp_path):
    other = TransformersEngine(make_tiny_model(tmp_path / "other", seed=2))
    assert engine.weights_hash == weights_hash(tiny_model)
    assert other.weights_hash != engine.weights_hash


# --- the sampler -------------------------------------------------------------------------------------------

SHARES = (0.5, 0.25, 0.15, 0.1)


def draw(shares: Iterable[float], uniform: float, *, temperature: float = 1.0, top_p: float = 1.0, min_p: float = 0.0):
    """The token that `sample` draws from one row of probabilities."""
    logits = torch.tensor([list(shares)]).log()
    one = [torch.tensor([[value]]) for value in (temperature, top_p, min_p)]
    return sample(logits, *one, torch.tensor([uniform])).item()


def drawn(**sampling: float) -> Counter[int]:
    """How often each token of SHARES is drawn at a thousand evenly spaced uniform numbers."""
    return Counter(draw(SHARES, (i + 0.5) / 1000, **sampling) for i in range(1000))


def test_the_likeliest_tokens_lie_first_under_the_uniform_number():
    assert [draw(SHARES, u) for u in (0.0, 0.49, 0.51, 0.74, 0.76, 0.89, 0.91, 0.9999)] == [0, 0, 1, 1, 2, 2, 3, 3]


def test_the_order_of_the_vocabulary_does_not_matter():
    assert [draw((0.1, 0.5, 0.15, 0.25), u) for u in (0.1, 0.6, 0.8, 0.95)] == [1, 3, 2, 0]


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


@pytest.mark.parametrize(("min_p", "kept"), [(0.15, {0, 1, 2, 3}), (0.25, {0, 1, 2}), (0.4, {0, 1}), (1.0, {0})])
def test_min_p_keeps_tokens_at_least_that_share_of_the_likeliest(min_p, kept):
    assert set(drawn(min_p=min_p)) == kept


def test_what_is_kept_shares_the_whole_probability():
    assert drawn(top_p=0.6) == {0: 667, 1: 333}


def test_top_p_and_min_p_look_at_the_shares_after_the_temperature():
    assert set(drawn(temperature=0.5, min_p=0.25)) == {0, 1}  # squared, the shares are 1 : 1/4 : 9/100 : 1/25
    assert set(drawn(temperature=0.5, top_p=0.9)) == {0, 1}


def test_each_row_is_drawn_with_its_own_parameters():
    logits = torch.tensor([SHARES] * 4).log()
    tokens = sample(
        logits,
        torch.tensor([[1.0], [0.0], [1.0], [1.0]]),
        torch.tensor([[1.0], [1.0], [0.6], [1.0]]),
        torch.tensor([[0.0], [0.0], [0.0], [0.25]]),
        torch.full((4,), 0.99),
    )
    assert tokens.tolist() == [3, 0, 1, 2]


def test_many_draws_of_a_big_vocabulary_follow_the_distribution():
    torch.manual_seed(1)
    shares = torch.softmax(torch.randn(50), -1)
    rows = 200_000
    ones = torch.ones(rows, 1)
    tokens = sample(shares.log().expand(rows, 50), ones, ones, torch.zeros(rows, 1), torch.rand(rows))
    found = torch.bincount(tokens, minlength=50) / rows
    deviation = (shares * (1 - shares) / rows).sqrt()
    assert ((found - shares).abs() < 5 * deviation).all()


@given(
    logits=st.lists(st.floats(-30, 30, width=32), min_size=1, max_size=30),
    temperature=st.floats(0.125, 3, width=32),
    top_p=st.floats(2**-10, 1, width=32),
    min_p=st.floats(0, 1, width=32),
    uniform=st.floats(0, 1, width=32, exclude_max=True),
)
def test_the_drawn_token_is_always_one_that_is_kept(logits, temperature, top_p, min_p, uniform):
    values = [torch.tensor([[v]]) for v in (temperature, top_p, min_p)]
    token = sample(torch.tensor([logits]), *values, torch.tensor([uniform])).item()
    shares = torch.softmax(torch.tensor(logits, dtype=torch.float64) / temperature, -1)
    before = shares[shares > shares[token]].sum()
    assert before < top_p + 1e-5
    assert shares[token] >= min_p * shares.max() * (1 - 1e-4)
    assert shares[token] > 0


@given(st.lists(st.floats(-30, 30, width=32), min_size=2, max_size=30), st.floats(0, 1, width=32, exclude_max=True))
def test_greedy_takes_a_likeliest_token_whatever_the_uniform_number(logits, uniform):
    values = [torch.tensor([[v]]) for v in (0.0, 1.0, 0.0)]
    token = sample(torch.tensor([logits]), *values, torch.tensor([uniform])).item()
    assert logits[token] >= max(logits) - 1e-9
