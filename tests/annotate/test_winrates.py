from dataclasses import replace

import pytest
from django.utils import timezone

from annotate.judgements import record_judgement
from annotate.models import Comparison, Expert, Judgement
from annotate.queue import next_assignment
from annotate.winrates import (
    LOSS,
    TIE,
    WIN,
    Contest,
    Outcome,
    Part,
    WinRate,
    breakdown,
    criterion_outcomes,
    judgements_of,
    outcomes,
    rate_of,
    win_rate,
)
from generation.models import Policy, Prompt, Split
from tests.annotate.answering import answer
from tests.factories import make_comparison, make_evaluation, make_expert, make_policy, make_story

VERDICTS = {WIN: (1, 2), TIE: (1, 1), LOSS: (2, 1)}  # score -> ranks of the new and the old story
ORDERS = {WIN: "A > B", TIE: "tie", LOSS: "B > A"}  # A is the new policy's story: the first that make_evaluation makes


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


def judged(new: Policy, old: Policy, score: float, expert: Expert | None = None, **criteria: int | None) -> Judgement:
    """A new comparison with its outcome; criteria: the shown position of the winner, the new policy's story first."""
    return answer(expert or make_expert(), make_evaluation(new, old), ORDERS[score], shown="AB", criteria=criteria)


def about(new: Policy, old: Policy, language: str, theme: str, story_type: str, age_band: str) -> Comparison:
    prompt = Prompt.objects.create(
        text=f"{theme} in {language}", language=language, theme=theme, story_type=story_type, age_band=age_band,
        split=Split.EVALUATION,
    )  # fmt: skip
    comparison = Comparison.objects.create(prompt=prompt, purpose="evaluation", policy=new, baseline=old)
    comparison.stories.set([make_story(new, prompt), make_story(old, prompt)])
    return comparison


def rate(n: int, value: float, low: float, high: float, *, experts: int = 3) -> WinRate:
    return WinRate(n, 0, experts, value, low, high)


class TestWinRate:
    def test_it_is_wins_and_half_the_ties_over_all(self, new: Policy, old: Policy) -> None:
        for score in (WIN, WIN, WIN, TIE, LOSS, LOSS):
            make_evaluation(new, old)
            decide(make_expert(), new, score)
        found = win_rate(new, old)
        assert (found.n, found.rate) == (6, pytest.approx((3 + 1 / 2) / 6))

    def test_a_win_is_the_better_rank_and_not_the_first_position(self, new: Policy, old: Policy) -> None:
        expert, shown_first = make_expert(), []
        for _ in range(12):
            make_evaluation(new, old)
            shown_first.append(next_assignment(expert=expert).stories()[0].policy)
            decide(expert, new, WIN)
        assert set(shown_first) == {new, old}
        assert win_rate(new, old).rate == 1.0

    def test_the_other_way_round_it_is_the_rest(self, new: Policy, old: Policy) -> None:
        for score in (WIN, WIN, WIN, LOSS):
            make_evaluation(new, old)
            decide(make_expert(), new, score)
        make_evaluation(old, new)
        decide(make_expert(), old, WIN)
        assert (win_rate(new, old).rate, win_rate(old, new).rate) == (0.75, 1.0)

    def test_only_evaluations_of_the_two_are_counted(self, new: Policy, old: Policy) -> None:
        judged(new, make_policy(), WIN)
        answer(make_expert(), make_comparison(2, policy=new), "A > B")
        assert win_rate(new, old) == WinRate(0, 0, 0, None, None, None)

    def test_what_cannot_be_ranked_and_silent_checks_are_no_votes(self, new: Policy, old: Policy) -> None:
        answer(make_expert(), make_evaluation(new, old), "cannot_rank")
        answer(make_expert(), make_evaluation(new, old), "A > B", kind="repeat")
        assert win_rate(new, old).n == 0

    def test_the_judgements_behind_it_are_as_many_as_it_says(self, new: Policy, old: Policy) -> None:
        found = [judged(new, old, score) for score in (WIN, TIE)]
        judged(new, make_policy(), WIN)
        assert list(judgements_of(new, old)) == found

    def test_a_story_withdrawn_since_takes_its_votes_along(self, new: Policy, old: Policy) -> None:
        judged(new, old, LOSS)
        gone = judged(new, old, WIN).assignment.comparison
        gone.stories.filter(policy=old).update(withdrawn_at=timezone.now())
        assert (win_rate(new, old).n, win_rate(new, old).rate) == (1, 0.0)

    def test_simulated_judgements_are_counted_and_said(self, new: Policy, old: Policy) -> None:
        for expert in (make_expert(), make_expert(simulated=True), make_expert(simulated=True)):
            judged(new, old, WIN, expert)
        found = win_rate(new, old)
        assert (found.n, found.simulated, found.judges) == (3, 2, 3)

    def test_people_alone_leave_simulated_experts_out(self, new: Policy, old: Policy) -> None:
        judged(new, old, WIN)
        judged(new, old, LOSS, make_expert(simulated=True))
        found = win_rate(new, old, people=True)
        assert (found.n, found.simulated, found.rate) == (1, 0, 1.0)

    def test_its_interval_is_that_of_the_votes(self, new: Policy, old: Policy) -> None:
        for score in (WIN, LOSS, WIN, LOSS):
            judged(new, old, score)
        found = win_rate(new, old)
        assert found.low < found.rate < found.high

    def test_without_a_judgement_there_is_no_rate(self, new: Policy, old: Policy) -> None:
        assert win_rate(new, old).as_dict() == {"rate": None, "low": None, "high": None, "n": 0}


class TestFloor:
    @pytest.mark.parametrize(("n", "enough", "missing"), [(0, False, 20), (19, False, 1), (20, True, 0), (35, True, 0)])
    def test_a_rate_is_shown_from_the_floor_on(self, settings, n: int, enough: bool, missing: int) -> None:
        settings.MIN_JUDGEMENTS_FOR_WIN_RATE = 20
        found = rate(n, 0.5, 0.4, 0.6)
        assert (found.enough, found.missing) == (enough, missing)

    def test_one_experts_taste_alone_is_not_shown(self, settings) -> None:
        settings.MIN_JUDGEMENTS_FOR_WIN_RATE = 20
        assert not rate(40, 0.5, 0.4, 0.6, experts=1).enough
        assert rate(40, 0.5, 0.4, 0.6, experts=2).enough

    def test_below_the_floor_nothing_is_decided(self, settings) -> None:
        settings.MIN_JUDGEMENTS_FOR_WIN_RATE = 20
        assert not rate(19, 0.9, 0.8, 0.95).decided
        assert rate(20, 0.9, 0.8, 0.95).decided

    def test_percents_are_rounded_for_the_page(self) -> None:
        found = rate(30, 0.6667, 0.504, 0.828)
        assert (found.percent, found.percent_low, found.percent_high) == (67, 50, 83)


class TestMoreToDecide:
    @pytest.fixture(autouse=True)
    def floor(self, settings) -> None:
        settings.MIN_JUDGEMENTS_FOR_WIN_RATE = 20

    @pytest.mark.parametrize(("low", "high"), [(0.55, 0.75), (0.501, 0.8), (0.2, 0.49)])
    def test_none_where_the_interval_leaves_out_a_half(self, low: float, high: float) -> None:
        assert rate(40, (low + high) / 2, low, high).more_to_decide == 0

    # the interval has to shrink from its reach towards a half to the lead: n grows with the square of that
    @pytest.mark.parametrize(
        ("value", "low", "high", "more"),
        [(0.6, 0.4, 0.75, 120), (0.4, 0.25, 0.6, 120), (0.55, 0.45, 0.65, 120), (0.6, 0.49, 0.7, 9)],
    )
    def test_as_many_as_shrink_the_interval_to_the_lead(self, value: float, low: float, high: float, more: int) -> None:
        assert rate(40, value, low, high).more_to_decide == pytest.approx(more, abs=1)

    def test_one_at_least_where_the_half_is_the_very_end(self) -> None:
        assert rate(40, 0.6, 0.5, 0.7).more_to_decide == 1

    @pytest.mark.parametrize("value", [0.5, 0.51, 0.49])
    def test_nobody_can_plan_with_a_rate_near_a_half(self, value: float) -> None:
        assert rate(40, value, value - 0.1, value + 0.1).more_to_decide is None

    def test_below_the_floor_at_least_what_is_missing(self) -> None:
        assert rate(15, 0.9, 0.8, 0.95).more_to_decide == 5
        assert rate(15, 0.6, 0.4, 0.75).more_to_decide == pytest.approx(45, abs=1)
        assert WinRate(0, 0, 0, None, None, None).more_to_decide == 20

    def test_a_single_expert_leaves_nothing_to_reckon_from(self) -> None:
        assert rate(40, 0.6, 0.4, 0.8, experts=1).more_to_decide is None

    def test_so_many_more_of_the_same_votes_do_decide_it(self) -> None:
        votes = [Outcome(n, n % 31, float(n % 5 < 3), False) for n in range(60)]
        found = rate_of(votes)
        assert not found.decided
        grown = [Outcome(n, n % 31, float(n % 5 < 3), False) for n in range(60 + int(1.1 * found.more_to_decide))]
        assert rate_of(grown).decided


class TestOutcomes:
    def test_a_vote_says_what_it_is_about_and_whose_it_is(self, new: Policy, old: Policy) -> None:
        comparison = about(new, old, "zh", "sharing", "bedtime", "7-8")
        expert = make_expert("writer", simulated=True)
        judgement = answer(expert, comparison, "A > B")
        assert outcomes(new, old) == [
            Outcome(
                prompt=comparison.prompt_id, expert=expert.pk, score=WIN, simulated=True, judgement=judgement.pk,
                language="zh", theme="sharing", story_type="bedtime", age_band="7-8", audience="writer",
            )
        ]  # fmt: skip

    def test_a_criterion_has_a_winner_of_its_own(self, new: Policy, old: Policy) -> None:
        judged(new, old, WIN, structure=2, creativity=1)
        found = criterion_outcomes(new, old, outcomes(new, old))
        assert {name: [vote.score for vote in votes] for name, votes in found.items()} == {
            "creativity": [WIN],
            "structure": [LOSS],
        }

    def test_no_difference_by_a_criterion_is_a_tie_and_no_answer_is_no_vote(self, new: Policy, old: Policy) -> None:
        judged(new, old, WIN, structure=None)
        judged(new, old, WIN, structure=1)
        judged(new, old, LOSS)
        (votes,) = criterion_outcomes(new, old, outcomes(new, old)).values()
        assert (rate_of(votes).n, rate_of(votes).rate) == (2, 0.75)

    def test_by_a_criterion_too_a_withdrawn_story_takes_its_votes_along(self, new: Policy, old: Policy) -> None:
        comparison = judged(new, old, WIN, structure=1).assignment.comparison
        comparison.stories.filter(policy=old).update(withdrawn_at=timezone.now())
        assert criterion_outcomes(new, old, outcomes(new, old)) == {}


class TestBreakdown:
    @pytest.fixture
    def mixed(self, new: Policy, old: Policy) -> Contest:
        """Nine judgements by three experts, one of them simulated, on three prompts."""
        prompts = [("en", "courage", "fable", "5-6"), ("en", "sharing", "fable", "7-8"), ("zh", "courage", "", "5-6")]
        comparisons = [about(new, old, *its) for its in prompts]
        experts = [make_expert("educator"), make_expert("parent"), make_expert("parent", simulated=True)]
        for number, comparison in enumerate(comparisons):
            for expert in experts:
                order = "A > B" if expert.simulated else "B > A" if number else "tie"
                answer(expert, comparison, order, shown="AB", criteria={"structure": 1})
        return Contest(new, old)

    def parts(self, contest: Contest, name: str, **how: bool) -> dict[str, Part]:
        found = {part.filters[name]: part for part in breakdown(contest.policy, contest.baseline, **how)[name]}
        return dict(sorted(found.items()))

    def test_the_parts_of_every_dimension_add_up_to_all(self, mixed: Contest) -> None:
        for people, n in ((False, 9), (True, 6)):
            sums = {d.name: sum(part.rate.n for part in d.parts) for d in mixed.dimensions(people=people)}
            dimensions = ("simulated", "audience", "language", "age_band", "theme", "story_type", "criterion")
            assert sums == dict.fromkeys(dimensions, n)

    def test_the_wins_of_the_parts_are_the_wins_of_all(self, mixed: Contest) -> None:
        whole = mixed.rate()
        for dimension in mixed.dimensions()[:-1]:
            assert sum(p.rate.rate * p.rate.n for p in dimension.parts) == pytest.approx(whole.rate * whole.n)

    def test_each_part_has_its_own_rate(self, mixed: Contest) -> None:
        found = {name: part.rate.rate for name, part in self.parts(mixed, "audience").items()}
        assert found == {"educator": pytest.approx(1 / 6), "parent": pytest.approx((3 + 1 / 2) / 6)}
        assert self.parts(mixed, "language")["zh"].rate.n == 3

    def test_people_and_simulated_experts_are_parts(self, mixed: Contest) -> None:
        found = self.parts(mixed, "simulated")
        assert {name: (str(p.label), p.rate.rate) for name, p in found.items()} == {
            "False": ("people", pytest.approx(1 / 6)),
            "True": ("simulated experts", 1.0),
        }
        assert list(self.parts(mixed, "simulated", people=True)) == ["False"]

    def test_the_criterion_is_won_apart_from_the_whole(self, mixed: Contest) -> None:
        assert self.parts(mixed, "criterion")["structure"].rate.rate == 1.0

    def test_what_a_prompt_does_not_state_is_said_so(self, mixed: Contest) -> None:
        assert str(self.parts(mixed, "story_type")[""].label) == "not stated"

    def test_the_judgements_are_read_once(self, mixed: Contest, django_assert_num_queries) -> None:
        with django_assert_num_queries(2):  # the votes, and those by criterion
            mixed.rate()
            mixed.dimensions()
            mixed.dimensions(people=True)

    def test_a_contest_without_judgements_has_no_parts(self, new: Policy, old: Policy) -> None:
        assert not any(breakdown(new, old).values())


def test_the_same_votes_of_simulated_experts_give_the_same_rate() -> None:
    votes = [Outcome(n, n % 4, float(n % 3 > 0), False) for n in range(30)]
    marked = rate_of([replace(vote, simulated=True) for vote in votes])
    assert replace(marked, simulated=0) == rate_of(votes)
