from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from generation.engines.loading import load_model, load_tokenizer
from tests.models import make_tiny_model
from tests.training.dpo.helpers import Run, naive_logp, pair, run, write_pairs
from training.dpo.data import Group, Pair, read_pairs
from training.dpo.plan import Batch, Term, Work, group_tokens
from training.dpo.reference import ReferenceLogps, compute, distinct_groups

A = Group([20, 21], [[30, 31, 0], [32], [33] * 9])
B = Group([22], [[30, 31, 0]])


def known(*groups: Group) -> ReferenceLogps:
    """Other numbers for each token of each story."""
    found = ReferenceLogps()
    for index, group in enumerate(groups):
        found.add(group, [torch.arange(len(c)) - 100.0 * index - 10.0 * i for i, c in enumerate(group.completions)])
    return found


def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return len(one) == len(other) and all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def read(path: Path) -> ReferenceLogps:
    found = ReferenceLogps()
    found.read(path)
    return found


def test_what_is_added_is_found():
    logps = [torch.randn(3), torch.randn(1), torch.randn(9)]
    reference = ReferenceLogps()
    reference.add(A, logps)
    assert same(reference.of(A), logps)


def test_stories_are_found_in_another_order_and_in_another_group():
    reference = known(A)
    turned = Group(A.prompt_ids, [A.completions[2], A.completions[0]])
    assert same(reference.of(turned), [reference.of(A)[2], reference.of(A)[0]])


def test_the_same_story_behind_another_prompt_is_another_story():
    assert not known(A).lacks(A)
    assert known(A).lacks(B)
    with pytest.raises(KeyError):
        known(A).of(B)


def test_tokens_that_move_from_the_prompt_into_the_story_make_another_story():
    assert known(Group([20, 21], [[22, 23]])).lacks(Group([20, 21, 22], [[23]]))
    assert known(Group([20, 21], [[22, 23]])).lacks(Group([20], [[21, 22, 23]]))


def test_large_token_ids_are_told_apart():
    assert known(Group([1], [[1]])).lacks(Group([1], [[1 + (1 << 16)]]))
    assert known(Group([1], [[1, 0]])).lacks(Group([1], [[1]]))


def test_one_story_that_is_lacking_makes_its_group_lacking():
    more = Group(A.prompt_ids, [*A.completions, [40]])
    assert known(A).lacks(more)


def test_as_many_numbers_as_stories_are_wanted():
    with pytest.raises(ValueError, match="shorter"):
        ReferenceLogps().add(A, [torch.zeros(3)])


def test_a_file_gives_back_what_was_written(tmp_path: Path):
    reference = known(A, B)
    reference.write(tmp_path / "new" / "reference.safetensors")
    found = read(tmp_path / "new" / "reference.safetensors")
    assert found.found.keys() == reference.found.keys()
    assert same(found.of(A), reference.of(A))
    assert same(found.of(B), reference.of(B))


def test_what_is_read_is_added_to_what_is_known(tmp_path: Path):
    known(A).write(tmp_path / "a")
    reference = known(B)
    reference.read(tmp_path / "a")
    assert not reference.lacks(A)
    assert not reference.lacks(B)


def test_writing_leaves_nothing_beside_the_file(tmp_path: Path):
    known(A).write(tmp_path / "a")
    known(A, B).write(tmp_path / "a")
    assert [file.name for file in tmp_path.iterdir()] == ["a"]
    assert not read(tmp_path / "a").lacks(B)


def test_a_file_that_is_not_there_holds_nothing(tmp_path: Path):
    assert read(tmp_path / "absent").found == {}


@pytest.mark.parametrize("kept", [0, 1, 7, 8, 40, -1, -4])
def test_a_truncated_file_holds_nothing(kept: int, tmp_path: Path):
    path = tmp_path / "a"
    known(A, B).write(path)
    path.write_bytes(path.read_bytes()[:kept])
    assert read(path).found == {}


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff" * 64, b"\x02\0\0\0\0\0\0\0{}", b"broken" * 100])
def test_a_file_of_something_else_holds_nothing(content: bytes, tmp_path: Path):
    (tmp_path / "a").write_bytes(content)
    assert read(tmp_path / "a").found == {}


def test_a_directory_in_its_place_holds_nothing(tmp_path: Path):
    assert read(tmp_path).found == {}


@pytest.mark.parametrize(
    "changes",
    [
        {"lengths": torch.tensor([3, 1, 9, 4])},
        {"lengths": torch.tensor([3, 1, -9, 3])},
        {"lengths": torch.tensor([3.0, 1.0, 9.0, 3.0])},
        {"lengths": torch.tensor([3, 1, 12])},
        {"keys": torch.arange(48, dtype=torch.uint8).view(3, 16)},
        {"logps": torch.zeros(2)},
    ],
)
def test_a_file_whose_parts_do_not_fit_holds_nothing(changes: dict[str, torch.Tensor], tmp_path: Path):
    known(A, B).write(tmp_path / "a")
    save_file({**load_file(tmp_path / "a"), **changes}, tmp_path / "b")
    assert read(tmp_path / "b").found == {}


def test_what_is_kept_does_not_change_with_the_tensor_it_came_from():
    logps = torch.zeros(13)
    reference = ReferenceLogps()
    compute(reference, [A], lambda groups: list(logps.clone().split([3, 1, 9])), 99)
    before = [t.clone() for t in reference.of(A)]
    logps += 1
    assert same(reference.of(A), before)


def test_what_is_computed_has_no_gradient():
    weight = torch.ones(13, requires_grad=True)
    reference = ReferenceLogps()
    compute(reference, [A], lambda groups: list((2 * weight).split([3, 1, 9])), 99)
    assert not any(t.requires_grad for t in reference.of(A))


def batch(*groups: Group) -> Batch:
    return [Work(group, [Term(0, len(group.completions) - 1, 1.0, 1.0)]) for group in groups]


def stories(groups: list[Group]) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    return [(tuple(g.prompt_ids), tuple(c)) for g in groups for c in g.completions]


def test_each_story_is_computed_once_behind_each_prompt():
    again = Group(A.prompt_ids, [A.completions[2], [50, 51], A.completions[0]])
    found = stories(distinct_groups([batch(A, B), batch(again), batch(B, A)], 1000))
    assert len(found) == len(set(found)) == 5
    assert set(found) == {*stories([A, B, again])}


def test_stories_of_a_prompt_are_computed_together_if_there_is_room():
    found = distinct_groups([batch(A), batch(Group(A.prompt_ids, [[50]]))], group_tokens(A) + 1)
    assert [g.completions for g in found] == [[*A.completions, [50]]]


@pytest.mark.parametrize("tokens", [1, 5, 6, 11, 14, 15, 16, 1000])
def test_pieces_hold_no_more_tokens_than_they_may(tokens: int):
    found = distinct_groups([batch(A, B)], tokens)
    assert set(stories(found)) == set(stories([A, B]))
    assert all(group_tokens(g) <= tokens or len(g.completions) == 1 for g in found)
    assert all(g.completions for g in found)


def test_the_groups_of_the_data_are_left_as_they_are():
    mine = Group([20, 21], [[30], [31]], [Pair(0, 1)])
    for piece in distinct_groups([batch(mine)], 1000):
        piece.completions.append([99])
        piece.prompt_ids.append(99)
    assert (mine.prompt_ids, mine.completions) == ([20, 21], [[30], [31]])


ROWS = [pair(i) for i in range(3)]


def implied(done: Run, beta: float) -> list[float]:
    """What each step took the reference's mean over chosen stories to be."""
    return [step.logps_chosen - step.rewards_chosen / beta for step in done.metrics]


def chosen_logp(model: Any, tokenizer: Any, rows: Path) -> float:
    """Mean over the chosen stories, by another model than was trained."""
    groups = read_pairs(rows, tokenizer, max_tokens=2048).groups
    found = [naive_logp(model, g.prompt_ids, g.completions[p.chosen]) for g in groups for p in g.pairs]
    return sum(found) / len(found)


def tied_model(directory: Path) -> Path:
    from transformers import LlamaForCausalLM

    make_tiny_model(directory)
    config = LlamaForCausalLM.from_pretrained(directory).config
    config.tie_word_embeddings = True
    torch.manual_seed(4)
    (directory / "model.safetensors").unlink()
    LlamaForCausalLM(config).save_pretrained(directory)
    return directory


@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("tied", [True, False])
def test_the_reference_stays_what_it_was_while_the_policy_learns(method: str, tied: bool, tmp_path: Path):
    model = (tied_model if tied else make_tiny_model)(tmp_path / "model")
    settings = {"method": method, "learning_rate": 5e-3, "epochs": 10, "batch_pairs": 8, "precision": "fp32"}
    done = run(model, tmp_path / "out", ROWS, beta=0.5, **settings)
    wanted = chosen_logp(load_model(model), load_tokenizer(model), tmp_path / "out.jsonl")
    assert len(done.metrics) == 10
    assert abs(done.metrics[-1].rewards_chosen) + abs(done.metrics[-1].rewards_rejected) > 0.5
    assert implied(done, 0.5) == pytest.approx([wanted] * 10, abs=1e-3)


def test_the_reference_of_an_adapter_is_the_policy_that_it_begins_with(tiny_model: Path, lora_run: Run, tmp_path: Path):
    """Not the bare model below it."""
    adapter = lora_run.result.directory
    settings = {"method": "lora", "learning_rate": 1e-3, "epochs": 3, "batch_pairs": 8, "precision": "fp32"}
    done = run(tiny_model, tmp_path / "out", ROWS, adapter=adapter, beta=0.5, **settings)
    parent = chosen_logp(load_model(tiny_model, adapter), load_tokenizer(tiny_model), tmp_path / "out.jsonl")
    assert implied(done, 0.5) == pytest.approx([parent] * 3, abs=1e-3)


def test_another_reference_is_the_one_that_counts(tiny_model: Path, tmp_path: Path):
    other = make_tiny_model(tmp_path / "other", seed=5)
    done = run(tiny_model, tmp_path / "out", ROWS, reference=other, beta=0.5, epochs=2, batch_pairs=8, precision="fp32")
    wanted = chosen_logp(load_model(other), load_tokenizer(other), tmp_path / "out.jsonl")
    assert implied(done, 0.5) == pytest.approx([wanted] * 2, abs=1e-3)


@pytest.mark.parametrize("tokens", [1, 30])
def test_another_reference_is_asked_a_story_at_a_time_if_no_more_fit(tokens: int, tiny_model: Path, tmp_path: Path):
    other = make_tiny_model(tmp_path / "other", seed=5)
    settings = {"reference": other, "epochs": 1, "batch_pairs": 8, "precision": "fp32"}
    whole = run(tiny_model, tmp_path / "whole", ROWS, **settings)
    cut = run(tiny_model, tmp_path / "cut", ROWS, micro_batch_tokens=tokens, **settings)
    assert implied(cut, 0.2) == pytest.approx(implied(whole, 0.2), abs=1e-3)


def test_a_broken_file_of_an_earlier_run_is_computed_again(tiny_model: Path, tmp_path: Path):
    settings = {"epochs": 1, "batch_pairs": 8, "precision": "fp32"}
    first = run(tiny_model, tmp_path / "first", ROWS, cache=tmp_path / "cache", **settings)
    (file,) = (tmp_path / "cache").iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    second = run(tiny_model, tmp_path / "second", ROWS, cache=tmp_path / "cache", **settings)
    assert second.metrics == first.metrics
    assert file.read_bytes() == whole


def test_a_file_of_an_earlier_run_holds_what_a_step_is_measured_against(tiny_model: Path, tmp_path: Path):
    """Numbers that are changed in it change the loss: it is read."""
    settings = {"epochs": 1, "batch_pairs": 8, "precision": "fp32", "beta": 0.5, "reference": tiny_model}
    run(tiny_model, tmp_path / "first", ROWS, cache=tmp_path / "cache", **settings)
    (file,) = (tmp_path / "cache").iterdir()
    tensors = load_file(file)
    save_file({**tensors, "logps": tensors["logps"] - 1}, file)
    done = run(tiny_model, tmp_path / "second", ROWS, cache=tmp_path / "cache", **settings)
    assert done.metrics[0].rewards_chosen == pytest.approx(0.5 * done.metrics[0].lengths_chosen, rel=1e-4)


def test_a_prompt_that_is_added_later_is_computed_and_kept_with_the_rest(tiny_model: Path, tmp_path: Path):
    settings = {"epochs": 1, "batch_pairs": 8, "precision": "fp32"}
    run(tiny_model, tmp_path / "first", ROWS, cache=tmp_path / "cache", **settings)
    rows = [*ROWS, pair(3)]
    run(tiny_model, tmp_path / "second", rows, cache=tmp_path / "cache", **settings)
    (file,) = (tmp_path / "cache").iterdir()
    data = read_pairs(write_pairs(tmp_path / "rows", rows), load_tokenizer(tiny_model), max_tokens=2048)
    reference = read(file)
    assert not any(reference.lacks(group) for group in data.groups)
    assert len(reference.found) == len(list(chain(*(g.completions for g in data.groups))))
