"""The loss of a batch, against the same worked out naively: one story after the other, one pair after the other."""

import copy
from collections.abc import Callable
from itertools import islice, permutations
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from generation.engines.loading import load_model
from training.dpo.data import Group, Pair
from training.dpo.logps import Scorer, padded_token_logps, scorer_for
from training.dpo.metrics import Sums
from training.dpo.objective import Objective
from training.dpo.plan import Batch, batch_of, best_completion, epochs, group_tokens
from training.dpo.reference import ReferenceLogps, compute, distinct_groups
from training.dpo.settings import DPOSettings

PAD, BETA = 1, 0.3
# three stories ranked; one pair; three stories of which the first wins twice; a pair told apart by a hair
GROUPS = [
    Group(
        [20, 21, 22, 23, 24],
        [[30, 31, 32, 0], [33, 0], [34, 35, 36, 37, 38, 39, 0]],
        [Pair(0, 1, margin=2.0), Pair(0, 2, margin=1.0), Pair(1, 2, weight=0.5)],
    ),
    Group([40], [[51, 0], [50, 51, 52, 53, 54, 55, 56, 0]], [Pair(1, 0, weight=3.0, margin=0.5)]),
    Group(
        [60, 61, 62],
        [[70, 0], [71, 72, 73, 74, 0], [70, 71, 0]],
        [Pair(1, 0, criterion="plot"), Pair(2, 0, criterion="plot"), Pair(2, 1, criterion="style")],
    ),
    Group([80, 81], [[90, 91, 0], [92, 0]], [Pair(0, 1, weight=0.25, criterion="style")]),
]
LIMIT = 64


@pytest.fixture(scope="module")
def policy(tiny_model: Path) -> Any:
    return load_model(tiny_model).float()


@pytest.fixture(scope="module")
def reference(policy: Any) -> Any:
    """A model near the policy, and not it: otherwise every log-ratio is nothing."""
    found = copy.deepcopy(policy).requires_grad_(False)
    generator = torch.Generator().manual_seed(3)
    for parameter in found.parameters():
        parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.02)
    return found


@pytest.fixture(scope="module")
def scorer(policy: Any) -> Scorer:
    """Of a copy: `policy` keeps the attention that transformers gives it."""
    return scorer_for(copy.deepcopy(policy), PAD, GROUPS[0], precision="fp32")


def objective(scorer: Scorer, reference: Any, works: Batch, settings: DPOSettings) -> Objective:
    known = ReferenceLogps()
    compute(known, distinct_groups([works], LIMIT), lambda groups: padded_token_logps(reference, groups, PAD), LIMIT)
    return Objective(scorer, known, settings)


@pytest.fixture
def loss_of(scorer: Scorer, reference: Any) -> Callable[..., tuple[float, Sums]]:
    """(loss, figures) of groups under settings."""

    def find(groups: list[Group], **settings: Any) -> tuple[float, Sums]:
        wanted, sums = DPOSettings(beta=BETA, **settings).check(), Sums()
        works = batch_of(groups, wanted, max_tokens=LIMIT)
        with torch.no_grad():
            return objective(scorer, reference, works, wanted).loss(works, sums).item(), sums

    return find


@pytest.fixture(scope="module")
def tokens(policy: Any, reference: Any) -> Callable[..., tuple[torch.Tensor, torch.Tensor]]:
    """Log-probabilities of one story's tokens, (policy, reference), alone in its batch."""

    @torch.no_grad()
    def find(prompt: list[int], story: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        (one,), (other,) = (padded_token_logps(m, [Group(prompt, [story])], PAD) for m in (policy, reference))
        return one, other

    return find


@pytest.fixture(scope="module")
def ratio(tokens: Any) -> Callable[[list[int], list[int]], float]:
    """log pi - log ref of a story."""

    def find(prompt: list[int], story: list[int]) -> float:
        one, other = tokens(prompt, story)
        return (one.sum() - other.sum()).item()

    return find


@pytest.fixture(scope="module")
def naive(ratio: Any) -> Callable[..., float]:
    """The DPO loss of one pair: -log sigmoid(beta * (c - r) - margin)."""

    def find(prompt: list[int], chosen: list[int], rejected: list[int], margin: float = 0.0) -> float:
        h = BETA * (ratio(prompt, chosen) - ratio(prompt, rejected)) - margin
        return -F.logsigmoid(torch.tensor(h)).item()

    return find


def sides(group: Group, pair: Pair) -> tuple[list[int], list[int], list[int]]:
    return group.prompt_ids, group.completions[pair.chosen], group.completions[pair.rejected]


def mean(values: Any) -> float:
    values = list(values)
    return sum(values) / len(values)


def close(value: float) -> Any:
    return pytest.approx(value, rel=1e-5, abs=1e-6)


def best_pairs(groups: list[Group]) -> list[tuple[list[int], list[int]]]:
    """(prompt, best story): the story that is preferred most, for these groups."""
    return [(group.prompt_ids, group.completions[best]) for group, best in zip(groups, (0, 1, 2, 0), strict=True)]


def test_the_loss_is_the_mean_of_the_pairs_by_their_weight(loss_of: Any, naive: Any):
    pairs = [(group, pair) for group in GROUPS for pair in group.pairs]
    weighted = sum(pair.weight * naive(*sides(group, pair)) for group, pair in pairs)
    assert loss_of(GROUPS)[0] == close(weighted / sum(pair.weight for _, pair in pairs))


def test_the_pairs_of_the_fixture_have_losses_of_their_own(naive: Any):
    """Otherwise no mean of them says anything."""
    found = [naive(*sides(group, pair)) for group in GROUPS for pair in group.pairs]
    assert len({round(value, 3) for value in found}) == len(found)


def test_prompts_weigh_alike_however_many_pairs_they_have(loss_of: Any, naive: Any):
    # the first has weights 1, 1 and 1/2; the second one pair of weight 3
    first, second = GROUPS[:2]
    a, b, c = (naive(*sides(first, pair)) for pair in first.pairs)
    expected = ((a + b + 0.5 * c) / 2.5 + naive(*sides(second, second.pairs[0]))) / 2
    assert loss_of(GROUPS[:2], weighting="prompts")[0] == close(expected)


def test_objectives_are_a_weighted_sum_of_the_mean_loss_of_each(loss_of: Any, naive: Any):
    plot = [naive(*sides(GROUPS[2], pair)) for pair in GROUPS[2].pairs[:2]]
    # weights 1 and 1/4
    style = naive(*sides(GROUPS[2], GROUPS[2].pairs[2])), naive(*sides(GROUPS[3], GROUPS[3].pairs[0]))
    expected = 2.0 * mean(plot) + 0.5 * (style[0] + 0.25 * style[1]) / 1.25
    assert loss_of(GROUPS[2:], objectives="plot=2,style=0.5")[0] == close(expected)


def test_an_objective_that_a_batch_has_no_pair_of_adds_nothing_to_it(loss_of: Any, naive: Any):
    (pair,) = GROUPS[3].pairs
    found, _ = loss_of(GROUPS[3:], objectives="plot=2,style=0.5")
    assert found == close(0.5 * naive(*sides(GROUPS[3], pair)))


def test_margins_are_asked_of_each_pair_by_its_own(loss_of: Any, naive: Any):
    pairs = [(group, pair) for group in GROUPS[:2] for pair in group.pairs]
    weighted = sum(pair.weight * naive(*sides(group, pair), margin=0.7 * pair.margin) for group, pair in pairs)
    assert loss_of(GROUPS[:2], margin_scale=0.7)[0] == close(weighted / sum(pair.weight for _, pair in pairs))


def test_margins_are_not_looked_at_unless_they_are_asked_for(loss_of: Any):
    without = [
        Group(g.prompt_ids, g.completions, [Pair(p.chosen, p.rejected, p.weight) for p in g.pairs]) for g in GROUPS
    ]
    assert loss_of(GROUPS)[0] == loss_of(without)[0]


def test_the_sft_term_is_the_mean_nats_a_token_of_the_chosen(loss_of: Any, tokens: Any, naive: Any):
    (pair,) = GROUPS[3].pairs
    prompt, chosen, rejected = sides(GROUPS[3], pair)
    nll = -tokens(prompt, chosen)[0].mean().item()
    assert loss_of(GROUPS[3:], sft_weight=2.0)[0] == close(naive(prompt, chosen, rejected) + 2 * nll)


@pytest.mark.parametrize("alpha", [0.0, 0.5])
def test_ld_dpo_makes_little_of_what_lies_beyond_the_shorter_story(loss_of: Any, tokens: Any, alpha: float):
    """As TRL defines ld_alpha: tokens at positions up to the pair's shared length count fully, others alpha."""

    def ld_ratio(prompt: list[int], story: list[int], shared: int) -> torch.Tensor:
        positions = torch.arange(1, len(story) + 1)
        weights = (positions <= shared) + alpha * (positions > shared)
        one, other = tokens(prompt, story)
        return (weights * (one - other)).sum()

    losses = []
    for group, pair in ((g, p) for g in GROUPS[2:] for p in g.pairs):
        prompt, chosen, rejected = sides(group, pair)
        shared = min(len(chosen), len(rejected))
        h = BETA * (ld_ratio(prompt, chosen, shared) - ld_ratio(prompt, rejected, shared))
        losses.append(pair.weight * -F.logsigmoid(h).item())
    assert loss_of(GROUPS[2:], ld_alpha=alpha)[0] == close(sum(losses) / 3.25)


def test_the_sft_term_counts_the_whole_story_in_ld_dpo_too(loss_of: Any):
    with_term, without = (loss_of(GROUPS, ld_alpha=0.25, sft_weight=weight)[0] for weight in (1.0, 0.0))
    plain, bare = (loss_of(GROUPS, sft_weight=weight)[0] for weight in (1.0, 0.0))
    assert with_term - without == close(plain - bare)


def test_contrastive_dpo_is_the_double_loop_of_the_seed_chapter(loss_of: Any, naive: Any):
    """Mean over i != j of the loss of (prompt i, chosen i, chosen j), times contrastive_weight."""
    pairs = permutations(best_pairs(GROUPS), 2)
    across = mean(naive(prompt, chosen, other) for (prompt, chosen), (_, other) in pairs)
    assert loss_of(GROUPS, contrastive_weight=0.7)[0] == close(loss_of(GROUPS)[0] + 0.7 * across)


def test_contrastive_dpo_leaves_out_stories_too_long_behind_another_prompt():
    """13 tokens hold the second's best story of 8 behind its own prompt of 1, not behind the first's of 6."""
    first = Group([20, 21, 22, 23, 24, 25], GROUPS[0].completions, GROUPS[0].pairs)
    settings = DPOSettings(contrastive_weight=1.0)
    works = batch_of([first, GROUPS[1]], settings, max_tokens=13)
    assert [[t.share for t in work.terms if not t.weight] for work in works] == [[], [1.0]]


def test_the_best_story_is_the_one_with_most_wins_less_losses_by_weight():
    # the first wins 2 and loses 1.5, the third wins 1.5
    group = Group([20], [[30, 0], [31, 0], [32, 0]], [Pair(0, 1, weight=2.0), Pair(2, 0, weight=1.5)])
    assert best_completion(group) == 2


def test_contrastive_dpo_of_a_single_prompt_is_dpo(loss_of: Any):
    assert loss_of(GROUPS[:1], contrastive_weight=0.7)[0] == loss_of(GROUPS[:1])[0]


def test_contrastive_dpo_leaves_the_figures_of_the_pairs_as_they_are(loss_of: Any):
    plain, contrastive = (loss_of(GROUPS, contrastive_weight=weight)[1].means() for weight in (0.0, 0.7))
    assert contrastive.pop("loss") != plain.pop("loss")
    assert contrastive == pytest.approx(plain, rel=1e-5, abs=1e-5)


def test_contrastive_dpo_never_sets_a_prompts_own_stories_against_its_best():
    """Pair by pair too: a prompt's second pair is no other prompt."""
    settings = DPOSettings(batching="pair", contrastive_weight=1.0, shuffle=False, epochs=1)
    ((batch,),) = epochs(GROUPS[:2], settings, max_tokens=LIMIT)
    own = {tuple(g.prompt_ids): [g.completions[i] for p in g.pairs for i in (p.chosen, p.rejected)] for g in GROUPS}
    for work in batch:
        across = [work.group.completions[term.rejected] for term in work.terms if not term.weight]
        assert across
        assert [story for story in across if story in own[tuple(work.group.prompt_ids)]] == []


def gradients(found: Objective, parts: list[Batch]) -> tuple[list[torch.Tensor], Sums]:
    model = found.scorer.model
    model.zero_grad()
    sums = Sums()
    for part in parts:
        found.loss(part, sums).backward()
    return [p.grad.clone() for p in model.parameters()], sums


SETTINGS = [
    {},
    {"objectives": "overall=1,plot=2,style=0.5", "weighting": "prompts", "margin_scale": 1.0},
    {"contrastive_weight": 0.7, "sft_weight": 0.3, "ld_alpha": 0.5},
]


@pytest.mark.parametrize("cut", [(1, 3), (2, 2), (1, 1, 1, 1)])
@pytest.mark.parametrize("settings", SETTINGS, ids=["plain", "objectives", "contrastive"])
def test_the_gradient_is_the_same_however_a_batch_is_cut(
    scorer: Scorer, reference: Any, settings: dict[str, Any], cut: tuple[int, ...]
):
    wanted = DPOSettings(beta=BETA, **settings).check()
    batch = batch_of(GROUPS, wanted, max_tokens=LIMIT)
    found = objective(scorer, reference, batch, wanted)
    whole, _ = gradients(found, [batch])
    works = iter(batch)
    parts, _ = gradients(found, [list(islice(works, count)) for count in cut])
    largest = max(tensor.abs().max().item() for tensor in whole)
    assert max((a - b).abs().max().item() for a, b in zip(whole, parts, strict=True)) < 1e-5 * largest


@pytest.mark.parametrize("settings", SETTINGS, ids=["plain", "objectives", "contrastive"])
def test_the_figures_are_the_same_however_a_batch_is_cut(scorer: Scorer, reference: Any, settings: dict[str, Any]):
    wanted = DPOSettings(beta=BETA, **settings).check()
    batch = batch_of(GROUPS, wanted, max_tokens=LIMIT)
    found = objective(scorer, reference, batch, wanted)
    (_, whole), (_, cut) = (gradients(found, parts) for parts in ([batch], [batch[:1], batch[1:]]))
    assert cut.values.tolist() == pytest.approx(whole.values.tolist(), rel=1e-5, abs=1e-6)


def test_nothing_of_the_reference_is_in_the_gradient(scorer: Scorer, reference: Any, tokens: Any):
    """beta * sigmoid(-h) * (d log pi(rejected) - d log pi(chosen)), worked out with the padded pass."""
    settings = DPOSettings(beta=BETA)
    works = batch_of(GROUPS[3:], settings, max_tokens=LIMIT)
    found, _ = gradients(objective(scorer, reference, works, settings), [works])
    plain = copy.deepcopy(reference).requires_grad_(True)
    plain.load_state_dict(scorer.model.state_dict())
    prompt, chosen, rejected = sides(GROUPS[3], GROUPS[3].pairs[0])
    c, r = (t.sum() for t in padded_token_logps(plain, [Group(prompt, [chosen, rejected])], PAD))
    ratios = [tokens(prompt, story)[0].sum() - tokens(prompt, story)[1].sum() for story in (chosen, rejected)]
    slope = BETA * torch.sigmoid(-BETA * (ratios[0] - ratios[1]))
    (slope * (r - c)).backward()
    expected = torch.cat([p.grad.flatten() for p in plain.parameters()])
    assert torch.allclose(torch.cat([g.flatten() for g in found]), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("settings", [{}, {"contrastive_weight": 0.5}], ids=["pairs", "contrastive"])
def test_each_distinct_story_goes_through_the_model_once(scorer: Scorer, reference: Any, settings: dict[str, Any]):
    """Each prompt too, however many of the batch's pairs they are in."""
    wanted = DPOSettings(**settings)
    works, sums = batch_of(GROUPS, wanted, max_tokens=LIMIT), Sums()
    found = objective(scorer, reference, works, wanted)
    seen: list[int] = []
    hook = scorer.model.get_input_embeddings().register_forward_hook(
        lambda module, given, out: seen.append(given[0].numel())
    )
    found.loss(works, sums)
    hook.remove()
    stories = [{tuple(s) for s in g.completions} for g in GROUPS]
    if settings:
        best = [tuple(story) for _, story in best_pairs(GROUPS)]
        stories = [own | set(best) for own in stories]
    expected = sum(len(g.prompt_ids) + sum(map(len, own)) for g, own in zip(GROUPS, stories, strict=True))
    assert (sum(seen), sums["tokens"]) == (expected, expected)


def test_the_works_of_a_batch_leave_its_groups_as_they_were():
    before = copy.deepcopy(GROUPS)
    batch_of(GROUPS, DPOSettings(contrastive_weight=0.5), max_tokens=LIMIT)
    assert before == GROUPS


def test_the_figures_of_a_pair_worked_out_naively(loss_of: Any, tokens: Any, ratio: Any):
    prompt, chosen, rejected = sides(GROUPS[3], GROUPS[3].pairs[0])
    c, r = ratio(prompt, chosen), ratio(prompt, rejected)
    found, sums = loss_of(GROUPS[3:])
    assert sums.means() == pytest.approx(
        {
            "loss": found,
            "rewards_chosen": BETA * c,
            "rewards_rejected": BETA * r,
            "rewards_margins": BETA * (c - r),
            "rewards_accuracies": float(c > r),
            "logps_chosen": tokens(prompt, chosen)[0].sum().item(),
            "logps_rejected": tokens(prompt, rejected)[0].sum().item(),
            "logps_change": c / len(chosen),
            "lengths_chosen": len(chosen),
            "lengths_rejected": len(rejected),
            "kl": -(c + r) / 2,
        },
        rel=1e-4,
    )


def test_kl_is_a_mean_over_stories_not_over_pairs(loss_of: Any, ratio: Any):
    """Of the ranked prompt's three stories each counts once, though each is in two pairs; and those of others alike."""
    changes = [-ratio(group.prompt_ids, story) for group in GROUPS for story in group.completions]
    assert loss_of(GROUPS)[1].means()["kl"] == pytest.approx(mean(changes), rel=1e-4, abs=1e-5)
    assert loss_of(GROUPS)[1]["drift"] == pytest.approx(sum(map(abs, changes)), rel=1e-4, abs=1e-5)


def test_the_change_of_chosen_stories_is_that_of_whole_stories_in_ld_dpo_too(loss_of: Any):
    """What the loss makes of a story's end does not change by how much its likelihood fell."""
    whole, ld = (loss_of(GROUPS, ld_alpha=alpha)[1].means()["logps_change"] for alpha in (1.0, 0.25))
    assert ld == pytest.approx(whole, rel=1e-5)


def test_group_tokens_counts_the_prompt_once():
    # 5 of the prompt, and 4 + 2 + 7
    assert group_tokens(GROUPS[0]) == 18
