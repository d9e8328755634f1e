"""Each thing that must always hold is broken once; the database itself says no."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from django.apps import apps
from django.db import IntegrityError, transaction
from django.utils import timezone

from annotate.judgements import next_assignment, record_judgement
from annotate.models import Assignment, Comparison, Expert, Judgement, Place, Purpose, Rank
from tests.factories import make_comparison, make_expert, make_policy, make_prompt, make_story

pytestmark = pytest.mark.django_db


@dataclass
class World:
    comparison: Comparison
    expert: Expert
    assignment: Assignment
    judgement: Judgement

    def new_comparison(self, **fields: object) -> Comparison:
        values = {"prompt": make_prompt(), "purpose": Purpose.PREFERENCE, "policy": self.comparison.policy}
        return Comparison.objects.create(**{**values, **fields})

    def new_assignment(self, **fields: object) -> Assignment:
        values = {"comparison": self.comparison, "expert": make_expert(), "shown": self.assignment.shown}
        return Assignment.objects.create(**{**values, **fields})

    def new_place(self, **fields: object) -> Place:
        values = {"comparison": self.comparison, "number": 99, "draw_order": 0.5}
        return Place.objects.create(**{**values, **fields})

    def new_rank(self, **fields: object) -> Rank:
        story = make_story(self.comparison.policy, self.comparison.prompt, 4)
        values = {"judgement": self.judgement, "story": story, "rank": 4, "shown_position": 4}
        return Rank.objects.create(**{**values, **fields})

    def first_rank(self) -> Rank:
        return self.judgement.ranks.all()[0]


@pytest.fixture
def world() -> World:
    comparison, expert = make_comparison(3), make_expert()
    assignment = next_assignment(expert=expert)
    kept = record_judgement(assignment=assignment, verdict="ranked", ranks={1: 1, 2: 2, 3: 3})
    return World(comparison, expert, assignment, kept.judgement)


BREAKS: list[tuple[str, Callable[[World], object]]] = [
    ("expert_audience_known", lambda w: make_expert("lawyer")),
    ("annotate_expert_user_id_key", lambda w: Expert.objects.create(user=w.expert.user, audience="parent")),
    ("comparison_once", lambda w: w.new_comparison(prompt=w.comparison.prompt)),
    ("comparison_baseline_only_in_evaluation", lambda w: w.new_comparison(baseline=make_policy())),
    ("comparison_baseline_only_in_evaluation", lambda w: w.new_comparison(purpose=Purpose.EVALUATION)),
    (
        "comparison_baseline_only_in_evaluation",
        lambda w: w.new_comparison(purpose=Purpose.EVALUATION, baseline=w.comparison.policy),
    ),
    ("comparison_baseline_only_in_evaluation", lambda w: w.new_comparison(purpose="curiosity")),
    ("assignment_once", lambda w: w.new_assignment(expert=w.expert)),
    ("annotate_assignment_key_key", lambda w: w.new_assignment(key=w.assignment.key)),
    ("place_once", lambda w: w.new_place(number=1)),
    ("place_held_by_somebody", lambda w: w.new_place(held_until=timezone.now())),
    ("annotate_place_assignment_id_key", lambda w: w.new_place(assignment=w.assignment)),
    ("judgement_verdict_known", lambda w: Judgement.objects.create(assignment=w.new_assignment(), verdict="maybe")),
    (
        "annotate_judgement_assignment_id_key",
        lambda w: Judgement.objects.create(assignment=w.assignment, verdict="tie"),
    ),
    ("rank_once_per_story", lambda w: w.new_rank(story=w.first_rank().story)),
    ("rank_once_per_position", lambda w: w.new_rank(shown_position=1)),
    ("rank_from_one_to_five", lambda w: w.new_rank(rank=0)),
    ("rank_from_one_to_five", lambda w: w.new_rank(rank=6)),
    ("rank_position_from_one_to_five", lambda w: w.new_rank(shown_position=0)),
    ("rank_position_from_one_to_five", lambda w: w.new_rank(shown_position=6)),
]


@pytest.mark.parametrize(("name", "break_it"), BREAKS, ids=[f"{n}-{i}" for i, (n, _) in enumerate(BREAKS)])
def test_the_database_refuses_what_must_never_be(world: World, name: str, break_it: Callable[[World], object]) -> None:
    with pytest.raises(IntegrityError, match=f'constraint "{name}"'), transaction.atomic():
        break_it(world)


def test_every_constraint_is_broken_once() -> None:
    declared = {c.name for model in apps.get_app_config("annotate").get_models() for c in model._meta.constraints}
    assert declared <= {name for name, _ in BREAKS}


@pytest.mark.parametrize("kind", ["new_comparison", "new_assignment", "new_place", "new_rank"])
def test_what_the_breaking_rows_are_made_of_is_itself_allowed(world: World, kind: str) -> None:
    assert getattr(world, kind)().pk


def test_an_evaluation_and_a_preference_comparison_of_one_prompt_may_stand_together(world: World) -> None:
    evaluation = {"purpose": Purpose.EVALUATION, "baseline": make_policy()}
    assert world.new_comparison(prompt=world.comparison.prompt, **evaluation).pk


def test_an_assignment_gives_its_stories_in_the_order_shown(world: World) -> None:
    world.assignment.shown = world.assignment.shown[::-1]
    assert [story.pk for story in world.assignment.stories()] == world.assignment.shown


def test_people_are_told_from_simulated_experts(world: World) -> None:
    made_up = make_expert(simulated=True)
    Judgement.objects.create(assignment=world.new_assignment(expert=made_up), verdict="tie")
    assert list(Judgement.objects.all().by_people()) == [world.judgement]
