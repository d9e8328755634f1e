"""The engine in process: real vLLM in a child process, writing with the demo writer."""

import os
import signal
import time
from pathlib import Path

import pytest

from generation.engines.transformers_engine import TransformersEngine
from generation.engines.values import EngineError, Weights, taking
from generation.engines.vllm_engine import VllmEngine
from generation.engines.vllm_options import VllmOptions
from tests.generation.vllm.conftest import asked, greedy, ids, written

pytestmark = [pytest.mark.vllm, pytest.mark.slow]

MANY = [greedy(key, tokens=60) for key in range(4)]


def child_of(engine: VllmEngine) -> int:
    return engine._child._process.pid


def alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def agree(mine, theirs) -> None:
    assert ids(mine) == ids(theirs)
    assert all(story.logps for story in mine.values())
    for key, story in mine.items():
        assert story.logps == pytest.approx(theirs[key].logps, abs=1e-4)


def test_greedy_tokens_and_log_probabilities_of_the_base_are_those_of_transformers(writers, on_base):
    agree(written(on_base, MANY), written(TransformersEngine(Weights(writers.base)), MANY))


def test_two_rounds_adapters_stacked_on_the_base_write_as_the_second_rounds_merged_weights(writers, on_both):
    agree(written(on_both, MANY), written(TransformersEngine(Weights(writers.two_merged)), MANY))


def test_the_rounds_have_changed_what_is_written(writers, on_base, on_both):
    first = written(TransformersEngine(Weights(writers.one_merged)), MANY)
    found = [ids(first), ids(written(on_base, MANY)), ids(written(on_both, MANY))]
    assert found[0] != found[1] != found[2] != found[0]


def test_it_reports_the_weights_that_it_loaded(writers, on_base):
    assert on_base.weights_hash == Weights(writers.base).identity()
    assert (on_base.name, on_base.version) == ("vllm", "0.32.0")
    assert {c.weights_hash for c in written(on_base, [asked(0)]).values()} == {on_base.weights_hash}


def test_a_story_does_not_depend_on_the_stories_beside_it(on_base):
    together = written(on_base, [asked(key) for key in range(24)])
    assert ids(written(on_base, [asked(5)]))[5] == together[5].token_ids
    assert len(set(ids(together).values())) > 12


def test_a_prompt_that_leaves_no_room_is_refused_and_the_others_are_written(on_base):
    found = written(on_base, [asked(0), asked(1, prompt="fox " * 1100), asked(2, tokens=1024)])
    assert {key: story.finish_reason == "too_long" for key, story in found.items()} == {0: False, 1: True, 2: True}
    assert (found[1].text, found[1].token_ids) == ("", ())


def test_stories_end_at_the_end_token_which_is_not_part_of_them(on_base):
    stories = written(on_base, [asked(key, tokens=300) for key in range(8)]).values()
    whole = [story for story in stories if story.finish_reason == "stop"]
    assert whole
    assert not any("<|end|>" in story.text or 0 in story.token_ids for story in whole)


def test_a_killed_process_is_started_again_and_the_stories_are_the_same(on_base):
    requests = [asked(key, tokens=200) for key in range(30)]
    before = ids(written(on_base, requests))
    found = {}
    for completion in on_base.write(taking(requests)):
        if not found:
            os.kill(child_of(on_base), signal.SIGKILL)
        found[completion.key] = completion
    assert ids(found) == before


def test_closing_in_the_middle_ends_the_process(on_base):
    pid = child_of(on_base)
    stories = on_base.write(taking([asked(key, tokens=400) for key in range(40)]))
    next(stories)
    begin = time.monotonic()
    stories.close()
    assert not alive(pid)
    assert time.monotonic() - begin < 15


def test_an_engine_that_was_closed_writes_again(on_base):
    before = ids(written(on_base, [asked(3)]))
    on_base.close()
    assert ids(written(on_base, [asked(3)])) == before


def test_an_adapter_that_cannot_be_loaded_is_an_error_at_once(writers, options, tmp_path):
    torn = tmp_path / "torn"
    torn.mkdir()
    (torn / "adapter_config.json").write_text((writers.one / "adapter_config.json").read_text())
    (torn / "adapter_model.safetensors").write_bytes((writers.one / "adapter_model.safetensors").read_bytes()[:9000])
    with pytest.raises(EngineError, match="vllm.log"):
        VllmEngine(Weights(writers.base, torn), options, logs=tmp_path)


def test_a_python_without_vllm_says_how_to_install_it(writers, tmp_path):
    with pytest.raises(EngineError, match="make install-vllm"):
        VllmEngine(Weights(writers.base), VllmOptions(tmp_path / "python"), logs=tmp_path)
