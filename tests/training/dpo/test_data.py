import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers.processors import TemplateProcessing

from generation.engines.loading import encode_prompt, load_tokenizer, render_prompt
from tests.training.dpo.helpers import pair, write_pairs
from training.dpo.data import BadData, Dataset, Group, Pair, micro_batches, optimizer_batches, read_pairs

TEMPLATE = "{% for m in messages %}user: {{ m.content }}\n{% endfor %}story: "


@pytest.fixture
def tokenizer(tiny_model: Path) -> Any:
    return load_tokenizer(tiny_model)


@pytest.fixture
def bos_tokenizer(tokenizer: Any) -> Any:
    """The same tokenizer, but it puts a begin token before every text."""
    tokenizer.add_special_tokens({"bos_token": "<|begin|>"})
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|begin|> $A", special_tokens=[("<|begin|>", tokenizer.bos_token_id)]
    )
    assert tokenizer.encode("a")[0] == tokenizer.bos_token_id
    return tokenizer


def read(tmp_path: Path, tokenizer: Any, *rows: dict[str, Any], max_tokens: int = 200) -> Dataset:
    return read_pairs(write_pairs(tmp_path / "pairs.jsonl", rows), tokenizer, max_tokens=max_tokens)


# -- groups


def test_pairs_of_one_prompt_are_gathered_in_one_group(tmp_path: Path, tokenizer: Any):
    rows = [pair(0, rejected="bad"), pair(1), pair(0, rejected="worse")]
    dataset = read(tmp_path, tokenizer, *rows)
    assert [len(group.pairs) for group in dataset.groups] == [2, 1]
    assert dataset.pairs == 3


def test_each_distinct_story_of_a_prompt_stands_in_its_group_once(tmp_path: Path, tokenizer: Any):
    """A ranking of three stories is three pairs: each story is in two of them."""
    rows = [pair(chosen=c, rejected=r) for c, r in (("best", "middle"), ("best", "worst"), ("middle", "worst"))]
    (group,) = read(tmp_path, tokenizer, *rows).groups
    texts = [tokenizer.decode(ids, skip_special_tokens=True) for ids in group.completions]
    assert texts == ["best", "middle", "worst"]
    assert group.pairs == [Pair(0, 1, 1.0), Pair(0, 2, 1.0), Pair(1, 2, 1.0)]


def test_equal_stories_of_two_prompts_stay_apart(tmp_path: Path, tokenizer: Any):
    dataset = read(tmp_path, tokenizer, pair(0, chosen="same"), pair(1, chosen="same"))
    assert [len(group.completions) for group in dataset.groups] == [2, 2]


def test_both_stories_of_a_pair_follow_the_same_prompt(tmp_path: Path, tokenizer: Any):
    (group,) = read(tmp_path, tokenizer, pair(prompt="Write a story.\n")).groups
    assert tokenizer.decode(group.prompt_ids) == "Write a story.\n"


def test_a_weight_belongs_to_its_pair(tmp_path: Path, tokenizer: Any):
    dataset = read(tmp_path, tokenizer, pair(0, weight=0.25), pair(1))
    assert [group.pairs[0].weight for group in dataset.groups] == [0.25, 1.0]


def test_other_columns_are_passed_over(tmp_path: Path, tokenizer: Any):
    assert read(tmp_path, tokenizer, pair(judge="anna", criterion=None)).pairs == 1


def test_empty_lines_are_passed_over(tmp_path: Path, tokenizer: Any):
    path = tmp_path / "pairs.jsonl"
    path.write_text(f"\n{json.dumps(pair(0))}\n\n{json.dumps(pair(1))}\n\n")
    assert read_pairs(path, tokenizer, max_tokens=200).pairs == 2


def test_chinese_stories_are_read(tmp_path: Path, tokenizer: Any):
    (group,) = read(tmp_path, tokenizer, pair(chosen="从前，有一只小狐狸。")).groups
    assert tokenizer.decode(group.completions[0], skip_special_tokens=True) == "从前，有一只小狐狸。"


# -- tokens


def test_a_story_ends_with_the_end_token_once(tmp_path: Path, tokenizer: Any):
    (group,) = read(tmp_path, tokenizer, pair()).groups
    for ids in group.completions:
        assert [index for index, token in enumerate(ids) if token == tokenizer.eos_token_id] == [len(ids) - 1]


def test_a_story_that_brings_its_end_token_as_text_gets_no_second(tmp_path: Path, tokenizer: Any):
    (plain,) = read(tmp_path, tokenizer, pair(chosen="A fox.")).groups
    (ended,) = read(tmp_path, tokenizer, pair(chosen="A fox.<|end|>")).groups
    assert ended.completions == plain.completions


def test_the_samplers_ids_are_used_though_the_text_tokenizes_otherwise(tmp_path: Path, tokenizer: Any):
    sampled = [token for letter in "fox" for token in tokenizer.encode(letter)]
    assert sampled != tokenizer.encode("fox")  # the tokenizer merges what was sampled letter by letter
    (group,) = read(tmp_path, tokenizer, pair(chosen="fox", chosen_ids=sampled)).groups
    assert group.completions[0] == [*sampled, tokenizer.eos_token_id]


def test_the_samplers_ids_of_the_rejected_are_used_too(tmp_path: Path, tokenizer: Any):
    sampled = [token for letter in "fox" for token in tokenizer.encode(letter)]
    (group,) = read(tmp_path, tokenizer, pair(rejected="fox", rejected_ids=sampled)).groups
    assert group.completions[1] == [*sampled, tokenizer.eos_token_id]


def test_sampled_ids_that_bring_their_end_token_get_no_second(tmp_path: Path, tokenizer: Any):
    ended = [30, 31, tokenizer.eos_token_id]
    (group,) = read(tmp_path, tokenizer, pair(chosen_ids=ended)).groups
    assert group.completions[0] == ended


def test_prompt_and_story_do_not_merge_across_their_boundary(tmp_path: Path, tokenizer: Any):
    """ "f" + "ox" would be one word if the two were tokenized as one text."""
    (group,) = read(tmp_path, tokenizer, pair(prompt="A f", chosen="ox")).groups
    assert tokenizer.decode(group.prompt_ids) == "A f"
    assert tokenizer.decode(group.completions[0]) == "ox<|end|>"


def test_the_begin_token_stands_once_before_the_prompt(tmp_path: Path, bos_tokenizer: Any):
    (group,) = read(tmp_path, bos_tokenizer, pair()).groups
    assert group.prompt_ids[0] == bos_tokenizer.bos_token_id
    assert group.prompt_ids.count(bos_tokenizer.bos_token_id) == 1


def test_no_begin_token_stands_before_a_story(tmp_path: Path, bos_tokenizer: Any):
    (group,) = read(tmp_path, bos_tokenizer, pair()).groups
    assert not any(bos_tokenizer.bos_token_id in ids for ids in group.completions)


def test_a_prompt_that_brings_its_begin_token_gets_no_second(tmp_path: Path, bos_tokenizer: Any):
    (group,) = read(tmp_path, bos_tokenizer, pair(prompt="<|begin|>Write.\n")).groups
    assert group.prompt_ids.count(bos_tokenizer.bos_token_id) == 1


def test_a_begin_token_that_the_tokenizer_does_not_put_is_not_put(tmp_path: Path, tokenizer: Any):
    """Qwen's tokenizers name one and never write it."""
    tokenizer.add_special_tokens({"bos_token": "<|begin|>"})
    (group,) = read(tmp_path, tokenizer, pair()).groups
    assert tokenizer.bos_token_id not in group.prompt_ids


@pytest.mark.parametrize("template", [None, TEMPLATE], ids=["plain", "chat"])
def test_the_prompt_is_what_the_sampler_saw(tmp_path: Path, tokenizer: Any, template: str | None):
    tokenizer.chat_template = template
    rendered = render_prompt(tokenizer, "Write a story about a fox.")
    (group,) = read(tmp_path, tokenizer, pair(prompt=rendered)).groups
    assert group.prompt_ids == encode_prompt(tokenizer, rendered)


@pytest.mark.parametrize(
    "template",
    [
        None,
        "<|begin|>" + TEMPLATE,
        TEMPLATE,
    ],
    ids=["plain", "chat that begins", "chat that does not begin"],
)
def test_the_begin_token_is_where_the_sampler_saw_it(tmp_path: Path, bos_tokenizer: Any, template: str | None):
    bos_tokenizer.chat_template = template
    rendered = render_prompt(bos_tokenizer, "Write a story about a fox.")
    (group,) = read(tmp_path, bos_tokenizer, pair(prompt=rendered)).groups
    assert group.prompt_ids == encode_prompt(bos_tokenizer, rendered)


# -- length


def test_pairs_that_are_too_long_are_left_out_and_counted(tmp_path: Path, tokenizer: Any):
    dataset = read(tmp_path, tokenizer, pair(0), pair(1, chosen="fox " * 300), pair(2, rejected="fox " * 300))
    assert (dataset.pairs, dataset.too_long) == (1, 2)


def test_a_pair_of_exactly_the_limit_is_kept_whole(tmp_path: Path, tokenizer: Any):
    row = pair(prompt="Write.\n", chosen="A fox came home.", rejected="no")
    needed = len(tokenizer.encode("Write.\n")) + len(tokenizer.encode("A fox came home.")) + 1
    (group,) = read(tmp_path, tokenizer, row, max_tokens=needed).groups
    assert len(group.prompt_ids) + len(group.completions[0]) == needed


def test_a_pair_of_one_token_more_than_the_limit_is_left_out(tmp_path: Path, tokenizer: Any):
    row = pair(prompt="Write.\n", chosen="A fox came home.", rejected="no")
    needed = len(tokenizer.encode("Write.\n")) + len(tokenizer.encode("A fox came home.")) + 1
    dataset = read(tmp_path, tokenizer, row, pair(prompt="W\n", chosen="a", rejected="b"), max_tokens=needed - 1)
    assert (dataset.pairs, dataset.too_long) == (1, 1)


def test_a_story_that_is_too_long_leaves_the_other_pairs_of_its_prompt(tmp_path: Path, tokenizer: Any):
    (group,) = read(tmp_path, tokenizer, pair(rejected="fox " * 300), pair(rejected="short")).groups
    assert len(group.completions) == 2


def test_a_file_of_pairs_that_are_all_too_long_is_refused_with_the_reason(tmp_path: Path, tokenizer: Any):
    with pytest.raises(BadData, match="no pair to train on: all 2 are longer than 8 tokens"):
        read(tmp_path, tokenizer, pair(0), pair(1), max_tokens=8)


# -- bad files


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "not valid JSON"),
        ("[]", '"prompt" is missing, empty or not text'),
        ('"prompt"', '"prompt" is missing, empty or not text'),
        ('{"prompt": "p", "chosen": "c"}', '"rejected" is missing, empty or not text'),
        ('{"prompt": "p", "rejected": "r"}', '"chosen" is missing, empty or not text'),
        ('{"chosen": "c", "rejected": "r"}', '"prompt" is missing, empty or not text'),
        ('{"prompt": "p", "chosen": "", "rejected": "r"}', '"chosen" is missing, empty or not text'),
        ('{"prompt": "p", "chosen": " \\n", "rejected": "r"}', '"chosen" is missing, empty or not text'),
        ('{"prompt": "p", "chosen": ["c"], "rejected": "r"}', '"chosen" is missing, empty or not text'),
        ('{"prompt": "p", "chosen": "c", "rejected": "c"}', "chosen and rejected are the same story"),
        ('{"prompt": "p", "chosen": "c", "rejected": "r", "weight": 0}', "weight is 0.0: it must be above 0"),
        ('{"prompt": "p", "chosen": "c", "rejected": "r", "weight": -1}', "weight is -1.0: it must be above 0"),
        ('{"prompt": "p", "chosen": "c", "rejected": "r", "weight": NaN}', "weight is nan: it must be above 0"),
        ('{"prompt": "p", "chosen": "c", "rejected": "r", "weight": Infinity}', "weight is inf"),
    ],
)
def test_a_bad_line_is_named_with_its_number_and_reason(tmp_path: Path, tokenizer: Any, line: str, reason: str):
    path = tmp_path / "pairs.jsonl"
    path.write_text(f"{json.dumps(pair(0))}\n\n{line}\n")
    with pytest.raises(BadData) as caught:
        read_pairs(path, tokenizer, max_tokens=200)
    assert str(caught.value).startswith(f"pairs.jsonl, line 3: {reason}")


@pytest.mark.parametrize("weight", ["heavy", None, [1]])
def test_a_weight_that_is_no_number_is_named_with_its_line(tmp_path: Path, tokenizer: Any, weight: Any):
    with pytest.raises(BadData, match="line 2: weight"):
        read(tmp_path, tokenizer, pair(0), pair(1, weight=weight))


@pytest.mark.parametrize("ids", ["abc", [1.5, 2.5], ["a"], [-1]])
def test_sampled_ids_that_are_no_token_ids_are_named_with_their_line(tmp_path: Path, tokenizer: Any, ids: Any):
    with pytest.raises(BadData, match="line 2: .*chosen_ids"):
        read(tmp_path, tokenizer, pair(0), pair(1, chosen_ids=ids))


def test_a_file_that_is_not_utf_8_is_refused_as_such(tmp_path: Path, tokenizer: Any):
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(json.dumps(pair(chosen="Füchse"), ensure_ascii=False).encode("latin-1"))
    with pytest.raises(BadData, match="UTF-8"):
        read_pairs(path, tokenizer, max_tokens=200)


@pytest.mark.parametrize("text", ["", "\n\n"])
def test_an_empty_file_is_refused(tmp_path: Path, tokenizer: Any, text: str):
    path = tmp_path / "pairs.jsonl"
    path.write_text(text)
    with pytest.raises(BadData, match=r"pairs.jsonl holds no pair to train on\."):
        read_pairs(path, tokenizer, max_tokens=200)


def test_a_missing_file_is_named(tmp_path: Path, tokenizer: Any):
    with pytest.raises(BadData, match="There is no data file .*/absent.jsonl"):
        read_pairs(tmp_path / "absent.jsonl", tokenizer, max_tokens=200)


# -- batches


def groups_of(*sizes: int) -> list[Group]:
    """Groups of so many pairs each, every story of its own."""
    return [
        Group([number], [[i] for i in range(size + 1)], [Pair(0, i + 1, 1.0) for i in range(size)])
        for number, size in enumerate(sizes)
    ]


def numbers(batches: list[list[Group]]) -> list[list[int]]:
    return [[group.prompt_ids[0] for group in batch] for batch in batches]


some_groups = st.lists(st.integers(1, 9), min_size=1, max_size=30).map(lambda sizes: groups_of(*sizes))


@given(some_groups, st.integers(1, 20), st.integers(0, 2**32))
def test_batches_hold_every_group_once(groups: list[Group], batch_pairs: int, seed: int):
    found = [number for batch in numbers(optimizer_batches(groups, batch_pairs, seed=seed)) for number in batch]
    assert sorted(found) == list(range(len(groups)))


@given(some_groups, st.integers(1, 20), st.integers(0, 2**32))
def test_batches_but_the_last_have_the_pairs_asked_for(groups: list[Group], batch_pairs: int, seed: int):
    for batch in optimizer_batches(groups, batch_pairs, seed=seed)[:-1]:
        assert sum(len(group.pairs) for group in batch) >= batch_pairs


@given(some_groups, st.integers(1, 20), st.integers(0, 2**32))
def test_batches_have_no_more_than_their_last_group_above_the_pairs_asked_for(
    groups: list[Group], batch_pairs: int, seed: int
):
    for batch in optimizer_batches(groups, batch_pairs, seed=seed):
        assert sum(len(group.pairs) for group in batch[:-1]) < batch_pairs


def test_a_prompts_pairs_stay_together():
    """Six pairs of one prompt are one batch, though two were asked for."""
    (batch,) = optimizer_batches(groups_of(6), 2, seed=1)
    assert len(batch[0].pairs) == 6


def test_the_order_of_batches_comes_from_the_seed():
    groups = groups_of(*[1] * 30)
    once, again, other = (numbers(optimizer_batches(groups, 4, seed=seed)) for seed in (1, 1, 2))
    assert once == again
    assert once != other


def test_batches_are_not_in_the_order_of_the_file():
    (batch,) = numbers(optimizer_batches(groups_of(*[1] * 30), 30, seed=1))
    assert batch != sorted(batch)


@given(some_groups, st.integers(2, 20))
def test_micro_batches_cut_a_batch_without_changing_it(groups: list[Group], stories: int):
    assert [group for part in micro_batches(groups, stories) for group in part] == groups


@given(some_groups, st.integers(2, 20))
def test_a_micro_batch_exceeds_the_limit_only_if_one_group_does(groups: list[Group], stories: int):
    for part in micro_batches(groups, stories):
        assert len(part) == 1 or sum(len(group.completions) for group in part) <= stories


def test_micro_batches_are_as_full_as_the_limit_allows():
    assert numbers(micro_batches(groups_of(1, 1, 1, 1, 1), 4)) == [[0, 1], [2, 3], [4]]


@given(some_groups, st.integers(2, 20))
def test_no_micro_batch_is_empty(groups: list[Group], stories: int):
    assert all(micro_batches(groups, stories))
