"""The engine over running servers: real vLLM over HTTP, adapters and weights changed while it runs."""

import threading

import pytest

from generation.engines.transformers_engine import TransformersEngine
from generation.engines.values import EngineError, Weights, taking
from generation.engines.vllm_http import Refused
from tests.generation.vllm.conftest import Writers, asked, greedy, ids, interrupted, written

pytestmark = [pytest.mark.vllm, pytest.mark.slow]

MANY = [greedy(key, tokens=60) for key in range(4)]
SAMPLED = [asked(key, tokens=80) for key in range(24)]


def names(running) -> set[str]:
    return {card.name for card in running.server.models()}


# --- the same stories --------------------------------------------------------------------------------------


def test_the_server_writes_the_bases_stories_that_the_engine_in_process_writes(writers, on_base, through, shared):
    assert ids(written(through(Weights(writers.base), shared), SAMPLED)) == ids(written(on_base, SAMPLED))


def test_the_server_writes_an_adapters_stories_that_the_engine_in_process_writes(writers, on_both, through, shared):
    assert ids(written(through(Weights(writers.base, writers.both), shared), SAMPLED)) == ids(written(on_both, SAMPLED))


@pytest.mark.parametrize(("adapter", "merged"), [("one", "one_merged"), ("both", "two_merged")])
def test_greedy_tokens_and_log_probabilities_are_those_of_transformers(writers, through, shared, adapter, merged):
    theirs = written(TransformersEngine(Weights(getattr(writers, merged))), MANY)
    mine = written(through(Weights(writers.base, getattr(writers, adapter)), shared), MANY)
    assert ids(mine) == ids(theirs)
    for key, story in mine.items():
        assert story.logps == pytest.approx(theirs[key].logps, abs=1e-4)


def test_a_story_carries_the_hash_of_base_and_adapter_together(writers, through, shared):
    engine = through(Weights(writers.base, writers.one), shared)
    (story,) = written(engine, [asked(0)]).values()
    assert story.weights_hash == Weights(writers.base, writers.one).identity()
    assert story.weights_hash != Weights(writers.base).identity()


# --- adapters ----------------------------------------------------------------------------------------------


def test_an_adapter_is_loaded_while_the_server_runs_under_its_own_hash(writers, through, shared):
    engine = through(Weights(writers.base, writers.two), shared)
    assert f"sha256-{engine.weights_hash}" in names(shared)


def test_an_adapter_loaded_under_load_changes_no_story_in_work(writers, through, shared):
    base = through(Weights(writers.base), shared)
    quiet = ids(written(base, SAMPLED))
    found = {}
    for completion in base.write(taking(SAMPLED)):
        if not found:
            other = written(through(Weights(writers.base, writers.one), shared), SAMPLED[:4])
        found[completion.key] = completion
    assert ids(found) == quiet
    assert ids(other) != {key: quiet[key] for key in ids(other)}


def test_base_and_adapters_in_one_batch_do_not_mix(writers: Writers, through, shared):
    engines = [through(Weights(writers.base, adapter), shared) for adapter in (None, writers.one, writers.both)]
    alone = [ids(written(engine, SAMPLED)) for engine in engines]
    together: list[dict] = [{}, {}, {}]

    def write(index: int) -> None:
        together[index] = ids(written(engines[index], SAMPLED))

    threads = [threading.Thread(target=write, args=(index,)) for index in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert together == alone


def test_an_adapter_that_somebody_unloads_in_the_middle_is_loaded_again(writers, through, shared):
    engine = through(Weights(writers.base, writers.one), shared)
    before = ids(written(engine, SAMPLED))
    shared.server.unload_adapter(f"sha256-{engine.weights_hash}")
    assert ids(written(engine, SAMPLED)) == before


def test_the_oldest_adapters_make_room_for_new_ones(writers, through, shared, tmp_path):
    shared.server.unload_adapter(f"sha256-{Weights(writers.base, writers.both).identity()}")
    for number in range(9):
        shared.server.load_adapter(f"sha256-{number}", writers.two)
    try:
        newest = through(Weights(writers.base, writers.both), shared)
        assert f"sha256-{newest.weights_hash}" in names(shared)
        left = {name for name in names(shared) if name.startswith("sha256-") and len(name) < 20}
        assert 0 < len(left) < 9
    finally:
        for number in range(9):
            shared.server.unload_adapter(f"sha256-{number}")


def test_an_adapter_that_cannot_be_loaded_is_an_error_and_the_server_stays_well(writers, through, shared, tmp_path):
    torn = tmp_path / "torn"
    torn.mkdir()
    (torn / "adapter_config.json").write_text((writers.one / "adapter_config.json").read_text())
    (torn / "adapter_model.safetensors").write_bytes((writers.one / "adapter_model.safetensors").read_bytes()[:9000])
    with pytest.raises(EngineError, match="could not be loaded"):
        through(Weights(writers.base, torn), shared)
    assert written(through(Weights(writers.base), shared), [asked(0)])


# --- full weights ------------------------------------------------------------------------------------------


@pytest.fixture
def _base_again(writers, shared):
    yield
    shared.server.reload(writers.base, Weights(writers.base).identity())


@pytest.mark.usefixtures("_base_again")
def test_full_weights_replace_the_servers_and_nothing_of_the_old_is_left(writers, through, shared):
    long = "Once there was a fox. " * 30  # several blocks of the prefix cache, filled by the old weights
    requests = [greedy(key, prompt=long, tokens=40) for key in range(2)]
    old = written(through(Weights(writers.base), shared), requests)
    new = written(through(Weights(writers.one_merged), shared), requests)
    assert ids(new) == ids(written(TransformersEngine(Weights(writers.one_merged)), requests))
    assert ids(new) != ids(old)


@pytest.mark.usefixtures("_base_again")
def test_weights_that_somebody_replaces_in_the_middle_stop_the_run(writers, through, shared):
    engine = through(Weights(writers.base), shared)
    many = [asked(key, tokens=16) for key in range(300)]
    with pytest.raises(EngineError, match="other weights"):
        interrupted(engine, many, lambda: through(Weights(writers.one_merged), shared))


def test_a_server_with_other_weights_that_may_not_be_replaced_is_not_used(writers, through, shared):
    with pytest.raises(EngineError, match="has the weights"):
        through(Weights(writers.one_merged), shared, reload=False)


# --- what does not fit -------------------------------------------------------------------------------------


def test_a_prompt_or_a_story_that_is_too_long_is_refused_and_the_others_are_written(writers, through, shared):
    requests = [asked(0), asked(1, prompt="fox " * 1100), asked(2, tokens=1020)]
    found = written(through(Weights(writers.base), shared), requests)
    assert {key: story.finish_reason == "too_long" for key, story in found.items()} == {0: False, 1: True, 2: True}


def test_vllm_itself_cuts_such_a_story_and_says_nothing(shared):
    """Why lengths are checked before a story is asked for."""
    base = next(card.name for card in shared.server.models() if card.parent is None)
    answer = shared.server.complete(base, [300] * 1000, {"max_tokens": 500, "temperature": 0, "stop_token_ids": [0]})
    assert len(answer.token_ids) <= 24


def test_vllm_refuses_a_prompt_that_is_too_long_by_itself(shared):
    base = next(card.name for card in shared.server.models() if card.parent is None)
    with pytest.raises(Refused, match="1024"):
        shared.server.complete(base, [300] * 1100, {"max_tokens": 5})


def test_vllm_does_not_know_a_name_that_it_has_not_loaded(shared):
    with pytest.raises(Refused) as no:
        shared.server.complete("sha256-nobody", [300], {"max_tokens": 5})
    assert no.value.status == 404
