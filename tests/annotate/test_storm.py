"""Many tabs and many experts at once leave nothing out of joint."""

import random
from collections import Counter
from uuid import uuid4

import pytest
from django.db.models import Count, Q

from annotate.judgements import BadAnswer, Details, record_judgement, undo_judgement
from annotate.models import Assignment, Comparison, Expert, Judgement, Place, Revision
from annotate.pages import Conflict, PageState, save_draft
from annotate.queue import next_assignment, skip_assignment, unskip_assignment
from tests.factories import make_comparison, make_expert, set_campaign
from tests.threads import at_once

pytestmark = pytest.mark.django_db(transaction=True)
EXPERTS = 6
ACTS = 20


def opened(assignment: Assignment) -> PageState:
    """A page opened now."""
    return PageState(uuid4(), Assignment.objects.get(pk=assignment.pk).version)


def give(assignment: Assignment, verdict: str, **given: object) -> Judgement:
    given = {"page": opened(assignment), **given}
    return record_judgement(assignment=assignment, verdict=verdict, **given).judgement


def acts(assignment: Assignment) -> list[str]:
    return list(assignment.revisions.values_list("act", flat=True))


def judged(assignment: Assignment) -> int:
    return Expert.objects.get(pk=assignment.expert_id).judged


class TestAnswers:
    @pytest.fixture
    def assignment(self) -> Assignment:
        make_comparison(3)
        return next_assignment(expert=make_expert())

    def test_eight_copies_of_one_submit_are_one_answer(self, assignment: Assignment) -> None:
        key = opened(assignment)
        kept = at_once(8, lambda _: record_judgement(assignment=assignment, verdict="tie", page=key))
        assert sorted(k.repeated for k in kept) == [False] + [True] * 7
        assert len({k.judgement for k in kept}) == Judgement.objects.count() == 1
        assert (acts(assignment), judged(assignment)) == (["submitted"], 1)

    def test_of_eight_tabs_one_answer_is_kept_and_seven_are_told(self, assignment: Assignment) -> None:
        pages = [opened(assignment) for _ in range(8)]

        def answer(index: int) -> bool:
            try:
                return bool(give(assignment, "tie", page=pages[index]))
            except Conflict:
                return False

        assert sum(at_once(8, answer)) == Judgement.objects.count() == judged(assignment) == 1

    def test_taken_back_eight_times_at_once_is_taken_back_once(self, assignment: Assignment) -> None:
        give(assignment, "tie")
        at_once(8, lambda _: undo_judgement(assignment=assignment))
        assert (acts(assignment), judged(assignment)) == (["submitted", "undone"], 0)

    def test_an_expert_in_many_tabs_is_counted_right(self) -> None:
        expert = make_expert()
        for _ in range(6):
            make_comparison(2)
        for _ in range(6):
            give(next_assignment(expert=expert), "tie")
        open_now = list(expert.assignments.all())
        at_once(6, lambda i: undo_judgement(assignment=open_now[i]) if i % 2 else give(open_now[i], "all_good"))
        assert Expert.objects.get(pk=expert.pk).judged == Judgement.objects.count() == 3

    def test_experts_who_report_the_same_stories_at_once_are_all_heard(self) -> None:
        make_comparison(4)
        given = [next_assignment(expert=make_expert()) for _ in range(3)]
        found = frozenset({1})
        at_once(3, lambda i: give(given[i], "unsafe", details=Details(unsafe=found)))
        assert Judgement.objects.filter(verdict="unsafe").count() == 3


class Judge:
    """An expert with a will of their own."""

    def __init__(self, expert: Expert, seed: int) -> None:
        self.expert = expert
        self.chance = random.Random(seed)
        self.done: Counter[str] = Counter()

    def act(self) -> None:
        assignment = next_assignment(expert=self.expert)
        if self.chance.random() < 0.4 or assignment is None:
            assignment = self.chance.choice(list(self.expert.assignments.all()) or [None])
        if assignment:
            name = self.chance.choice(["rank", "rank", "tie", "unsafe", "draft", "skip", "undo"])
            try:
                getattr(self, name)(assignment)
                self.done[name] += 1
            except (BadAnswer, Conflict):
                self.done["refused"] += 1

    def rank(self, assignment: Assignment) -> None:
        positions = range(1, len(assignment.shown) + 1)
        give(assignment, "ranked", ranks={p: p for p in positions})

    def tie(self, assignment: Assignment) -> None:
        give(assignment, "tie")

    def unsafe(self, assignment: Assignment) -> None:
        give(assignment, "unsafe", details=Details(unsafe=frozenset({1})))

    def draft(self, assignment: Assignment) -> None:
        save_draft(assignment=assignment, fields={"best": ["1"]}, page=opened(assignment))

    def skip(self, assignment: Assignment) -> None:
        skip_assignment(assignment=assignment)

    def undo(self, assignment: Assignment) -> None:
        current = Assignment.objects.get(pk=assignment.pk)
        undo = unskip_assignment if current.skipped_at else undo_judgement
        undo(assignment=current)


@pytest.fixture
def judges(settings) -> list[Judge]:
    """After the storm."""
    settings.PLACES_PER_COMPARISON = 3
    set_campaign(repeat_every=0)
    for _ in range(6):
        make_comparison(4)
    judges = [Judge(make_expert(), seed) for seed in range(EXPERTS)]
    at_once(EXPERTS, lambda i: [judges[i].act() for _ in range(ACTS)])
    return judges


def test_after_a_storm_everything_still_fits_together(judges: list[Judge]) -> None:
    done = sum((judge.done for judge in judges), Counter())
    assert all(done[name] > 1 for name in ("rank", "tie", "unsafe", "draft", "skip", "undo"))

    answered = Assignment.objects.exclude(answered_at=None)
    assert set(answered) == set(Assignment.objects.filter(judgement__isnull=False))
    judged = {expert.pk: expert.judged for expert in Expert.objects.all()}
    assert judged == {pk: answered.filter(expert=pk).count() for pk in judged}

    last = {line.assignment_id: line.act for line in Revision.objects.order_by("number")}
    assert {pk for pk, act in last.items() if act != "undone"} == {a.pk for a in answered}

    filled = Place.objects.filter(assignment__isnull=False, held_until=None)
    counted = Judgement.objects.exclude(verdict="unsafe").filter(extra=False)
    assert set(filled.values_list("assignment", flat=True)) == set(counted.values_list("assignment", flat=True))

    left = Count("stories", filter=Q(stories__withdrawn_at=None))
    queued = Comparison.objects.annotate(left=left).filter(left__gte=2)
    wanted = Place.objects.filter(comparison__in=queued).exclude(pk__in=filled)
    assert set(Place.objects.wanted()) == set(wanted)
