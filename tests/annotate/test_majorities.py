"""What the database counts is what the votes say, and stories' texts are read only where somebody writes them down."""

import random
from collections import defaultdict
from itertools import permutations

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from annotate import pairs as pairs_module
from annotate.judgements import Details, record_judgement
from annotate.majorities import OVERALL, count_majorities, majorities
from annotate.models import Criterion, CriterionWinner, Judgement, Rank
from annotate.pairs import (
    comparison_rows,
    count_comparison_rows,
    count_pairs,
    export_row,
    preference_judgements,
    preference_pairs,
    with_texts,
)
from annotate.queue import next_assignment
from generation.models import Policy, Story
from tests.factories import judge_by_story, make_comparison, make_expert, make_policy
from training.report import collected

pytestmark = pytest.mark.django_db

Found = set[tuple[str, int, int, int, int, int]]


@pytest.fixture
def campaign(settings) -> Policy:
    """Many experts' answers, drawn: ties, reports, winners by criterion, improved and withdrawn stories."""
    settings.PLACES_PER_COMPARISON = 6
    chance, policy = random.Random(7), make_policy(current=True)
    for _ in range(8):
        make_comparison(chance.randint(2, 5), policy=policy)
    for number in range(9):
        expert = make_expert(simulated=number % 3 == 0)
        while assignment := next_assignment(expert=expert):
            places = range(1, len(assignment.shown) + 1)
            verdict = chance.choices(["ranked", "all_good", "cannot_rank"], [8, 1, 1])[0]
            ranks = {place: chance.choice(places) for place in places}
            ranks[chance.choice(places)] = 1
            if len(set(ranks.values())) == 1:
                verdict, ranks = "tie", {}
            winners = {name: chance.choice([*places, None]) for name in Criterion.values if chance.random() < 0.5}
            best = [place for place in places if ranks.get(place) == 1]
            improved = "As I would tell it." if verdict == "ranked" and len(best) == 1 and chance.random() < 0.2 else ""
            details = Details(criteria=winners, improved=improved)
            record_judgement(
                assignment=assignment, verdict=verdict, ranks=ranks if verdict == "ranked" else None, details=details
            )
    withdrawn = chance.sample(list(Story.objects.values_list("pk", flat=True)), 2)
    Story.objects.filter(pk__in=withdrawn).update(withdrawn_at=timezone.now())
    return policy


def by_hand(judgements: list[Judgement]) -> Found:
    """(criterion, chosen, rejected, for, against, simulated), one vote after the other."""
    votes: dict[tuple[str, int, int], list[bool]] = defaultdict(list)
    withdrawn = set(Story.objects.exclude(withdrawn_at=None).values_list("pk", flat=True))
    for judgement in judgements:
        ranks = {rank.story_id: rank.rank for rank in Rank.objects.filter(judgement=judgement)}
        read, simulated = set(ranks) - withdrawn, judgement.assignment.expert.simulated
        for one, other in permutations(read, 2):
            if ranks[one] < ranks[other]:
                votes[OVERALL, one, other].append(simulated)
        for won in CriterionWinner.objects.filter(judgement=judgement, story__isnull=False):
            for other in read - {won.story_id} if won.story_id not in withdrawn else ():
                votes[won.criterion, won.story_id, other].append(simulated)
    found = set()
    for (criterion, one, other), pro in votes.items():
        contra = votes.get((criterion, other, one), [])
        if len(pro) > len(contra):
            found.add((criterion, one, other, len(pro), len(contra), sum(pro) + sum(contra)))
    return found


@pytest.mark.parametrize("people", [False, True])
def test_what_the_database_counts_is_what_counting_by_hand_finds(campaign: Policy, people: bool) -> None:
    judgements = preference_judgements(include_simulated=not people)
    expected = by_hand(list(judgements.select_related("assignment__expert")))
    assert {OVERALL, *Criterion.values} == {row[0] for row in expected}
    assert set(majorities(judgements, by_criterion=True)) == expected
    overall = {row for row in expected if row[0] == OVERALL}
    assert set(majorities(judgements, by_criterion=False)) == overall


@pytest.mark.parametrize("by_criterion", [False, True])
def test_the_count_is_that_of_the_pairs(campaign: Policy, by_criterion: bool) -> None:
    judgements = preference_judgements(policy=campaign)
    found = preference_pairs(judgements, by_criterion=by_criterion)
    assert any(pair.chosen.pk and not isinstance(pair.chosen, Story) for pair in found)  # an improved one
    assert count_pairs(judgements, by_criterion=by_criterion) == len(found)


def test_a_selection_that_can_hold_nothing_has_no_pair() -> None:
    nothing = preference_judgements().filter(pk__in=[])
    assert list(majorities(nothing, by_criterion=True)) == preference_pairs(nothing) == []
    assert count_majorities(nothing, by_criterion=True) == count_pairs(nothing) == 0


def test_finding_pairs_reads_no_texts_and_takes_as_many_queries_for_many(campaign: Policy) -> None:
    with CaptureQueriesContext(connection) as queries:
        found = preference_pairs(preference_judgements())
        assert {pair.rejected.prompt.theme for pair in found} == {"courage"}
        assert {pair.rejected.policy.name for pair in found} == {campaign.name}
    assert len(found) > 20
    assert len(queries) == 5  # majorities, improvements, stories, prompts, policies
    assert not any('"token_ids"' in query["sql"] for query in queries)


def test_the_rounds_page_counts_without_reading_a_story(campaign: Policy) -> None:
    with CaptureQueriesContext(connection) as queries:
        figures = collected()
    assert figures.all == figures.new == len(preference_pairs(preference_judgements()))
    assert figures.people == len(preference_pairs(preference_judgements(include_simulated=False)))
    assert not any('SELECT "generation_story"' in query["sql"] for query in queries)
    assert sum("WITH judged" in query["sql"] for query in queries) == 2  # all, and people's: no round has used any


def test_with_texts_gives_the_same_pairs_with_their_texts_read_in_parts(campaign: Policy, monkeypatch) -> None:
    monkeypatch.setattr(pairs_module, "AT_ONCE", 10)
    found = preference_pairs(preference_judgements(), by_criterion=True)
    with CaptureQueriesContext(connection) as queries:
        rows = [export_row(pair) for pair in with_texts(found)]
    assert len(queries) == -(-len(found) // 10)
    stories = Story.objects.in_bulk()
    for pair, row in zip(found, rows, strict=True):
        assert (row["chosen_id"], row["rejected_id"]) == (pair.chosen.pk, pair.rejected.pk)
        assert row["rejected"] == stories[pair.rejected.pk].text
        assert row["rejected_ids"] == stories[pair.rejected.pk].token_ids
        assert row["chosen"] == ("As I would tell it." if row["edited"] else stories[pair.chosen.pk].text)


def test_lines_by_prompt_are_the_same_however_many_prompts_are_read_at_once(campaign: Policy, monkeypatch) -> None:
    found = preference_pairs(preference_judgements(), by_criterion=True)
    whole = list(comparison_rows(found))
    monkeypatch.setattr(pairs_module, "AT_ONCE", 1)
    assert list(comparison_rows(found)) == whole
    assert count_comparison_rows(found) == len(whole) > 4


def test_a_prompt_that_two_policies_read_differently_is_two_lines() -> None:
    first = make_comparison(2)
    second = make_comparison(2, prompt=first.prompt)
    Story.objects.filter(policy=second.policy).update(rendered_prompt="<user>Write!</user>")
    for comparison in (first, second):
        order = {comparison.pk: list(comparison.stories.all()) for comparison in (first, second)}
    expert = make_expert()
    for _ in range(2):
        shown = next_assignment(expert=expert)
        judge_by_story(expert, order[shown.comparison_id])
    found = preference_pairs(preference_judgements())
    assert count_comparison_rows(found) == len(list(comparison_rows(found))) == 2
