"""Each thing that must always hold is broken once; the database itself says no."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from django.apps import apps
from django.db import IntegrityError, transaction
from django.db.models import ProtectedError
from django.utils import timezone

from annotate.judgements import record_judgement
from annotate.models import (
    Assignment,
    Campaign,
    Comparison,
    CriterionWinner,
    Draft,
    Example,
    Expert,
    Gold,
    Improvement,
    Judgement,
    Passage,
    Place,
    PracticeAnswer,
    Purpose,
    Rank,
    Report,
    Revision,
)
from annotate.queue import next_assignment
from generation.models import Story
from tests.annotate.test_data_models import BREAKS as DATA
from tests.annotate.test_listening_models import BREAKS as LISTENING
from tests.factories import make_comparison, make_expert, make_policy, make_prompt, make_story

pytestmark = pytest.mark.django_db


@dataclass
class World:
    comparison: Comparison
    expert: Expert
    assignment: Assignment
    judgement: Judgement

    @property
    def story(self) -> Story:
        return self.assignment.stories()[0]

    def new_comparison(self, **fields: object) -> Comparison:
        values = {"prompt": make_prompt(), "purpose": Purpose.PREFERENCE, "policy": self.comparison.policy}
        return Comparison.objects.create(**{**values, **fields})

    def new_assignment(self, **fields: object) -> Assignment:
        values = {"comparison": self.comparison, "expert": make_expert(), "shown": self.assignment.shown}
        return Assignment.objects.create(**{**values, **fields})

    def new_place(self, **fields: object) -> Place:
        values = {"comparison": self.comparison, "number": 99, "draw_order": 0.5, "language": "en"}
        return Place.objects.create(**{**values, **fields})

    def new_judgement(self, **fields: object) -> Judgement:
        return Judgement.objects.create(**{"assignment": self.new_assignment(), "verdict": "tie", **fields})

    def new_rank(self, **fields: object) -> Rank:
        story = make_story(self.comparison.policy, self.comparison.prompt, 4)
        values = {"judgement": self.judgement, "story": story, "rank": 4, "shown_position": 4}
        return Rank.objects.create(**{**values, **fields})

    def first_rank(self) -> Rank:
        return self.judgement.ranks.all()[0]

    def new_criterion_winner(self, **fields: object) -> CriterionWinner:
        values = {"judgement": self.judgement, "criterion": "structure", "story": self.story}
        return CriterionWinner.objects.create(**{**values, **fields})

    def new_passage(self, **fields: object) -> Passage:
        values = {"judgement": self.judgement, "story": self.story, "start": 0, "end": 5, "good": True}
        return Passage.objects.create(**{**values, **fields})

    def new_improvement(self, **fields: object) -> Improvement:
        values = {"judgement": self.judgement, "story": self.story, "text": "A better fox."}
        return Improvement.objects.create(**{**values, **fields})

    def new_revision(self, **fields: object) -> Revision:
        values = {"assignment": self.assignment, "number": 9, "act": "edited", "key": uuid.uuid4(), "fields": {}}
        return Revision.objects.create(**{**values, **fields})

    def new_report(self, **fields: object) -> Report:
        values = {"assignment": self.assignment, "subject": "unsafe", "story": self.story}
        return Report.objects.create(**{**values, **fields})

    def settled_report(self, **fields: object) -> Report:
        return self.new_report(**{"outcome": "upheld", "settled_at": timezone.now(), **fields})

    def new_gold(self, **fields: object) -> Gold:
        values = {"comparison": self.comparison, "best": self.story, "made_by": self.expert.user}
        return Gold.objects.create(**{**values, **fields})

    def new_example(self, **fields: object) -> Example:
        texts = {"prompt": "A fox.", "age_band": "5-6", "explanation_en": "It ends.", "explanation_zh": "有结尾。"}
        values = {"key": f"fox-{uuid.uuid4()}", "language": "en", "stories": ["One.", "Two."], "best": 1, "worst": 2}
        return Example.objects.create(**{**texts, **values, **fields})

    def new_practice_answer(self, **fields: object) -> PracticeAnswer:
        values = {"expert": self.expert, "example": self.new_example(), "best": 1}
        return PracticeAnswer.objects.create(**{**values, **fields})

    def new_campaign(self, **fields: object) -> Campaign:
        return Campaign.objects.create(**{"pk": 1, **fields})


@pytest.fixture
def world() -> World:
    comparison, expert = make_comparison(3), make_expert()
    assignment = next_assignment(expert=expert)
    kept = record_judgement(assignment=assignment, verdict="ranked", ranks={1: 1, 2: 2, 3: 3})
    Campaign.objects.all().delete()
    return World(comparison, expert, assignment, kept.judgement)


def twice(make: Callable[..., object], **fields: object) -> None:
    make(**fields)
    make(**fields)


BREAKS: list[tuple[str, Callable[[World], object]]] = [
    ("expert_audience_known", lambda w: make_expert("lawyer")),
    ("expert_reads_known_languages", lambda w: Expert.objects.filter(pk=w.expert.pk).update(languages=["en", "fr"])),
    ("expert_reads_known_languages", lambda w: Expert.objects.filter(pk=w.expert.pk).update(languages=[])),
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
    ("assignment_kind_known", lambda w: w.new_assignment(kind="test")),
    (
        "assignment_answered_or_skipped",
        lambda w: w.new_assignment(answered_at=timezone.now(), skipped_at=timezone.now()),
    ),
    ("annotate_assignment_key_key", lambda w: w.new_assignment(key=w.assignment.key)),
    ("annotate_draft_assignment_id_key", lambda w: twice(Draft.objects.create, assignment=w.assignment, fields={})),
    ("place_once", lambda w: w.new_place(number=1)),
    ("place_held_by_somebody", lambda w: w.new_place(held_until=timezone.now())),
    ("place_language_known", lambda w: w.new_place(language="fr")),
    ("place_filled_is_not_wanted", lambda w: w.new_place(assignment=w.new_assignment())),
    ("annotate_place_assignment_id_key", lambda w: w.new_place(assignment=w.assignment, wanted=False)),
    ("judgement_verdict_known", lambda w: w.new_judgement(verdict="maybe")),
    ("judgement_seconds_positive", lambda w: w.new_judgement(seconds=-0.1)),
    ("annotate_judgement_assignment_id_key", lambda w: w.new_judgement(assignment=w.assignment)),
    ("rank_once_per_story", lambda w: w.new_rank(story=w.first_rank().story)),
    ("rank_once_per_position", lambda w: w.new_rank(shown_position=1)),
    ("rank_from_one_to_five", lambda w: w.new_rank(rank=0)),
    ("rank_from_one_to_five", lambda w: w.new_rank(rank=6)),
    ("rank_position_from_one_to_five", lambda w: w.new_rank(shown_position=0)),
    ("rank_position_from_one_to_five", lambda w: w.new_rank(shown_position=6)),
    ("criterion_once_per_judgement", lambda w: twice(w.new_criterion_winner)),
    ("criterion_known", lambda w: w.new_criterion_winner(criterion="length")),
    ("passage_not_empty", lambda w: w.new_passage(start=5, end=5)),
    ("improvement_has_text", lambda w: w.new_improvement(text="")),
    ("annotate_improvement_judgement_id_key", lambda w: twice(w.new_improvement)),
    ("revision_once", lambda w: twice(w.new_revision, number=9)),
    ("revision_act_known", lambda w: w.new_revision(act="forgotten")),
    ("revision_key_once", lambda w: w.new_revision(key=w.assignment.revisions.get().key)),
    ("report_names_the_unsafe_story", lambda w: w.new_report(story=None)),
    ("report_names_the_unsafe_story", lambda w: w.new_report(subject="cannot_rank")),
    ("report_names_the_unsafe_story", lambda w: w.new_report(subject="boring")),
    ("report_settled_at_with_outcome", lambda w: w.new_report(settled_at=timezone.now())),
    ("report_settled_at_with_outcome", lambda w: w.settled_report(settled_at=None, settled_by=w.expert.user)),
    ("report_settled_by_somebody", lambda w: w.settled_report()),
    ("gold_best_is_not_worst", lambda w: w.new_gold(worst=w.story)),
    ("annotate_gold_comparison_id_key", lambda w: twice(w.new_gold)),
    ("campaign_one_row", lambda w: w.new_campaign(pk=2)),
    ("campaign_criteria_known", lambda w: w.new_campaign(criteria=["structure", "length"])),
    ("campaign_share_is_a_percentage", lambda w: w.new_campaign(evaluation_share=101)),
    ("example_language_known", lambda w: w.new_example(language="fr")),
    ("example_two_to_five_stories", lambda w: w.new_example(stories=list("123456"))),
    ("example_best_and_worst_among_stories", lambda w: w.new_example(best=3)),
    ("example_best_and_worst_among_stories", lambda w: w.new_example(worst=0)),
    ("example_best_and_worst_among_stories", lambda w: w.new_example(worst=1)),
    ("annotate_example_key_key", lambda w: twice(w.new_example, key="fox")),
    ("practice_once", lambda w: twice(w.new_practice_answer, example=w.new_example())),
]


@pytest.mark.parametrize(("name", "break_it"), BREAKS, ids=[f"{n}-{i}" for i, (n, _) in enumerate(BREAKS)])
def test_the_database_refuses_what_must_never_be(world: World, name: str, break_it: Callable[[World], object]) -> None:
    with pytest.raises(IntegrityError, match=f'constraint "{name}"'), transaction.atomic():
        break_it(world)


def test_every_constraint_is_broken_once() -> None:
    declared = {c.name for model in apps.get_app_config("annotate").get_models() for c in model._meta.constraints}
    assert declared <= {name for name, _ in (*BREAKS, *DATA, *LISTENING)}


@pytest.mark.parametrize(
    "rewrite",
    [
        lambda kept: kept.update(fields={"verdict": ["tie"]}),
        lambda kept: kept.update(act="undone"),
        lambda kept: kept.delete(),
        lambda kept: kept.get().delete(),
    ],
    ids=["fields", "act", "delete all", "delete one"],
)
def test_the_database_refuses_to_rewrite_the_history(world: World, rewrite: Callable[[object], object]) -> None:
    before = Revision.objects.values().get()
    with pytest.raises(IntegrityError, match="never changed or deleted"), transaction.atomic():
        rewrite(Revision.objects.all())
    assert Revision.objects.values().get() == before


def test_what_has_a_history_cannot_be_deleted(world: World) -> None:
    world.judgement.delete()
    Place.objects.all().delete()
    with pytest.raises(ProtectedError):
        world.assignment.delete()


@pytest.mark.parametrize("kind", [name for name in vars(World) if name.startswith("new_")])
def test_what_the_breaking_rows_are_made_of_is_itself_allowed(world: World, kind: str) -> None:
    assert getattr(world, kind)().pk


def test_a_settled_report_says_who_settled_it(world: World) -> None:
    assert world.settled_report(settled_by=world.expert.user).pk


def test_a_report_that_the_expert_took_back_needs_nobody_else(world: World) -> None:
    assert world.settled_report(outcome="taken_back").pk


def test_no_difference_by_a_criterion_is_an_answer_without_a_story(world: World) -> None:
    assert world.new_criterion_winner(story=None).pk


def test_an_expert_may_see_a_comparison_again_as_a_repeat(world: World) -> None:
    assert world.new_assignment(expert=world.expert, kind="repeat").pk


def test_an_evaluation_and_a_preference_comparison_of_one_prompt_may_stand_together(world: World) -> None:
    evaluation = {"purpose": Purpose.EVALUATION, "baseline": make_policy()}
    assert world.new_comparison(prompt=world.comparison.prompt, **evaluation).pk


def test_an_assignment_gives_its_stories_in_the_order_shown(world: World) -> None:
    turned = world.new_assignment(shown=world.assignment.shown[::-1])
    assert [story.pk for story in turned.stories()] == world.assignment.shown[::-1]


def test_people_are_told_from_simulated_experts(world: World) -> None:
    made_up = make_expert(simulated=True)
    Judgement.objects.create(assignment=world.new_assignment(expert=made_up), verdict="tie")
    assert list(Judgement.objects.all().by_people()) == [world.judgement]


def test_the_campaign_is_one_row_made_at_first_use() -> None:
    assert Campaign.current() == Campaign.current() == Campaign.objects.get()
