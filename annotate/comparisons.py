"""Putting stories before experts."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from annotate.models import Comparison, Place, Purpose, Report
from annotate.models.reports import Outcome, Subject
from annotate.queue import lock_queue, refresh_queue
from generation.models import Policy, Prompt, Split, Story
from generation.sql import among

EVALUATIONS_PER_PROMPT = 2  # two stories of each policy, one pair each
AT_ONCE = 1_000  # rows of one statement: PostgreSQL takes 65,535 values


@transaction.atomic
def open_preference_comparisons(*, policy: Policy) -> int:
    """One comparison for each training prompt with two or more finished stories of `policy`.

    Returns how many are new; those that exist are left alone.
    """
    lock_queue()
    told_apart = [stories for stories in _stories_by_prompt(policy, Split.TRAIN).values() if len(stories) > 1]
    return _open([(stories, 0) for stories in told_apart], purpose=Purpose.PREFERENCE, policy=policy, baseline=None)


@transaction.atomic
def open_evaluation_comparisons(*, policy: Policy, baseline: Policy) -> int:
    """Blind comparisons of `policy` against `baseline` on held-out prompts: one story of each.

    Both stories of a pair have the same place in the sampling plan. Returns how many are new.
    """
    lock_queue()
    wanted = []
    older = _stories_by_prompt(baseline, Split.EVALUATION)
    for prompt, stories in _stories_by_prompt(policy, Split.EVALUATION).items():
        opposite = {s.sample_index: s for s in older.get(prompt, ())}
        pairs = [(s, opposite[s.sample_index]) for s in stories if s.sample_index in opposite]
        differing = [pair for pair in pairs if pair[0].text != pair[1].text]
        # the same pair again is the same comparison
        wanted += [(pair, pair[0].sample_index) for pair in differing[:EVALUATIONS_PER_PROMPT]]
    return _open(wanted, purpose=Purpose.EVALUATION, policy=policy, baseline=baseline)


@transaction.atomic
def close_comparisons(comparisons: Iterable[Comparison]) -> int:
    """No new places are given from now on. Who holds one may finish: judgements are never refused."""
    lock_queue()
    ids = [c.pk for c in comparisons]
    closed = Comparison.objects.open().filter(pk__in=among(ids)).update(closed_at=timezone.now())
    refresh_queue(ids)
    return closed


@transaction.atomic
def reopen_preference_comparisons(*, policy: Policy) -> int:
    """Put the policy's closed comparisons before experts again, and open those that it has not had.

    One that an admin has called impossible to rank stays closed. Returns how many are open that were not.
    """
    lock_queue()
    upheld = Report.objects.filter(subject=Subject.CANNOT_RANK, outcome=Outcome.UPHELD)
    closed = Comparison.objects.preference().filter(policy=policy).exclude(closed_at=None)
    closed = closed.exclude(assignments__reports__in=upheld)
    ids = list(closed.values_list("pk", flat=True))
    Comparison.objects.filter(pk__in=among(ids)).update(closed_at=None)
    refresh_queue(ids)
    return len(ids) + open_preference_comparisons(policy=policy)


def _stories_by_prompt(policy: Policy, split: Split) -> dict[Prompt, list[Story]]:
    found = defaultdict(list)
    stories = policy.stories.presentable().filter(prompt__split=split).defer("token_ids", "rendered_prompt")
    for story in stories.select_related("prompt").order_by("prompt_id", "sample_index"):
        found[story.prompt].append(story)
    return found


def _open(
    wanted: Sequence[tuple[Sequence[Story], int]], *, purpose: Purpose, policy: Policy, baseline: Policy | None
) -> int:
    """Comparisons of (stories of a prompt, sample_index) with their places; how many are new. Under lock_queue()."""
    known = Comparison.objects.filter(purpose=purpose, policy=policy, baseline=baseline)
    there = set(known.values_list("prompt_id", "sample_index"))
    new = [(stories, index) for stories, index in wanted if (stories[0].prompt_id, index) not in there]
    for begin in range(0, len(new), AT_ONCE):
        part = new[begin : begin + AT_ONCE]
        fields = {"purpose": purpose, "policy": policy, "baseline": baseline}
        made = Comparison.objects.bulk_create(
            Comparison(prompt=stories[0].prompt, sample_index=index, **fields) for stories, index in part
        )
        shown = Comparison.stories.through
        shown.objects.bulk_create(
            (
                shown(comparison=comparison, story=story)
                for comparison, (stories, _index) in zip(made, part, strict=True)
                for story in stories
            ),
            batch_size=AT_ONCE,
        )
        _add_places(made)
    return len(new)


def _add_places(made: Sequence[Comparison]) -> None:
    order = dict(Comparison.objects.filter(pk__in=among(c.pk for c in made)).values_list("pk", "draw_order"))
    Place.objects.bulk_create(
        (
            Place(
                comparison=comparison,
                number=number,
                draw_order=order[comparison.pk],
                language=comparison.prompt.language,
                evaluation=comparison.purpose == Purpose.EVALUATION,
            )
            for comparison in made
            for number in range(1, settings.PLACES_PER_COMPARISON + 1)
        ),
        batch_size=AT_ONCE,
    )
