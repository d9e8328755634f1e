"""Silent checks: a comparison comes again, or one whose answer is known; and what an adjudicator decides."""

import random
from collections.abc import Callable

import pytest

from annotate.judgements import record_judgement, undo_judgement
from annotate.models import Assignment, Comparison, Expert, Gold, Judgement, Kind, Place
from annotate.pairs import preference_judgements, preference_pairs
from annotate.queue import REPEAT_AFTER, next_assignment, skip_assignment, swapped
from annotate.simulated import simulate
from annotate.winrates import win_rate
from generation.models import Prompt, Story
from tests.annotate.answering import answer, story
from tests.factories import make_comparison, make_evaluation, make_expert, make_policy, set_campaign

pytestmark = pytest.mark.django_db
ORDINARY, REPEAT, GOLD, ADJUDICATION = Kind.ORDINARY, Kind.REPEAT, Kind.GOLD, Kind.ADJUDICATION


@pytest.fixture(autouse=True)
def _many_places(settings) -> None:
    settings.PLACES_PER_COMPARISON = 5


def campaign(*, repeat_every: int = 0, gold_every: int = 0) -> None:
    set_campaign(repeat_every=repeat_every, gold_every=gold_every)


def judge_next(expert: Expert, verdict: str = "tie") -> Assignment:
    """The expert's next assignment, judged."""
    assignment = next_assignment(expert=expert)
    ranks = {p: p for p in range(1, len(assignment.shown) + 1)} if verdict == "ranked" else None
    record_judgement(assignment=assignment, verdict=verdict, ranks=ranks)
    return Assignment.objects.get(pk=assignment.pk)


def practised(
    expert: Expert, count: int = REPEAT_AFTER + 1, verdict: str = "tie", stories: int = 3
) -> list[Assignment]:
    """`count` ordinary judgements, and one more comparison that waits."""
    campaign()
    for _ in range(count + 1):
        make_comparison(stories)
    return [judge_next(expert, verdict) for _ in range(count)]


def golden(**fields: object) -> Gold:
    """A gold in a comparison that has no place left, so that it comes as a check only."""
    comparison = make_comparison()
    comparison.places.all().delete()
    values = {"comparison": comparison, "best": story(comparison, "A"), "made_by": make_expert().user}
    return Gold.objects.create(**{**values, **fields})


def test_who_made_a_gold_is_not_asked_it(expert: Expert) -> None:
    golden(made_by=expert.user)
    make_comparison()
    campaign(gold_every=1)
    assert next_assignment(expert=expert).kind == ORDINARY


class TestRepeats:
    def test_the_oldest_answer_comes_again(self, expert: Expert) -> None:
        first = practised(expert)[0]
        campaign(repeat_every=1)
        again = next_assignment(expert=expert)
        assert (again.kind, again.comparison) == (REPEAT, first.comparison)

    @pytest.mark.parametrize("judged", range(1, REPEAT_AFTER + 1))
    def test_nothing_comes_again_while_the_first_answer_is_in_mind(self, expert: Expert, judged: int) -> None:
        practised(expert, judged)
        campaign(repeat_every=1)
        assert next_assignment(expert=expert).kind == ORDINARY

    def test_never_one_of_the_last_eight(self, expert: Expert) -> None:
        given = practised(expert, REPEAT_AFTER + 3)
        campaign(repeat_every=1)
        again = [judge_next(expert) for _ in range(4)]
        assert [a.comparison for a in again if a.kind == REPEAT][0] == given[0].comparison
        for index, assignment in enumerate(again):
            before = [a.comparison for a in [*given, *again[:index]]]
            if assignment.kind == REPEAT:
                assert assignment.comparison not in before[-REPEAT_AFTER:]

    @pytest.mark.parametrize("stories", [2, 3, 4, 5])
    def test_every_story_stands_in_another_place(self, expert: Expert, stories: int) -> None:
        first = practised(expert, stories=stories)[0]
        campaign(repeat_every=1)
        again = next_assignment(expert=expert)
        assert sorted(again.shown) == sorted(first.shown)
        assert all(new != old for new, old in zip(again.shown, first.shown, strict=True))

    @pytest.mark.parametrize("count", [2, 3, 4, 5])
    def test_any_such_order_can_come(self, count: int) -> None:
        shown = list(range(count))
        orders = {tuple(swapped(shown, random.Random(seed))) for seed in range(400)}
        assert len(orders) == {2: 1, 3: 2, 4: 9, 5: 44}[count]

    def test_a_reload_shows_the_same_repeat(self, expert: Expert) -> None:
        practised(expert)
        campaign(repeat_every=1)
        first, second = next_assignment(expert=expert), next_assignment(expert=expert)
        assert (first, first.shown) == (second, second.shown)

    def test_a_comparison_comes_again_once(self, expert: Expert) -> None:
        first = practised(expert)[0]
        campaign(repeat_every=1)
        for _ in range(REPEAT_AFTER):
            make_comparison()
        given = [judge_next(expert) for _ in range(REPEAT_AFTER)]
        assert [a.kind for a in given if a.comparison == first.comparison] == [REPEAT]

    def test_a_skipped_repeat_does_not_come_again(self, expert: Expert) -> None:
        practised(expert)
        campaign(repeat_every=1)
        skip_assignment(assignment=next_assignment(expert=expert))
        assert next_assignment(expert=expert).kind == ORDINARY

    def test_a_repeat_takes_no_place(self, expert: Expert) -> None:
        practised(expert)
        campaign(repeat_every=1)
        before = list(Place.objects.order_by("pk").values())
        judge_next(expert)
        assert list(Place.objects.order_by("pk").values()) == before

    def test_a_repeat_is_no_extra(self, expert: Expert) -> None:
        practised(expert)
        campaign(repeat_every=1)
        assert not judge_next(expert).judgement.extra

    def test_a_repeat_taken_back_comes_up_again(self, expert: Expert) -> None:
        practised(expert)
        campaign(repeat_every=1)
        again = judge_next(expert)
        undo_judgement(assignment=again)
        assert next_assignment(expert=expert) == again

    def test_what_could_not_be_ranked_does_not_come_again(self, expert: Expert) -> None:
        practised(expert, verdict="cannot_rank")
        campaign(repeat_every=1)
        assert next_assignment(expert=expert).kind == ORDINARY

    def test_what_has_lost_a_story_does_not_come_again(self, expert: Expert) -> None:
        first = practised(expert)[0]
        Story.objects.filter(pk=first.shown[0]).update(withdrawn_at=first.answered_at)
        campaign(repeat_every=1)
        assert next_assignment(expert=expert).kind == ORDINARY

    def test_without_work_nothing_comes_again(self, expert: Expert) -> None:
        practised(expert)
        Place.objects.update(wanted=False)
        campaign(repeat_every=1)
        assert next_assignment(expert=expert) is None

    def test_about_one_in_so_many_is_a_repeat(self, expert: Expert) -> None:
        practised(expert, REPEAT_AFTER + 20)
        campaign(repeat_every=4)
        for _ in range(40):
            make_comparison()
        kinds = [judge_next(expert).kind for _ in range(40)]
        assert 4 <= kinds.count(REPEAT) <= 18

    def test_a_campaign_can_do_without(self, expert: Expert) -> None:
        practised(expert)
        assert next_assignment(expert=expert).kind == ORDINARY

    def test_the_second_answer_makes_no_pair(self, expert: Expert) -> None:
        comparison = make_comparison(2)
        answer(expert, comparison, "A > B")
        answer(expert, comparison, "B > A", kind=REPEAT)
        answer(expert, comparison, "B > A", kind=GOLD)
        (pair,) = preference_pairs(preference_judgements())
        assert (pair.chosen, pair.judgements_for, pair.judgements_against) == (story(comparison, "A"), 1, 0)

    def test_the_second_answer_is_in_no_win_rate(self, expert: Expert) -> None:
        new, old = make_policy(), make_policy()
        comparison = make_evaluation(new, old)
        answer(expert, comparison, "A > B")
        answer(expert, comparison, "B > A", kind=REPEAT)
        found = win_rate(new, old)
        assert (found.n, found.rate) == (1, 1.0)


class TestGold:
    def test_a_gold_comes_to_who_never_saw_it(self, expert: Expert) -> None:
        gold = golden()
        make_comparison()
        campaign(gold_every=1)
        found = next_assignment(expert=expert)
        assert (found.kind, found.comparison) == (GOLD, gold.comparison)

    def test_a_gold_comes_once(self, expert: Expert) -> None:
        golden()
        make_comparison()
        campaign(gold_every=1)
        assert [judge_next(expert).kind for _ in range(2)] == [GOLD, ORDINARY]

    def test_a_gold_does_not_come_to_who_has_judged_it(self, expert: Expert) -> None:
        answer(expert, golden().comparison, "A > B > C")
        make_comparison()
        campaign(gold_every=1)
        assert next_assignment(expert=expert).kind == ORDINARY

    def test_a_gold_takes_no_place(self, expert: Expert) -> None:
        gold = golden()
        gold.comparison.places.create(number=1, draw_order=2.0, language="en")
        make_comparison()
        campaign(gold_every=1)
        before = list(Place.objects.order_by("pk").values())
        assert judge_next(expert).kind == GOLD
        assert list(Place.objects.order_by("pk").values()) == before

    @pytest.mark.parametrize(
        "spoil",
        [
            lambda gold: Gold.objects.update(retired_at=gold.created_at),
            lambda gold: Story.objects.filter(pk=gold.best_id).update(withdrawn_at=gold.created_at),
            lambda gold: Prompt.objects.filter(pk=gold.comparison.prompt_id).update(language="zh"),
        ],
        ids=["retired", "a story has left", "in a language not read"],
    )
    def test_a_gold_that_is_none_for_this_expert_does_not_come(
        self, expert: Expert, spoil: Callable[[Gold], object]
    ) -> None:
        spoil(golden())
        make_comparison()
        Expert.objects.filter(pk=expert.pk).update(languages=["en"])
        campaign(gold_every=1)
        assert next_assignment(expert=expert).kind == ORDINARY

    def test_a_gold_is_drawn_in_the_experts_own_order(self) -> None:
        golden()
        make_comparison()
        campaign(gold_every=1)
        orders = {tuple(next_assignment(expert=make_expert()).shown) for _ in range(12)}
        assert len(orders) > 1

    def test_an_answer_to_a_gold_makes_no_pair(self, expert: Expert) -> None:
        answer(expert, golden().comparison, "B > A > C", kind=GOLD)
        assert preference_pairs(preference_judgements()) == []


class TestForWhom:
    def test_simulated_experts_are_never_checked(self) -> None:
        for _ in range(REPEAT_AFTER + 3):
            make_comparison(2)
        golden()
        campaign(repeat_every=1, gold_every=1)
        assert simulate() == 3 * (REPEAT_AFTER + 3)
        assert set(Assignment.objects.values_list("kind", flat=True)) == {ORDINARY}

    def test_a_check_counts_among_the_experts_judgements(self, expert: Expert) -> None:
        golden()
        make_comparison()
        campaign(gold_every=1)
        judge_next(expert)
        assert Expert.objects.get(pk=expert.pk).judged == 1

    def test_the_counted_judgements_are_the_ordinary_and_the_adjudicators(self, expert: Expert) -> None:
        kept = {kind: answer(expert, make_comparison(), "tie", kind=kind) for kind in Kind}
        assert set(Judgement.objects.all().counted()) == {kept[ORDINARY], kept[ADJUDICATION]}


def disputed(*orders: str) -> Comparison:
    """A comparison that experts have put in `orders`."""
    comparison = make_comparison(3)
    for order in orders:
        answer(make_expert(), comparison, order)
    return comparison


def pairs_of(comparison: Comparison) -> list[tuple[str, str, int, int]]:
    """(chosen, rejected, votes for, votes against) of each pair, the stories by letter."""
    letter = {story(comparison, x).pk: x for x in "ABC"}
    pairs = preference_pairs(preference_judgements())
    found = [p for p in pairs if p.chosen.prompt == comparison.prompt]
    return sorted((letter[p.chosen.pk], letter[p.rejected.pk], p.judgements_for, p.judgements_against) for p in found)


class TestAdjudication:
    def test_the_adjudicators_answer_stands_for_all_the_others(self) -> None:
        comparison = disputed("A > B > C", "A > B > C", "C > B > A")
        answer(make_expert(), comparison, "C > A > B", kind=ADJUDICATION)
        assert pairs_of(comparison) == [("A", "B", 1, 0), ("C", "A", 1, 0), ("C", "B", 1, 0)]

    def test_other_comparisons_keep_their_votes(self) -> None:
        settled, other = disputed("A > B > C"), disputed("A > B > C", "A > C > B")
        answer(make_expert(), settled, "C > A > B", kind=ADJUDICATION)
        assert pairs_of(other) == [("A", "B", 2, 0), ("A", "C", 2, 0)]

    def test_an_adjudicators_tie_leaves_no_pair(self) -> None:
        comparison = disputed("A > B > C", "C > B > A", "A > B > C")
        answer(make_expert(), comparison, "all_good", kind=ADJUDICATION)
        assert pairs_of(comparison) == []

    def test_an_adjudicator_who_cannot_rank_decides_nothing(self) -> None:
        comparison = disputed("A > B > C")
        answer(make_expert(), comparison, "cannot_rank", kind=ADJUDICATION)
        assert len(pairs_of(comparison)) == 3

    def test_an_adjudicator_who_has_not_answered_yet_decides_nothing(self) -> None:
        comparison = disputed("A > B > C")
        Assignment.objects.create(comparison=comparison, expert=make_expert(), shown=[1, 2, 3], kind=ADJUDICATION)
        assert len(pairs_of(comparison)) == 3

    def test_an_adjudication_is_in_no_export_of_another_policy(self) -> None:
        comparison = disputed("A > B > C")
        answer(make_expert(), comparison, "C > A > B", kind=ADJUDICATION)
        assert preference_pairs(preference_judgements(policy=make_policy())) == []
