import json
from pathlib import Path
from typing import Any

import pytest

from generation.engines.loading import load_tokenizer
from tests.training.dpo.helpers import pair, write_pairs
from training.dpo.data import BadData, Dataset, Group, Pair, read_pairs


@pytest.fixture
def tokenizer(tiny_model: Path) -> Any:
    return load_tokenizer(tiny_model)


def read(tmp_path: Path, tokenizer: Any, *rows: dict[str, Any], max_tokens: int = 200, **more: Any) -> Dataset:
    return read_pairs(write_pairs(tmp_path / "pairs.jsonl", rows), tokenizer, max_tokens=max_tokens, **more)


def stories(tokenizer: Any, group: Group) -> list[str]:
    return [tokenizer.decode(ids, skip_special_tokens=True) for ids in group.completions]


def preferences(tokenizer: Any, group: Group) -> list[tuple[str, str]]:
    """(chosen, rejected) of each pair, as text."""
    texts = stories(tokenizer, group)
    return [(texts[pair.chosen], texts[pair.rejected]) for pair in group.pairs]


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
    assert stories(tokenizer, group) == ["best", "middle", "worst"]
    assert group.pairs == [Pair(0, 1, 1.0, 1.0), Pair(0, 2, 1.0, 1.0), Pair(1, 2, 1.0, 1.0)]


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
    assert read(tmp_path, tokenizer, pair(judge="anna", age_band=None)).pairs == 1


def test_the_margin_of_a_pair_is_its_own(tmp_path: Path, tokenizer: Any):
    (group,) = read(tmp_path, tokenizer, pair(weight=0.25, margin=3)).groups
    assert (group.pairs[0].weight, group.pairs[0].margin) == (0.25, 3.0)


def test_a_margin_of_zero_is_not_replaced_by_the_weight(tmp_path: Path, tokenizer: Any):
    (group,) = read(tmp_path, tokenizer, pair(weight=0.25, margin=0)).groups
    assert group.pairs[0].margin == 0.0


def test_the_margin_is_the_weight_where_none_is_given(tmp_path: Path, tokenizer: Any):
    (group,) = read(tmp_path, tokenizer, pair(weight=0.25)).groups
    assert group.pairs[0].margin == 0.25


def test_a_prompt_given_as_tokens_and_as_text_is_one_prompt(tmp_path: Path, tokenizer: Any):
    ids = tokenizer.encode("Write.\n")
    rows = [pair(prompt="Write.\n", rejected="bad"), pair(prompt="Write.\n", prompt_ids=ids, rejected="worse")]
    (group,) = read(tmp_path, tokenizer, *rows).groups
    assert (group.prompt_ids, len(group.pairs), len(group.completions)) == (ids, 2, 3)


def test_a_file_that_begins_with_a_byte_order_mark_is_read(tmp_path: Path, tokenizer: Any):
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps(pair()), encoding="utf-8-sig")
    assert read_pairs(path, tokenizer, max_tokens=200).pairs == 1


def test_a_line_separator_of_unicode_ends_no_line(tmp_path: Path, tokenizer: Any):
    (group,) = read(tmp_path, tokenizer, pair(chosen="one\u2028two\x85three")).groups
    assert stories(tokenizer, group)[0] == "one\u2028two\x85three"


def test_empty_lines_are_passed_over(tmp_path: Path, tokenizer: Any):
    path = tmp_path / "pairs.jsonl"
    path.write_text(f"\n{json.dumps(pair(0))}\n\n{json.dumps(pair(1))}\n\n")
    assert read_pairs(path, tokenizer, max_tokens=200).pairs == 2


def test_chinese_stories_are_read(tmp_path: Path, tokenizer: Any):
    (group,) = read(tmp_path, tokenizer, pair(chosen="从前，有一只小狐狸。")).groups
    assert tokenizer.decode(group.completions[0], skip_special_tokens=True) == "从前，有一只小狐狸。"


# -- comparisons


def compare(tmp_path: Path, tokenizer: Any, *completions: Any, **changes: Any) -> list[Group]:
    return read(tmp_path, tokenizer, {"prompt": "Write.\n", "completions": list(completions), **changes}).groups


def test_the_stories_of_a_comparison_stand_best_first(tmp_path: Path, tokenizer: Any):
    (group,) = compare(tmp_path, tokenizer, "best", "second", "worst")
    assert preferences(tokenizer, group) == [("best", "second"), ("best", "worst"), ("second", "worst")]


def test_a_lower_rank_is_preferred_wherever_it_stands(tmp_path: Path, tokenizer: Any):
    (group,) = compare(tmp_path, tokenizer, "worst", "best", "second", ranks=[3, 1, 2])
    assert preferences(tokenizer, group) == [("best", "second"), ("best", "worst"), ("second", "worst")]


def test_stories_of_one_rank_are_no_pair(tmp_path: Path, tokenizer: Any):
    (group,) = compare(tmp_path, tokenizer, "second", "best", "second too", ranks=[2, 1, 2])
    assert preferences(tokenizer, group) == [("best", "second"), ("best", "second too")]


def test_a_comparison_whose_stories_all_tie_is_no_pair(tmp_path: Path, tokenizer: Any):
    with pytest.raises(BadData, match=r"holds no pair to train on\.$"):
        compare(tmp_path, tokenizer, "one", "other", ranks=[1, 1])


def test_only_the_pairs_that_a_comparison_lists_are_trained_on(tmp_path: Path, tokenizer: Any):
    listed = [{"chosen": 2, "rejected": 0}, {"chosen": 1, "rejected": 0}]
    (group,) = compare(tmp_path, tokenizer, "a", "b", "c", pairs=listed)
    assert preferences(tokenizer, group) == [("c", "a"), ("b", "a")]


def test_a_listed_pair_has_its_own_weight_margin_and_criterion(tmp_path: Path, tokenizer: Any):
    listed = [{"chosen": 1, "rejected": 0, "weight": 0.5, "margin": 2, "criterion": "style"}]
    (group,) = compare(tmp_path, tokenizer, "a", "b", pairs=listed, criterion="structure")
    (found,) = group.pairs
    assert (found.weight, found.margin, found.criterion) == (0.5, 2.0, "style")


def test_a_listed_pair_without_a_criterion_has_its_comparisons(tmp_path: Path, tokenizer: Any):
    (group,) = compare(tmp_path, tokenizer, "a", "b", pairs=[{"chosen": 1, "rejected": 0}], criterion="structure")
    assert group.pairs[0].criterion == "structure"


def test_a_ranked_pair_has_its_comparisons_weight(tmp_path: Path, tokenizer: Any):
    (group,) = compare(tmp_path, tokenizer, "a", "b", weight=0.5)
    assert group.pairs[0].weight == 0.5


def test_a_listed_pair_without_a_weight_has_its_comparisons(tmp_path: Path, tokenizer: Any):
    (group,) = compare(tmp_path, tokenizer, "a", "b", pairs=[{"chosen": 1, "rejected": 0}], weight=0.5)
    assert group.pairs[0].weight == 0.5


def test_a_comparison_and_the_same_pairs_give_the_same_group(tmp_path: Path, tokenizer: Any):
    rows = [pair(prompt="Write.\n", chosen=c, rejected=r) for c, r in (("a", "b"), ("a", "c"), ("b", "c"))]
    assert compare(tmp_path, tokenizer, "a", "b", "c") == read(tmp_path, tokenizer, *rows).groups


def test_a_comparison_joins_the_pairs_of_its_prompt(tmp_path: Path, tokenizer: Any):
    rows = [pair(prompt="Write.\n", chosen="a", rejected="b"), {"prompt": "Write.\n", "completions": ["b", "c"]}]
    (group,) = read(tmp_path, tokenizer, *rows).groups
    assert preferences(tokenizer, group) == [("a", "b"), ("b", "c")]
    assert stories(tokenizer, group) == ["a", "b", "c"]


# -- criteria


def test_pairs_of_other_criteria_are_left_out_and_counted(tmp_path: Path, tokenizer: Any):
    rows = [pair(0, criterion="style"), pair(1, criterion="structure"), pair(2), pair(3, criterion="style")]
    dataset = read(tmp_path, tokenizer, *rows, criteria={"style"})
    assert (dataset.pairs, dataset.other_criteria) == (2, 2)
    assert {found.criterion for group in dataset.groups for found in group.pairs} == {"style"}


def test_a_pair_that_names_no_criterion_is_an_overall_one(tmp_path: Path, tokenizer: Any):
    dataset = read(tmp_path, tokenizer, pair(0), pair(1, criterion="style"), criteria={"overall"})
    assert (dataset.pairs, dataset.other_criteria) == (1, 1)


def test_pairs_of_all_criteria_are_kept_if_none_is_asked_for(tmp_path: Path, tokenizer: Any):
    dataset = read(tmp_path, tokenizer, pair(criterion="style"), pair(criterion="structure"))
    assert [found.criterion for found in dataset.groups[0].pairs] == ["style", "structure"]


def test_stories_of_other_criteria_do_not_stand_in_the_group(tmp_path: Path, tokenizer: Any):
    """They would go through the model for nothing."""
    rows = [pair(chosen="a", rejected="b", criterion="style"), pair(chosen="c", rejected="d")]
    (group,) = read(tmp_path, tokenizer, *rows, criteria={"style"}).groups
    assert stories(tokenizer, group) == ["a", "b"]


def test_a_file_without_the_criterion_is_refused_with_the_reason(tmp_path: Path, tokenizer: Any):
    with pytest.raises(BadData, match=r"no pair to train on: 2 of other criteria left out\.$"):
        read(tmp_path, tokenizer, pair(0), pair(1), criteria={"style"})


# -- equal stories


def test_pairs_of_equal_stories_are_left_out_and_counted(tmp_path: Path, tokenizer: Any):
    dataset = read(tmp_path, tokenizer, pair(0, chosen="same", rejected="same"), pair(1))
    assert (dataset.pairs, dataset.equal, len(dataset.groups)) == (1, 1, 1)


def test_a_story_that_was_cut_off_is_not_equal_to_one_that_ended_there(tmp_path: Path, tokenizer: Any):
    row = pair(chosen="A fox.", rejected="A fox.", rejected_finish_reason="length")
    dataset = read(tmp_path, tokenizer, row)
    assert (dataset.pairs, dataset.equal) == (1, 0)


def test_a_comparison_with_a_story_twice_keeps_its_other_pairs(tmp_path: Path, tokenizer: Any):
    """a > a is left out; a > b counts for each a."""
    row = {"prompt": "Write.\n", "completions": ["a", "a", "b"]}
    dataset = read(tmp_path, tokenizer, row)
    assert (dataset.pairs, dataset.equal) == (2, 1)
    assert preferences(tokenizer, dataset.groups[0]) == [("a", "b"), ("a", "b")]


def test_what_was_left_out_is_said_in_words():
    assert Dataset([], too_long=2, equal=1).left_out() == "2 too long, 1 with the same story on both sides left out"
    assert Dataset([]).left_out() == ""


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
    with pytest.raises(BadData, match=r"no pair to train on: 2 too long left out \(the limit is 8 tokens\)\.$"):
        read(tmp_path, tokenizer, pair(0), pair(1), max_tokens=8)


# -- bad files


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "not valid JSON"),
        ("[]", "no object of names and values"),
        ('"prompt"', "no object of names and values"),
        ('{"prompt": "p", "chosen": "c"}', '"rejected" is missing, empty or not text'),
        ('{"prompt": "p", "rejected": "r"}', '"chosen" is missing, empty or not text'),
        ('{"chosen": "c", "rejected": "r"}', '"prompt" is missing, empty or not text'),
        ('{"prompt": "p", "chosen": "", "rejected": "r"}', '"chosen" is missing, empty or not text'),
        ('{"prompt": "p", "chosen": " \\n", "rejected": "r"}', '"chosen" is missing, empty or not text'),
        ('{"prompt": "p", "chosen": ["c"], "rejected": "r"}', '"chosen" is missing, empty or not text'),
        ('{"prompt": "p", "chosen": "c", "rejected": "r", "weight": 0}', "weight is 0.0: it must be above 0"),
        (
            '{"prompt": "p", "chosen": "c", "rejected": "r", "weight": -1}',
            "weight is -1: it must be a number not below 0",
        ),
        (
            '{"prompt": "p", "chosen": "c", "rejected": "r", "weight": NaN}',
            "weight is nan: it must be a number not below 0",
        ),
        ('{"prompt": "p", "chosen": "c", "rejected": "r", "weight": Infinity}', "weight is inf: it must be"),
        ('{"prompt": "p", "chosen": "c", "rejected": "r", "weight": true}', "weight is True: it must be a number"),
        ('{"prompt": "p", "chosen": "c", "rejected": "r", "margin": -1}', "margin is -1: it must be a number not"),
        ('{"prompt": "p", "chosen": "c", "rejected": "r", "margin": "wide"}', "margin is 'wide': it must be a number"),
        ('{"prompt": "p", "chosen": "c", "rejected": "r", "criterion": 3}', "criterion is 3: it must be text"),
        ('{"prompt": "p", "completions": "one"}', "completions must be a list of two stories or more"),
        ('{"prompt": "p", "completions": ["one"]}', "completions must be a list of two stories or more"),
        ('{"prompt": "p", "completions": ["a", 7]}', '"completions[1]" is missing, empty or not text'),
        ('{"prompt": "p", "completions": ["a", " "]}', '"completions[1]" is missing, empty or not text'),
        ('{"prompt": "p", "completions": ["a", {}]}', '"completions[1]" is missing, empty or not text'),
        ('{"prompt": "p", "completions": ["a", "b"], "ranks": 1}', "ranks must be a list"),
        ('{"prompt": "p", "completions": ["a", "b"], "ranks": [1]}', "ranks must be a list of whole numbers, one for"),
        ('{"prompt": "p", "completions": ["a", "b"], "ranks": [1, 2.5]}', "ranks must be a list of whole numbers"),
        ('{"prompt": "p", "completions": ["a", "b"], "pairs": {}}', "pairs must be a list"),
        ('{"prompt": "p", "completions": ["a", "b"], "pairs": [[0, 1]]}', "[0, 1] is no pair"),
        (
            '{"prompt": "p", "completions": ["a", "b"], "pairs": [{"chosen": 0, "rejected": 2}]}',
            "a pair's chosen and rejected must be numbers of completions, 0 to 1",
        ),
        (
            '{"prompt": "p", "completions": ["a", "b"], "pairs": [{"chosen": -1, "rejected": 0}]}',
            "a pair's chosen and rejected must be numbers of completions, 0 to 1",
        ),
        (
            '{"prompt": "p", "completions": ["a", "b"], "pairs": [{"chosen": 0, "rejected": 1, "weight": 0}]}',
            "weight is 0.0: it must be above 0",
        ),
    ],
)
def test_a_bad_line_is_named_with_its_number_and_reason(tmp_path: Path, tokenizer: Any, line: str, reason: str):
    path = tmp_path / "pairs.jsonl"
    path.write_text(f"{json.dumps(pair(0))}\n\n{line}\n")
    with pytest.raises(BadData) as caught:
        read_pairs(path, tokenizer, max_tokens=200)
    assert str(caught.value).startswith(f"pairs.jsonl, line 3: {reason}")


def test_a_weight_of_four_hundred_digits_is_named_with_its_line(tmp_path: Path, tokenizer: Any):
    with pytest.raises(BadData, match="line 1: weight"):
        read(tmp_path, tokenizer, pair(weight=10**400))


def test_half_of_a_surrogate_pair_is_named_with_its_line(tmp_path: Path, tokenizer: Any):
    """JavaScript that cuts a story within an emoji writes one."""
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps(pair(chosen="A fox \ud83d")))  # escaped
    with pytest.raises(BadData, match="line 1: "):
        read_pairs(path, tokenizer, max_tokens=200)


@pytest.mark.parametrize("weight", ["heavy", None, [1]])
def test_a_weight_that_is_no_number_is_named_with_its_line(tmp_path: Path, tokenizer: Any, weight: Any):
    with pytest.raises(BadData, match="line 2: weight"):
        read(tmp_path, tokenizer, pair(0), pair(1, weight=weight))


@pytest.mark.parametrize("ids", ["abc", [1.5, 2.5], ["a"], [-1], [True], []])
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
