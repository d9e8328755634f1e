"""The engines' benchmark: what it asks of each engine, what it measures, and what it refuses to print."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from generation.bench import __main__ as bench
from generation.bench import lab
from generation.bench.adapter import adapter_in_use
from generation.bench.case import Case, Measured, Wrong, cpu_seconds, descendants, measure, peak_memory_mb
from generation.engines.loading import load_tokenizer, stop_token_ids
from generation.engines.values import Request
from tests.environment import installed_vllm

SMALL = ["--prompts", "2", "--stories", "2", "--tokens", "8", "--batch", "4"]


def case(**changes: Any) -> Case:
    given = {"model": "/nowhere", "prompts": ("one", "two"), "stories": 2, "tokens": 8, "natural": False, "batch": 4}
    given |= {"temperature": 1.0, "top_p": 1.0, "min_p": 0.0, "seed": 10, "vllm_python": "/nowhere/python"}
    return Case(**{**given, **changes})


def measured(**changes: Any) -> Measured:
    given = {"version": "1", "stories": 4, "tokens": 32, "cpu_seconds": 2.0, "wall_seconds": 4.0}
    return Measured(**{**given, "start_seconds": 1.0, "peak_memory_mb": 100.0, **changes})


# --- what is asked -----------------------------------------------------------------------------------------


def test_every_story_has_a_seed_of_its_own():
    requests = case().requests()
    assert [(r.prompt, r.sampling.seed) for r in requests] == [("one", 10), ("one", 11), ("two", 12), ("two", 13)]


def test_prompts_begin_again_where_there_are_not_enough():
    found = lab.prompts(1000)
    assert len(found) == 1000
    assert len(set(found)) == len(lab.PROMPTS.read_text().splitlines())


def test_the_model_made_on_the_spot_is_the_same_every_time(tmp_path):
    one, other = (lab.make_model(tmp_path / name) / "model.safetensors" for name in ("one", "other"))
    assert one.read_bytes() == other.read_bytes()


def test_the_copy_without_an_end_has_no_token_that_ends_a_story(tiny_model, tmp_path):
    copy = lab.without_end(tiny_model, tmp_path / "copy")
    tokenizer = load_tokenizer(copy)
    assert tokenizer.eos_token_id >= json.loads((copy / "config.json").read_text())["vocab_size"]
    assert stop_token_ids(copy, tokenizer) == ()


# --- what is measured --------------------------------------------------------------------------------------


def test_the_time_of_child_processes_counts():
    before = cpu_seconds()
    busy = "import time\nwhile time.process_time() < 0.5: pass"
    subprocess.run([sys.executable, "-c", busy], check=True)
    assert cpu_seconds() - before >= 0.5


def test_a_child_process_that_is_still_alive_counts_too():
    before, memory = cpu_seconds(), peak_memory_mb()
    busy = "import time\nx = b'x' * 50_000_000\nwhile time.process_time() < 0.5: pass\nprint('.', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", busy], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout
        child.stdout.readline()
        assert child.pid in descendants(os.getpid())
        assert cpu_seconds() - before >= 0.45
        assert peak_memory_mb() - memory > 50
        child.communicate(b"\n")


def test_the_warm_up_is_not_counted():
    asked: list[int] = []

    def write(requests: list[Request]) -> list[int]:
        asked.append(len(requests))
        return [request.sampling.max_tokens for request in requests]

    found = measure(case(prompts=("a", "b", "c"), tokens=20, started=time.time()), write, "1")
    assert (asked, found.stories, found.tokens) == ([4, 6], 6, 120)


@pytest.mark.parametrize("counts", [[8, 8, 8], [8, 8, 7, 8]], ids=["a story missing", "a story too short"])
def test_another_amount_of_writing_than_was_asked_for_is_refused(counts):
    with pytest.raises(Wrong, match="stories of . to 8 tokens were written"):
        measure(case(), lambda requests: counts, "1")


def test_stories_that_end_by_themselves_may_have_any_length():
    assert measure(case(natural=True), lambda requests: [8, 3, 0, 5], "1").tokens == 16


def test_ratios_are_of_tokens_per_cpu_second():
    found = bench.ratios({"transformers": measured(), "generate_loop": measured(tokens=64, cpu_seconds=8.0)})
    assert found == {"transformers/generate_loop": 2.0}


# --- whole runs --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def figures(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("bench") / "figures.json"
    options = ["--model", str(tiny_model), "--engines", "transformers", "generate_loop", *SMALL]
    assert bench.main([*options, "--json", str(path)]) == 0
    return json.loads(path.read_text())


@pytest.mark.parametrize("name", ["transformers", "generate_loop"])
def test_a_run_gives_the_figures_that_the_design_names(figures, name):
    found = figures["engines"][name]
    assert found["tokens"] == 2 * 2 * 8
    assert found["tokens_per_cpu_second"] == pytest.approx(32 / found["cpu_seconds"])
    assert found["start_seconds"] > 0.1
    assert found["peak_memory_mb"] > 100
    assert found["wall_seconds"] > 0


def test_a_run_tells_how_the_engines_compare(figures):
    rates = {name: found["tokens_per_cpu_second"] for name, found in figures["engines"].items()}
    assert figures["ratios"] == {
        "transformers/generate_loop": pytest.approx(rates["transformers"] / rates["generate_loop"])
    }


def test_the_figures_say_what_they_belong_to(figures):
    assert (figures["seed"], figures["case"]["tokens"], figures["prompts"]) == (42, 8, 2)
    assert set(figures) > {"command", "commit", "versions"}


def test_stories_of_a_trained_model_can_end_by_themselves(tmp_path, capsys):
    from tests.models import make_tiny_model

    model = make_tiny_model(tmp_path / "model", trained=True)
    options = ["--model", str(model), "--natural", "--engines", "generate_loop", *SMALL]
    assert bench.main(options) == 0
    assert "4 stories" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vllm", "vllm_bare"])
def test_vllm_is_measured_in_its_own_environment(tmp_path, name):
    path = tmp_path / "figures.json"
    options = ["--engines", name, *SMALL, "--vllm-python", str(installed_vllm())]
    assert bench.main([*options, "--json", str(path)]) == 0
    assert json.loads(path.read_text())["engines"][name]["tokens"] == 32


# --- what it refuses ---------------------------------------------------------------------------------------


def test_natural_ends_need_a_model_that_has_learned_to_end(capsys):
    assert bench.main(["--natural"]) == 2
    assert "--natural needs --model" in capsys.readouterr().err


def test_a_missing_vllm_says_how_to_get_it(tiny_model, tmp_path, capsys):
    options = ["--model", str(tiny_model), "--engines", "vllm", "--vllm-python", str(tmp_path / "python")]
    assert bench.main(options) == 1
    assert "There is no vLLM at" in capsys.readouterr().err


def test_a_folder_that_is_no_model_is_told(tmp_path, capsys):
    assert bench.main(["--model", str(tmp_path / "nothing"), "--engines", "transformers"]) == 1
    assert "is not a directory" in capsys.readouterr().err


def test_an_engine_that_fails_says_why(tmp_path):
    with pytest.raises(Wrong, match=r"(?s)transformers: .*is not a directory"):
        bench.side("transformers", case(model=str(tmp_path / "nothing")), tmp_path)


def test_the_benchmark_knows_no_django():
    code = (
        "import sys, generation.bench.side, generation.bench.vllm_bare, generation.bench.__main__; print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=bench.ROOT, capture_output=True, text=True, check=True)
    assert {"django", "torch", "vllm"} & set(done.stdout.split()) == set()


@pytest.mark.slow
@pytest.mark.vllm
def test_a_rounds_adapter_writes_on_a_server_that_is_busy(tmp_path):
    """Figures for a person: that they are below a second is for the benchmark to say, not for a test."""
    model = lab.without_end(lab.make_model(tmp_path / "made"), tmp_path / "model")
    found = adapter_in_use(case(model=str(model), tokens=64, vllm_python=str(installed_vllm())), tmp_path)
    assert 0 < found["load_seconds"] < found["first_token_seconds"]
