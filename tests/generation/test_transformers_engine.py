"""The embedded engine on a real model of random weights."""

import json
import shutil
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from generation.engines.loading import load_model
from generation.engines.transformers_engine import TransformersEngine
from generation.engines.values import Completion, EngineError, Request, SamplingParams, Weights, taking
from tests.models import make_tiny_model

PROMPTS = (
    "Write a story.",
    "Write a story about a brave fox who lives near a green wood with grandma, for children aged 5-6.",
    "从前，有一只小狐狸。",
    "x",
)


def request(
    key: int = 0, prompt: str = PROMPTS[0], *, tokens: int = 24, logps: bool = False, **sampling: float
) -> Request:
    given = {"temperature": 1.0, "top_p": 1.0, "min_p": 0.0, "seed": 7, **sampling}
    return Request(key, prompt, SamplingParams(max_tokens=tokens, **given), logps)


def by_key(completions: Iterable[Completion]) -> dict[int, tuple[int, ...]]:
    return {c.key: c.token_ids for c in completions}


@pytest.fixture
def engine(tiny_model) -> TransformersEngine:
    return TransformersEngine(Weights(tiny_model))


@pytest.fixture
def copied(tiny_model, tmp_path) -> Path:
    """A copy of the tiny model, to be changed."""
    return shutil.copytree(tiny_model, tmp_path / "model")


def written(engine: TransformersEngine, requests: Iterable[Request]) -> dict[int, tuple[int, ...]]:
    return by_key(engine.write(taking(requests)))


def alone(engine: TransformersEngine, wanted: Request) -> Completion:
    (completion,) = engine.write(taking([wanted]))
    return completion


def end_with(engine: TransformersEngine, token: int) -> None:
    """From now on `token` ends a story: a random model hardly ever writes the real end token."""
    engine.stops.add(token)


def counted(engine: TransformersEngine) -> list[torch.Size]:
    """The shapes of the token ids that the model will have read."""
    read: list[torch.Size] = []
    engine.model.register_forward_pre_hook(lambda _, args, __: read.append(args[0].shape), with_kwargs=True)
    return read


def without_end(engine: TransformersEngine, ids: torch.Tensor) -> tuple[int, ...]:
    return tuple(t for t in ids.tolist() if t != engine.tokenizer.eos_token_id)


def mixed_requests() -> list[Request]:
    """Prompts, lengths and sampling of all kinds side by side."""
    return [
        request(key, PROMPTS[key % 4], tokens=(12, 40, 25)[key % 3], seed=key, temperature=(1.0, 0.7, 0.0)[key % 3])
        for key in range(12)
    ]


# --- a story -----------------------------------------------------------------------------------------------


def test_a_story_does_not_depend_on_the_stories_written_beside_it(engine):
    requests = mixed_requests()
    together = written(engine, requests)
    assert together == {r.key: alone(engine, r).token_ids for r in requests}


def test_a_story_does_not_depend_on_sisters_that_end_before_it(engine):
    requests = [request(key, PROMPTS[key % 4], seed=key, tokens=40) for key in range(12)]
    common = Counter(t for ids in written(engine, requests).values() for t in set(ids)).most_common(1)[0][0]
    end_with(engine, common)
    together = written(engine, requests)
    assert len({len(ids) for ids in together.values()}) > 3
    assert together == {r.key: alone(engine, r).token_ids for r in requests}


def test_a_story_does_not_depend_on_the_size_of_the_batch(tiny_model, engine):
    requests = mixed_requests()
    assert written(TransformersEngine(Weights(tiny_model), batch=5), requests) == written(engine, requests)


def test_the_same_seed_gives_the_same_story_in_a_new_process_or_engine(tiny_model, engine):
    assert alone(TransformersEngine(Weights(tiny_model)), request()) == alone(engine, request())


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
    ours = written(engine, requests)
    for wanted in requests:
        ids = torch.tensor([engine.tokenizer.encode(wanted.prompt + "\n")], device=engine.device)
        theirs = engine.model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=wanted.sampling.max_tokens
        )
        assert ours[wanted.key] == without_end(engine, theirs[0, ids.shape[1] :])


def test_every_request_is_answered_once(engine):
    requests = mixed_requests()
    assert sorted(c.key for c in engine.write(taking(requests))) == [r.key for r in requests]


def test_no_requests_give_no_stories(engine):
    assert list(engine.write(taking([]))) == []


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


def test_a_prompt_that_leaves_no_room_is_refused_and_the_others_are_written(engine):
    found = list(engine.write(taking([request(), request(1, "fox " * 100, tokens=240), request(2)])))
    refused, *others = found
    assert (refused.key, refused.finish_reason) == (1, "too_long")
    assert sorted((c.key, c.finish_reason) for c in others) == [(0, "length"), (2, "length")]


def test_a_refused_prompt_comes_back_rendered_and_without_a_story(engine):
    story = alone(engine, request(0, "fox " * 100, tokens=240))
    assert (story.rendered_prompt, story.text, story.token_ids) == ("fox " * 100 + "\n", "", ())


def test_a_prompt_that_just_fits_is_written_to_the_models_last_place(engine):
    taken = len(engine.tokenizer.encode(PROMPTS[0] + "\n"))
    assert len(alone(engine, request(tokens=256 - taken, seed=9)).token_ids) == 256 - taken


# --- weights -----------------------------------------------------------------------------------------------


@pytest.fixture
def adapter(tiny_model, tmp_path) -> Path:
    from peft import LoraConfig, get_peft_model

    lora = get_peft_model(load_model(tiny_model), LoraConfig(target_modules=["q_proj"], init_lora_weights=False))
    lora.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def test_the_engine_and_its_stories_tell_which_weights_they_are_of(tiny_model, engine, tmp_path):
    other = TransformersEngine(Weights(make_tiny_model(tmp_path / "other", seed=2)))
    assert engine.weights_hash == alone(engine, request()).weights_hash == Weights(tiny_model).identity()
    assert other.weights_hash != engine.weights_hash


def test_the_engine_tells_its_name_and_the_version_of_transformers(engine):
    assert (engine.name, engine.version) == ("transformers", transformers.__version__)


def test_an_adapter_writes_other_stories_under_another_hash(tiny_model, adapter, engine):
    adapted = TransformersEngine(Weights(tiny_model, adapter))
    assert alone(adapted, request()).token_ids != alone(engine, request()).token_ids
    assert adapted.weights_hash == Weights(tiny_model, adapter).identity() != engine.weights_hash


def test_broken_weights_are_told_and_write_nothing(copied):
    file = copied / "model.safetensors"
    tensors = load_file(file)
    tensors["model.norm.weight"][0] = float("nan")
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(EngineError, match="computes no numbers .*weights are broken"):
        alone(TransformersEngine(Weights(copied)), request())


def test_a_closed_engine_holds_no_model(engine):
    engine.close()
    assert not hasattr(engine, "model")


# --- ends --------------------------------------------------------------------------------------------------


def test_another_end_token_that_the_models_files_name_ends_a_story(copied, engine):
    whole = alone(engine, request()).token_ids
    end = next(i for i in range(5, 24) if whole[i] not in whole[:i])
    path = copied / "generation_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "eos_token_id": [0, whole[end]]}))
    story = alone(TransformersEngine(Weights(copied)), request())
    assert (story.token_ids, story.finish_reason) == (whole[:end], "stop")


# --- sampling ----------------------------------------------------------------------------------------------


def test_a_top_k_of_one_is_greedy(engine):
    assert alone(engine, request(top_k=1)).token_ids == alone(engine, request(temperature=0.0)).token_ids


def test_the_penalty_counts_prompt_and_story_as_transformers_own_generate_does(engine):
    wanted = request(0, PROMPTS[1], temperature=0.0, repetition_penalty=1.5, tokens=40)
    ids = torch.tensor([engine.tokenizer.encode(wanted.prompt + "\n")], device=engine.device)
    theirs = engine.model.generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=40, repetition_penalty=1.5
    )
    beside = [request(1, tokens=8), request(2, PROMPTS[3], tokens=30, repetition_penalty=2.0), wanted]
    assert written(engine, beside)[0] == without_end(engine, theirs[0, ids.shape[1] :])
    assert written(engine, beside)[0] != alone(engine, request(0, PROMPTS[1], temperature=0.0, tokens=40)).token_ids


def test_log_probabilities_are_the_bare_models(engine):
    wanted = request(temperature=0.7, min_p=0.05, repetition_penalty=1.2, logps=True)
    story = next(c for c in engine.write(taking([wanted, request(1, PROMPTS[2])])) if c.key == 0)
    prompt = engine.tokenizer.encode(story.rendered_prompt)
    ids = torch.tensor([[*prompt, *story.token_ids]], device=engine.device)
    shares = engine.model(ids).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
    expected = shares.gather(-1, ids[0, len(prompt) :, None])[:, 0]
    torch.testing.assert_close(torch.tensor(story.logps), expected.cpu(), atol=1e-4, rtol=1e-4)


def test_the_end_token_has_no_log_probability(engine):
    whole = alone(engine, request()).token_ids
    end_with(engine, whole[10])
    story = alone(engine, request(logps=True))
    assert len(story.logps) == len(story.token_ids) < 24


def test_log_probabilities_come_only_where_they_are_asked_for(engine):
    found = {c.key: c.logps for c in engine.write(taking([request(0, logps=True), request(1)]))}
    assert (len(found[0]), found[1]) == (24, ())
