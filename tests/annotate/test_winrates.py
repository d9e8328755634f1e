from itertools import product

import pytest

from annotate.judgements import record_judgement
from annotate.models import Expert
from annotate.queue import next_assignment
from annotate.winrates import LOSS, TIE, WIN, Outcome, WinRate, bootstrap_interval, interval, wilson_interval, win_rate
from generation.models import Policy
from tests.factories import judge_by_story, make_comparison, make_evaluation, make_expert, make_policy

VERDICTS = {WIN: (1, 2), TIE: (1, 1), LOSS: (2, 1)}  # score -> ranks of the new and the old story


@pytest.fixture
def new(db: None) -> Policy:
    return make_policy()


@pytest.fixture
def old(db: None) -> Policy:
    return make_policy()


def decide(expert: Expert, new: Policy, score: float) -> None:
    """The expert's next comparison, with the outcome `score` for `new`."""
    assignment = next_assignment(expert=expert)
    ours, theirs = VERDICTS[score]
    ranks = {p: ours if story.policy == new else theirs for p, story in enumerate(assignment.stories(), start=1)}
    record_judgement(assignment=assignment, verdict="tie" if score == TIE else "ranked", ranks=ranks)


def crossed(scores: dict[tuple[int, int], float]) -> list[Outcome]:
    """Votes from {(prompt, expert): score}."""
    return [Outcome(prompt, expert, score, False) for (prompt, expert), score in scores.items()]


def width(votes: list[Outcome]) -> float:
    low, high = bootstrap_interval(votes)
    return high - low


def certainty(votes: list[Outcome]) -> float:
    low, high = interval(votes)
    return high - low


def shared_out(experts: int, *, prompts: int = 24) -> list[Outcome]:
    """One vote for each prompt, shared out among `experts`, half of whom always find the new policy better."""
    return crossed({(p, p % experts): float(p % experts < experts // 2) for p in range(prompts)})


def test_the_win_rate_is_wins_and_half_the_ties_over_all(new: Policy, old: Policy) -> None:
    for score in (WIN, WIN, WIN, TIE, LOSS, LOSS):
        make_evaluation(new, old)
        decide(make_expert(), new, score)
    found = win_rate(new, old)
    assert (found.n, found.rate) == (6, pytest.approx((3 + 1 / 2) / 6))


def test_a_win_is_the_better_rank_and_not_the_first_position(new: Policy, old: Policy) -> None:
    expert, shown_first = make_expert(), []
    for _ in range(12):
        make_evaluation(new, old)
        shown_first.append(next_assignment(expert=expert).stories()[0].policy)
        decide(expert, new, WIN)
    assert set(shown_first) == {new, old}
    assert win_rate(new, old).rate == 1.0


def test_the_other_way_round_it_is_the_rest(new: Policy, old: Policy) -> None:
    for score in (WIN, WIN, WIN, LOSS):
        make_evaluation(new, old)
        decide(make_expert(), new, score)
    make_evaluation(old, new)
    decide(make_expert(), old, WIN)
    assert (win_rate(new, old).rate, win_rate(old, new).rate) == (0.75, 1.0)


def test_only_evaluations_of_the_two_are_counted(new: Policy, old: Policy) -> None:
    make_evaluation(new, make_policy())
    decide(make_expert(), new, WIN)
    judge_by_story(make_expert(), list(make_comparison(2, policy=new).stories.all()))
    assert win_rate(new, old) == WinRate(0, 0, 0, None, None, None)


def test_simulated_judgements_are_counted_and_said(new: Policy, old: Policy) -> None:
    make_evaluation(new, old)
    for expert in (make_expert(), make_expert(simulated=True), make_expert(simulated=True)):
        decide(expert, new, WIN)
    found = win_rate(new, old)
    assert (found.n, found.simulated) == (3, 2)


@pytest.mark.parametrize(("n", "enough", "missing"), [(0, False, 20), (19, False, 1), (20, True, 0), (35, True, 0)])
def test_a_rate_is_shown_from_the_floor_on(settings, n: int, enough: bool, missing: int) -> None:
    settings.MIN_JUDGEMENTS_FOR_WIN_RATE = 20
    rate = WinRate(n, 0, 3, 0.5, 0.4, 0.6)
    assert (rate.enough, rate.missing) == (enough, missing)


def test_without_a_judgement_there_is_no_rate(new: Policy, old: Policy) -> None:
    assert win_rate(new, old).as_dict() == {"rate": None, "low": None, "high": None, "n": 0}


def test_percents_are_rounded_for_the_page() -> None:
    rate = WinRate(30, 0, 3, 0.6667, 0.504, 0.828)
    assert (rate.percent, rate.percent_low, rate.percent_high) == (67, 50, 83)


@pytest.mark.parametrize("wins", [5, 12, 20])
def test_the_interval_contains_the_rate(wins: int) -> None:
    votes = crossed({(p, p % 6): float((p * 7) % 24 < wins) for p in range(24)})
    low, high = bootstrap_interval(votes)
    assert 0 <= low < sum(v.score for v in votes) / 24 < high <= 1


def test_the_interval_comes_with_the_rate(new: Policy, old: Policy) -> None:
    for score in (WIN, LOSS, WIN, LOSS):
        make_evaluation(new, old)
        decide(make_expert(), new, score)
    found = win_rate(new, old)
    assert found.low < found.rate < found.high


def test_few_experts_who_disagree_widen_the_interval() -> None:
    assert width(shared_out(4)) > width(shared_out(8)) > width(shared_out(24))


def test_few_prompts_that_differ_widen_the_interval() -> None:
    few = crossed({(p, e): float(p % 2) for p, e in product(range(2), range(12))})
    many = crossed({(p, e): float(p % 2) for p, e in product(range(12), range(2))})
    assert width(few) > 1.5 * width(many)


def test_prompts_and_experts_are_both_resampled() -> None:
    by_expert = crossed({(p, e): float(e % 2) for p, e in product(range(6), range(6))})
    by_prompt = crossed({(p, e): float(p % 2) for p, e in product(range(6), range(6))})
    independent = 2 * 1.96 * (0.25 / 36) ** 0.5
    assert width(by_expert) > 1.5 * independent
    assert width(by_prompt) > 1.5 * independent


def test_the_same_votes_twice_are_no_new_evidence() -> None:
    votes = shared_out(6)
    assert bootstrap_interval(votes * 2) == pytest.approx(bootstrap_interval(votes))


def test_more_votes_of_one_expert_do_not_narrow_the_interval_as_if_independent() -> None:
    few = crossed({(p, e): float(e % 2) for p, e in product(range(3), range(4))})
    many = crossed({(p, e): float(e % 2) for p, e in product(range(30), range(4))})
    assert width(many) > 0.9 * width(few)


def test_more_independent_votes_narrow_the_interval() -> None:
    few = crossed({(n, n): float(n % 2) for n in range(10)})
    many = crossed({(n, n): float(n % 2) for n in range(160)})
    assert width(many) < 0.5 * width(few)


@pytest.mark.parametrize("score", [WIN, TIE, LOSS])
def test_a_single_vote_has_an_interval(score: float) -> None:
    assert bootstrap_interval([Outcome(1, 1, score, False)]) == (score, score)


@pytest.mark.parametrize("score", [WIN, LOSS])
def test_twenty_votes_that_agree_are_not_certainty(score: float) -> None:
    assert certainty(crossed({(p, p % 3): score for p in range(20)})) > 0


def test_one_experts_taste_alone_is_not_shown(settings) -> None:
    settings.MIN_JUDGEMENTS_FOR_WIN_RATE = 20
    assert not WinRate(40, 0, 1, 0.5, 0.4, 0.6).enough
    assert WinRate(40, 0, 2, 0.5, 0.4, 0.6).enough


def test_the_interval_is_the_same_each_time() -> None:
    assert bootstrap_interval(shared_out(4)) == bootstrap_interval(shared_out(4))


def test_a_wider_level_gives_a_wider_interval() -> None:
    low, high = bootstrap_interval(shared_out(6), level=0.5)
    assert high - low < width(shared_out(6))


@pytest.mark.parametrize(
    ("wins", "n", "low", "high"), [(10, 10, 0.7225, 1.0), (5, 10, 0.2366, 0.7634), (60, 100, 0.5020, 0.6906)]
)
def test_wilsons_interval_is_that_of_the_tables(wins: int, n: int, low: float, high: float) -> None:
    assert wilson_interval(wins / n, n) == pytest.approx((low, high), abs=1e-4)
