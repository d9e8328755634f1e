"""Putting stories before experts."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from annotate.models import Comparison, Place, Purpose, Report
from annotate.models.reports import Outcome, Subject
from annotate.queue import lock_queue, refresh_queue
from generation.models import Policy, Prompt, Split, Story

EVALUATIONS_PER_PROMPT = 2  # two stories of each policy, one pair each


@transaction.atomic
def open_preference_comparisons(*, policy: Policy) -> int:
    """One comparison for each training prompt with two or more finished stories of `policy`.

    Returns how many are new; those that exist are left alone.
    """
    lock_queue()
    new = 0
    for prompt, stories in _stories_by_prompt(policy, Split.TRAIN).items():
        if len(stories) > 1:
            new += _open(prompt, stories, purpose=Purpose.PREFERENCE, policy=policy)
    return new


@transaction.atomic
def open_evaluation_comparisons(*, policy: Policy, baseline: Policy) -> int:
    """Blind comparisons of `policy` against `baseline` on held-out prompts: one story of each.

    Both stories of a pair have the same place in the sampling plan. Returns how many are new.
    """
    lock_queue()
    new = 0
    older = _stories_by_prompt(baseline, Split.EVALUATION)
    for prompt, stories in _stories_by_prompt(policy, Split.EVALUATION).items():
        opposite = {s.sample_index: s for s in older.get(prompt, ())}
        pairs = [(s, opposite[s.sample_index]) for s in stories if s.sample_index in opposite]
        differing = [pair for pair in pairs if pair[0].text != pair[1].text]
        for pair in differing[:EVALUATIONS_PER_PROMPT]:
            sample_index = pair[0].sample_index  # the same pair again is the same comparison
            new += _open(
                prompt, pair, purpose=Purpose.EVALUATION, policy=policy, baseline=baseline, sample_index=sample_index
            )
    return new


@transaction.atomic
def close_comparisons(comparisons: Iterable[Comparison]) -> int:
    """No new places are given from now on. Who holds one may finish: judgements are never refused."""
    lock_queue()
    ids = [c.pk for c in comparisons]
    closed = Comparison.objects.open().filter(pk__in=ids).update(closed_at=timezone.now())
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
    Comparison.objects.filter(pk__in=ids).update(closed_at=None)
    refresh_queue(ids)
    return len(ids) + open_preference_comparisons(policy=policy)


def _stories_by_prompt(policy: Policy, split: Split) -> dict[Prompt, list[Story]]:
    found = defaultdict(list)
    stories = policy.stories.presentable().filter(prompt__split=split)
    for story in stories.select_related("prompt").order_by("prompt_id", "sample_index"):
        found[story.prompt].append(story)
    return found


def _open(prompt: Prompt, stories: Iterable[Story], **fields: Any) -> int:
    fields.setdefault("baseline", None)
    comparison, new = Comparison.objects.get_or_create(prompt=prompt, **fields)
    if new:
        comparison.refresh_from_db(fields=["draw_order"])
        comparison.stories.set(stories)
        Place.objects.bulk_create(
            Place(
                comparison=comparison,
                number=number,
                draw_order=comparison.draw_order,
                language=comparison.prompt.language,
                evaluation=comparison.purpose == Purpose.EVALUATION,
            )
            for number in range(1, settings.PLACES_PER_COMPARISON + 1)
        )
    return int(new)
