"""The order, the batches, and each pair's share of the loss, worked out by hand."""

from collections import defaultdict
from itertools import chain, permutations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.dpo.data import Dataset, Group, Pair
from training.dpo.plan import (
    Batch,
    Work,
    batch_of,
    best_completion,
    epochs,
    group_tokens,
    hold_out,
    micro_batches,
    one_by_one,
    optimizer_batches,
)
from training.dpo.settings import DPOSettings


def groups_of(*sizes: int) -> list[Group]:
    """Groups of so many pairs each, every story of its own."""
    return [
        Group([number], [[number, i] for i in range(size + 1)], [Pair(0, i + 1) for i in range(size)])
        for number, size in enumerate(sizes)
    ]


def group(number: int, *pairs: Pair) -> Group:
    """A prompt whose best story is [number, 0]."""
    stories = 1 + max(max(pair.chosen, pair.rejected) for pair in pairs)
    return Group([number], [[number, i] for i in range(stories)], list(pairs))


def numbers(batches: list[list[Group]]) -> list[list[int]]:
    return [[group.prompt_ids[0] for group in batch] for batch in batches]


def batch(groups: list[Group], *, max_tokens: int = 100, **changes: Any) -> Batch:
    return batch_of(groups, DPOSettings(**changes).check(), max_tokens=max_tokens)


def shares(batch: Batch) -> list[list[float]]:
    return [[term.share for term in work.terms] for work in batch]


def across(work: Work) -> list[tuple[list[int], list[int]]]:
    """(chosen, rejected) of the terms across prompts: those without weight."""
    stories = work.group.completions
    return [(stories[t.chosen], stories[t.rejected]) for t in work.terms if not t.weight]


criteria = st.sampled_from(["style", "structure"])
some_pairs = st.lists(
    st.builds(Pair, st.just(0), st.integers(1, 4), st.floats(0.1, 4), st.floats(0, 2), criteria),
    min_size=1,
    max_size=6,
)
weighted_groups = st.lists(some_pairs, min_size=1, max_size=8).map(
    lambda lists: [group(number, *pairs) for number, pairs in enumerate(lists)]
)
some_groups = st.lists(st.integers(1, 9), min_size=1, max_size=30).map(lambda sizes: groups_of(*sizes))
few = settings(max_examples=50, deadline=None)


# -- holding prompts out


@few
@given(some_groups, st.floats(0.01, 0.5), st.integers(0, 2**31))
def test_a_prompt_is_trained_on_or_held_out_and_never_both(groups: list[Group], share: float, seed: int):
    training, held = hold_out(Dataset(groups), share, seed)
    assert sorted(chain(*numbers([training, held]))) == list(range(len(groups)))


@pytest.mark.parametrize(("share", "count"), [(0.01, 2), (0.01, 40), (0.5, 3), (0.9, 2)])
def test_at_least_one_prompt_is_on_each_side(share: float, count: int):
    assert all(hold_out(Dataset(groups_of(*[1] * count)), share, 1))


@pytest.mark.parametrize(("share", "count", "expected"), [(0.25, 8, 2), (0.3, 10, 3), (0.5, 9, 4)])
def test_the_share_is_one_of_prompts(share: float, count: int, expected: int):
    sizes = [9 if i % 2 else 1 for i in range(count)]  # however many pairs they have
    assert len(hold_out(Dataset(groups_of(*sizes)), share, 1)[1]) == expected


def test_the_same_seed_holds_the_same_prompts_out_and_another_others():
    dataset = Dataset(groups_of(*[1] * 30))
    once, again, other = (numbers([hold_out(dataset, 0.3, seed)[1]]) for seed in (1, 1, 2))
    assert once == again
    assert once != other


@pytest.mark.parametrize(("sizes", "share"), [((1, 1, 1), 0.0), ((3,), 0.5)], ids=["no share", "an only prompt"])
def test_nothing_is_held_out(sizes: tuple[int, ...], share: float):
    assert hold_out(Dataset(groups_of(*sizes)), share, 1) == (groups_of(*sizes), [])


# -- the order and the cut


@few
@given(some_groups, st.integers(1, 20), st.one_of(st.none(), st.integers(0, 2**32)))
def test_batches_hold_every_group_once(groups: list[Group], batch_pairs: int, seed: int | None):
    found = list(chain(*numbers(optimizer_batches(groups, batch_pairs, seed=seed))))
    assert sorted(found) == list(range(len(groups)))


@few
@given(some_groups, st.integers(1, 20), st.integers(0, 2**32))
def test_batches_reach_the_pairs_asked_for_with_their_last_group(groups: list[Group], batch_pairs: int, seed: int):
    found = optimizer_batches(groups, batch_pairs, seed=seed)
    assert all(sum(len(group.pairs) for group in batch) >= batch_pairs for batch in found[:-1])
    assert all(sum(len(group.pairs) for group in batch[:-1]) < batch_pairs for batch in found)


def test_a_prompts_pairs_stay_together():
    """Six pairs of one prompt are one batch, though two were asked for."""
    (found,) = optimizer_batches(groups_of(6), 2, seed=1)
    assert len(found[0].pairs) == 6


def test_the_order_of_batches_comes_from_the_seed():
    groups = groups_of(*[1] * 30)
    once, again, other = (numbers(optimizer_batches(groups, 4, seed=seed)) for seed in (1, 1, 2))
    assert once == again
    assert once != other


def test_without_a_seed_batches_are_in_the_order_of_the_file():
    """Pairs: 1+2 is three or more, 3 is, 1+1 is what is left."""
    assert numbers(optimizer_batches(groups_of(1, 2, 3, 1, 1), 3, seed=None)) == [[0, 1], [2], [3, 4]]


def test_each_pair_by_itself_has_its_prompt_its_stories_and_its_numbers():
    ranked = group(7, Pair(0, 1, 0.5, 2.0, "style"), Pair(2, 0, 3.0))
    assert list(one_by_one([ranked])) == [
        Group([7], [[7, 0], [7, 1]], [Pair(0, 1, 0.5, 2.0, "style")]),
        Group([7], [[7, 2], [7, 0]], [Pair(0, 1, 3.0)]),
    ]


# -- epochs


def planned(groups: list[Group], **changes: Any) -> list[list[list[int]]]:
    """For each epoch and batch, the prompts of its terms."""
    found = epochs(groups, DPOSettings(**changes).check(), max_tokens=100)
    return [[[w.group.prompt_ids[0] for w in batch for _ in w.terms] for batch in epoch] for epoch in found]


@pytest.mark.parametrize("batching", ["comparison", "pair"])
def test_each_pair_is_trained_on_once_an_epoch(batching: str):
    found = planned(groups_of(3, 1, 2), epochs=3, batch_pairs=2, batching=batching)
    assert [sorted(chain(*epoch)) for epoch in found] == 3 * [[0, 0, 0, 1, 2, 2]]


def test_each_epoch_has_its_own_order():
    first, second = planned(groups_of(*[1] * 30), epochs=2)
    assert first != second


def test_a_plan_comes_from_its_seed():
    groups = groups_of(*[1] * 30)
    assert planned(groups, seed=3) == planned(groups, seed=3)
    assert planned(groups, seed=3) != planned(groups, seed=4)


def test_without_shuffling_each_epoch_has_the_order_of_the_file():
    assert planned(groups_of(1, 1, 1), epochs=2, batch_pairs=2, shuffle=False) == 2 * [[[0, 1], [2]]]


@few
@given(some_groups, st.integers(1, 8))
def test_comparisons_are_never_cut_apart(groups: list[Group], batch_pairs: int):
    for epoch in planned(groups, epochs=2, batch_pairs=batch_pairs):
        prompts = [number for batch in epoch for number in set(batch)]
        assert len(prompts) == len(groups)


def test_pairs_by_themselves_make_batches_of_exactly_the_size_asked_for():
    (found,) = planned(groups_of(5, 2), epochs=1, batch_pairs=3, batching="pair")
    assert [len(batch) for batch in found] == [3, 3, 1]


# -- shares


def test_a_pairs_share_is_its_weight_of_the_batchs_weights():
    """1 + 2 + 5 = 8."""
    found = batch([group(0, Pair(0, 1, 1.0), Pair(0, 2, 2.0)), group(1, Pair(0, 1, 5.0))])
    assert shares(found) == [[1 / 8, 2 / 8], [5 / 8]]
    assert [[term.weight for term in work.terms] for work in found] == [[1 / 8, 2 / 8], [5 / 8]]


def test_criteria_share_alike_without_objectives():
    found = batch([group(0, Pair(0, 1, 1.0, criterion="style"), Pair(0, 2, 3.0, criterion="structure"))])
    assert shares(found) == [[1 / 4, 3 / 4]]


def test_an_objective_weighs_the_mean_of_its_criterion():
    """style: 1 + 3 = 4, times 0.5; structure: 2 + 2 = 4, times 2. Of all the weight, 8, pairs have 1/8, 2/8, ..."""
    one = group(0, Pair(0, 1, 1.0, criterion="style"), Pair(0, 2, 2.0, criterion="structure"))
    other = group(1, Pair(0, 1, 3.0, criterion="style"), Pair(0, 2, 2.0, criterion="structure"))
    found = batch([one, other], objectives="style=0.5,structure=2")
    assert shares(found) == [[0.5 * 1 / 4, 2 * 2 / 4], [0.5 * 3 / 4, 2 * 2 / 4]]
    assert [[term.weight for term in work.terms] for work in found] == [[1 / 8, 2 / 8], [3 / 8, 2 / 8]]


def test_a_criterion_that_a_batch_lacks_leaves_the_others_as_they_are():
    found = batch([group(0, Pair(0, 1, 7.0, criterion="style"))], objectives="style=0.5,structure=2")
    assert shares(found) == [[0.5]]


@few
@given(weighted_groups, st.sampled_from(["pairs", "prompts"]))
def test_without_objectives_shares_and_weights_add_up_to_1(groups: list[Group], weighting: str):
    found = batch(groups, weighting=weighting)
    assert sum(chain(*shares(found))) == pytest.approx(1)
    assert sum(term.weight for work in found for term in work.terms) == pytest.approx(1)


@few
@given(weighted_groups, st.sampled_from(["pairs", "prompts"]))
def test_with_objectives_a_criterions_shares_add_up_to_its_weight(groups: list[Group], weighting: str):
    wanted, sums = {"style": 0.5, "structure": 2.0}, defaultdict(float)
    found = batch(groups, weighting=weighting, objectives="style=0.5,structure=2")
    for work in found:
        for term, pair in zip(work.terms, work.group.pairs, strict=True):
            sums[pair.criterion] += term.share
    assert dict(sums) == pytest.approx({name: wanted[name] for name in sums})
    assert sum(term.weight for work in found for term in work.terms) == pytest.approx(1)


def test_prompts_weigh_alike_however_many_pairs_they_have():
    """Half for each prompt; within the first, 1 : 3."""
    found = batch([group(0, Pair(0, 1, 1.0), Pair(0, 2, 3.0)), group(1, Pair(0, 1, 5.0))], weighting="prompts")
    assert shares(found) == [[1 / 8, 3 / 8], [1 / 2]]


def test_prompts_weigh_alike_in_each_objective():
    """style: the prompts have 1/2 each. structure, which only the first has: all of it."""
    one = [Pair(0, 1, 1.0, criterion="style"), Pair(0, 2, 3.0, criterion="style"), Pair(0, 1, 9.0, criterion="plot")]
    other = Pair(0, 1, 5.0, criterion="style")
    found = batch([group(0, *one), group(1, other)], weighting="prompts", objectives="style=1,plot=2")
    assert shares(found) == [[1 / 8, 3 / 8, 2.0], [1 / 2]]


def test_prompts_weigh_alike_however_many_criteria_they_were_judged_by():
    one = group(0, Pair(0, 1, criterion="style"), Pair(0, 1, criterion="plot"))
    found = batch([one, group(1, Pair(0, 1, criterion="style"))], weighting="prompts")
    assert [sum(part) for part in shares(found)] == [1 / 2, 1 / 2]


def test_the_margin_asked_for_is_the_datas_times_the_scale():
    found = batch([group(0, Pair(0, 1, 1.0, margin=0.5), Pair(0, 2, 1.0, margin=2.0))], margin_scale=3.0)
    assert [term.margin for term in found[0].terms] == [1.5, 6.0]


def test_terms_are_the_pairs_of_their_group():
    terms = batch([group(0, Pair(2, 1), Pair(0, 2))])[0].terms
    assert [(term.chosen, term.rejected) for term in terms] == [(2, 1), (0, 2)]


# -- other prompts' stories


def test_the_best_story_wins_most_by_weight():
    """0 wins twice, 2 + 2 - 3; 1 loses twice, -2 - 1; 2 wins twice, 3 + 1 - 2."""
    assert best_completion(group(0, Pair(0, 1, 2.0), Pair(0, 2, 2.0), Pair(2, 0, 3.0), Pair(2, 1, 1.0))) == 2


def test_the_first_of_two_best_stories_is_taken():
    assert best_completion(group(0, Pair(1, 2), Pair(3, 0))) == 1


def test_each_other_prompts_best_story_is_rejected_behind_each_prompt():
    """Three prompts: 3 * 2 pairs, 0.6 / 6 each. The second's best is its story 1."""
    found = batch([group(0, Pair(0, 1)), group(1, Pair(1, 0)), group(2, Pair(0, 1))], contrastive_weight=0.6)
    best = [[0, 0], [1, 1], [2, 0]]
    added = list(chain(*(across(work) for work in found)))
    assert sorted(added) == sorted(permutations(best, 2))
    assert [term.share for work in found for term in work.terms if not term.weight] == pytest.approx([0.1] * 6)


def test_pairs_across_prompts_leave_the_prompts_own_as_they_are():
    groups = [group(0, Pair(0, 1, 1.0, 0.5), Pair(0, 2, 3.0)), group(1, Pair(0, 1, 4.0))]
    plain, found = batch(groups), batch(groups, contrastive_weight=1.0)
    for before, after in zip(plain, found, strict=True):
        assert after.terms[: len(before.terms)] == before.terms
        assert all((t.weight, t.margin) == (0.0, 0.0) for t in after.terms[len(before.terms) :])


def test_other_prompts_stories_do_not_get_into_the_data():
    """The next epoch's batch has other prompts in it."""
    groups = [group(0, Pair(0, 1)), group(1, Pair(0, 1))]
    batch(groups, contrastive_weight=1.0)
    assert [len(found.completions) for found in groups] == [2, 2]


@few
@given(weighted_groups, st.floats(0.1, 10), st.integers(4, 100))
def test_shares_across_prompts_add_up_to_their_weight_or_there_are_none(
    groups: list[Group], weight: float, max_tokens: int
):
    found = batch(groups, contrastive_weight=weight, max_tokens=max_tokens)
    added = [term.share for work in found for term in work.terms if not term.weight]
    assert sum(added) == pytest.approx(weight if len(groups) > 1 else 0)


def test_a_story_that_is_too_long_behind_another_prompt_is_left_out():
    """The second's story of 4 fits behind a prompt of 2 into 6, not into 5: all of 0.5 is for the one pair left."""
    one = Group([1, 1], [[10], [11]], [Pair(0, 1)])
    other = Group([2], [[20, 20, 20, 20], [21]], [Pair(0, 1)])
    assert across(batch([one, other], contrastive_weight=0.5, max_tokens=6)[0]) == [([10], [20, 20, 20, 20])]
    found = batch([one, other], contrastive_weight=0.5, max_tokens=5)
    assert [across(work) for work in found] == [[], [([20, 20, 20, 20], [10])]]
    assert found[0].group.completions == one.completions
    assert found[1].terms[-1].share == 0.5


def test_two_prompts_with_the_same_best_story_are_not_held_against_each_other():
    found = batch([Group([n], [[9], [n]], [Pair(0, 1)]) for n in (1, 2)], contrastive_weight=0.5)
    assert [len(work.terms) for work in found] == [1, 1]


def test_a_story_that_a_prompt_has_already_stands_there_once():
    """The other prompt's best is this one's worst."""
    found = batch([group(0, Pair(0, 1)), Group([1], [[0, 1], [5]], [Pair(0, 1)])], contrastive_weight=0.5)
    assert found[0].group.completions == [[0, 0], [0, 1]]
    assert (found[0].terms[1].chosen, found[0].terms[1].rejected) == (0, 1)


def test_a_prompts_own_stories_are_not_held_against_each_other_as_other_prompts():
    """0 > 1 > 2, each pair by itself: 1 is the best of its pair, and would be preferred to 0."""
    wanted = DPOSettings(contrastive_weight=1.0, batching="pair", epochs=1, shuffle=False)
    ((found,),) = epochs([group(0, Pair(0, 1), Pair(1, 2))], wanted, max_tokens=100)
    assert [across(work) for work in found] == [[], []]


# -- micro-batches


def works_of(*sizes: int) -> Batch:
    return batch_of(groups_of(*sizes), DPOSettings(), max_tokens=100)


some_works = st.lists(st.integers(1, 9), min_size=1, max_size=20).map(lambda sizes: works_of(*sizes))


def test_a_group_takes_its_prompt_once_and_each_story():
    """2 + 3 + 1 + 4 = 10, though the first story is in two pairs."""
    assert group_tokens(Group([1, 2], [[3, 4, 5], [6], [7, 8, 9, 10]], [Pair(0, 1), Pair(0, 2)])) == 10


@few
@given(some_works, st.integers(1, 60))
def test_micro_batches_cut_a_batch_without_changing_it(works: Batch, tokens: int):
    parts = micro_batches(works, tokens)
    assert list(chain(*parts)) == works
    assert all(parts)


@few
@given(some_works, st.integers(1, 60))
def test_a_micro_batch_exceeds_the_limit_only_if_one_group_does(works: Batch, tokens: int):
    for part in micro_batches(works, tokens):
        assert len(part) == 1 or sum(group_tokens(work.group) for work in part) <= tokens


def test_micro_batches_are_as_full_as_the_limit_allows():
    """A prompt of 1 and two stories of 2 are 5 tokens: two such groups fill 10, and 14 holds no third."""
    for limit in (10, 14):
        assert [len(part) for part in micro_batches(works_of(1, 1, 1, 1, 1), limit)] == [2, 2, 1]
    assert [len(part) for part in micro_batches(works_of(1, 1, 1, 1, 1), 9)] == [1, 1, 1, 1, 1]


def test_stories_of_other_prompts_count_in_a_micro_batch():
    """5 tokens each, and 2 for the other's story: 14 hold both, 13 do not."""
    works = batch(groups_of(1, 1), contrastive_weight=1.0)
    assert [len(micro_batches(works, limit)) for limit in (14, 13)] == [1, 2]
