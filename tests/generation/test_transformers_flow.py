"""How the embedded engine takes requests, shares work between them and frees places; and which models it knows."""

from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest
import torch
import transformers

from generation.engines.loading import load_tokenizer
from generation.engines.transformers_engine import TransformersEngine
from generation.engines.values import EngineError, Request, Weights, taking
from tests.generation.test_transformers_engine import PROMPTS, alone, counted, request, written


@pytest.fixture
def engine(tiny_model) -> TransformersEngine:
    return TransformersEngine(Weights(tiny_model), batch=4)


# --- taking ------------------------------------------------------------------------------------------------


def test_a_story_drawn_again_between_two_completions_is_written_too(engine):
    waiting, keys = [request()], []
    for completion in engine.write(lambda many: [waiting.pop() for _ in range(min(many, len(waiting)))]):
        keys.append(completion.key)
        if len(keys) < 3:
            waiting.append(request(len(keys), seed=len(keys)))
    assert keys == [0, 1, 2]


def test_a_refused_request_can_be_replaced(engine):
    waiting = [request(0, "fox " * 100, tokens=240)]
    found = []
    for completion in engine.write(lambda many: [waiting.pop() for _ in range(min(many, len(waiting)))]):
        found.append((completion.key, completion.finish_reason))
        if completion.key == 0:
            waiting.append(request(1))
    assert found == [(0, "too_long"), (1, "length")]


def test_a_few_batches_are_taken_ahead_and_no_more(engine):
    keys = count()
    taken = []

    def take(many: int) -> list[Request]:
        taken.extend(request(next(keys), tokens=3) for _ in range(many))
        return taken[-many:]

    stories = engine.write(take)
    for _ in range(20):
        next(stories)
    assert len(taken) <= 20 + 5 * engine.batch


def test_a_story_is_handed_over_as_soon_as_it_has_ended(engine):
    read = counted(engine)
    stories = engine.write(taking([request(0, tokens=40), request(1, tokens=3)]))
    assert next(stories).key == 1
    assert len(read) == 4  # the prompt, and a step for each token


def test_the_next_story_takes_the_place_of_one_that_has_ended(engine):
    read = counted(engine)
    written(engine, [request(key, tokens=40 if key < 3 else 4) for key in range(11)])
    assert max(shape[0] for shape in read) == engine.batch
    assert sum(shape[1] == 1 for shape in read) == 40


def test_no_more_stories_than_the_batch_are_written_at_a_time(engine):
    read = counted(engine)
    written(engine, [request(key, PROMPTS[key % 4], tokens=4 + key) for key in range(11)])
    assert max(shape[0] for shape in read) == engine.batch


def test_a_prompt_is_read_once_for_its_stories(engine):
    read = counted(engine)
    written(engine, [request(key, PROMPTS[0], seed=key, tokens=4 + key) for key in range(9)])
    assert [tuple(shape) for shape in read if shape[1] > 1] == [(1, 10)]


def test_sisters_are_written_together_however_they_are_asked_for(engine):
    """Eight requests for two prompts in turn: each prompt's four stories share a batch."""
    read = counted(engine)
    written(engine, [request(key, PROMPTS[key % 2 * 2], seed=key, tokens=5) for key in range(8)])
    assert [shape[0] for shape in read if shape[1] > 1] == [1, 1]


def test_writing_that_is_broken_off_leaves_the_engine_as_it_was(engine):
    stories = engine.write(taking([request(key, tokens=3 + key) for key in range(4)]))
    next(stories)
    stories.close()
    assert alone(engine, request()) == alone(engine, request())


@pytest.mark.parametrize("batch", [1, 2, 9, 64])
def test_every_size_of_batch_writes_the_same_stories(tiny_model, engine, batch):
    requests = [request(key, PROMPTS[key % 4], seed=key, tokens=3 + key * 7 % 30) for key in range(13)]
    assert written(TransformersEngine(Weights(tiny_model), batch=batch), requests) == written(engine, requests)


# --- models ------------------------------------------------------------------------------------------------

SHAPE = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
    "initializer_range": 0.3,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": 1,
    "tie_word_embeddings": False,
}
WINDOW = {"sliding_window": 20, "num_key_value_heads": 2}
SLIDING = ["sliding_attention", "full_attention"]
KINDS: dict[str, Callable[[int], transformers.PreTrainedConfig]] = {
    "shared keys": lambda size: transformers.LlamaConfig(vocab_size=size, **SHAPE, num_key_value_heads=2),
    "sliding window": lambda size: transformers.MistralConfig(vocab_size=size, **SHAPE, **WINDOW),
    "some layers sliding": lambda size: transformers.Gemma3TextConfig(
        vocab_size=size, **SHAPE, **WINDOW, head_dim=16, layer_types=SLIDING
    ),
    "attention without sdpa": lambda size: transformers.GptOssConfig(
        vocab_size=size, **SHAPE, **WINDOW, head_dim=16, num_local_experts=2, num_experts_per_tok=1, layer_types=SLIDING
    ),
    "learned positions": lambda size: transformers.GPT2Config(
        vocab_size=size, n_embd=32, n_layer=2, n_head=4, n_positions=256, initializer_range=0.3, eos_token_id=None
    ),
    "alibi": lambda size: transformers.BloomConfig(
        vocab_size=size, hidden_size=32, n_layer=2, n_head=4, initializer_range=0.3, eos_token_id=None
    ),
    "masks of its own": lambda size: transformers.GPTNeoConfig(
        vocab_size=size, hidden_size=32, num_layers=2, num_heads=4, attention_types=[[["global", "local"], 1]],
        window_size=20, max_position_embeddings=150, initializer_range=0.3, eos_token_id=None,
    ),
}  # fmt: skip


def model_of(config: Callable[[int], transformers.PreTrainedConfig], tiny_model: Path, directory: Path) -> Path:
    tokenizer = load_tokenizer(tiny_model)
    torch.manual_seed(3)
    transformers.AutoModelForCausalLM.from_config(config(len(tokenizer))).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


@pytest.mark.parametrize("config", KINDS.values(), ids=KINDS)
def test_models_of_many_kinds_write_what_transformers_own_generate_writes(tiny_model, tmp_path, config):
    """Longer than the windows, in rows of different lengths, of which some come later than others."""
    engine = TransformersEngine(Weights(model_of(config, tiny_model, tmp_path)), batch=3)
    engine.stops = set()
    ours = written(engine, [request(key, text, temperature=0.0, tokens=40) for key, text in enumerate(PROMPTS)])
    for key, text in enumerate(PROMPTS):
        ids = torch.tensor([engine.tokenizer.encode(text + "\n")], device=engine.device)
        theirs = engine.model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=40)
        assert ours[key] == tuple(theirs[0, ids.shape[1] :].tolist())
    assert len({token for ids in ours.values() for token in ids}) > 10  # not one token over and over


def test_a_model_without_attention_is_told_what_writes_with_it(tiny_model, tmp_path):
    def mamba(size: int) -> transformers.PreTrainedConfig:
        return transformers.MambaConfig(vocab_size=size, hidden_size=32, num_hidden_layers=2, state_size=4)

    model = model_of(mamba, tiny_model, tmp_path)
    with pytest.raises(EngineError, match=r"type mamba .*linear_attention.* Set STORYLOOP_ENGINE=vllm"):
        TransformersEngine(Weights(model))
