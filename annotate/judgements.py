"""Giving experts their next comparison, and keeping what they answer.

Lock order: the expert's row (one expert's tabs wait for each other), then a place.
"""

import hashlib
import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.translation import gettext as _

from annotate.models import Assignment, Comparison, Expert, Judgement, Place, Rank, Verdict


class BadAnswer(ValueError):
    """The answer cannot be kept as it stands; the message says to the expert what to change."""


@dataclass(frozen=True)
class Kept:
    """What became of an answer. `repeated`: it had been given before, and the first one stands."""

    judgement: Judgement
    repeated: bool


@transaction.atomic
def next_assignment(*, expert: Expert) -> Assignment | None:
    """What `expert` is to judge now: what they have open, else a free place; None if there is none.

    Two experts never get the same place: it is taken under a row lock, and places locked by
    others are passed over.
    """
    Expert.objects.select_for_update(no_key=True).get(pk=expert.pk)
    for assignment in expert.assignments.unanswered().order_by("pk"):
        if _hold_again(assignment):
            return assignment
    free = Place.objects.free().open_to(expert)
    place = free.select_for_update(skip_locked=True, of=("self",)).first()
    if place is None:  # all were taken or locked: wait for those locks, they may be given back
        place = free.select_for_update(of=("self",)).first()
    if place is None:
        return None
    assignment = Assignment.objects.create(
        comparison=place.comparison, expert=expert, shown=shown_order(expert, place.comparison)
    )
    _take(place, assignment)
    return assignment


def shown_order(expert: Expert, comparison: Comparison) -> list[int]:
    """The comparison's story ids in an order drawn for (expert, comparison), the same each time."""
    ids = sorted(comparison.stories.values_list("pk", flat=True))
    digest = hashlib.sha256(f"{settings.SECRET_KEY}:{expert.pk}:{comparison.pk}".encode()).digest()
    random.Random(digest).shuffle(ids)
    return ids


def find_assignment(*, expert: Expert, key: UUID) -> Assignment:
    """The expert's own assignment; Assignment.DoesNotExist for anybody else's."""
    return Assignment.objects.select_related("comparison__prompt").get(key=key, expert=expert)


@transaction.atomic(durable=True)
def record_judgement(
    *, assignment: Assignment, verdict: str, ranks: Mapping[int, int] | None = None, reason: str = ""
) -> Kept:
    """Keep an expert's answer. `ranks` maps each shown position (1 is first) to its rank (1 is best).

    Never refused for being late: if the place has gone to somebody else and no other is free, the
    judgement is kept as an extra. Given twice, the first answer stands. Raises BadAnswer.
    """
    positions = range(1, len(assignment.shown) + 1)
    ranks = dict.fromkeys(positions, 1) if verdict == Verdict.TIE else dict(ranks or {})
    _check(verdict, ranks, positions, reason)
    Expert.objects.select_for_update(no_key=True).get(pk=assignment.expert_id)
    earlier = Judgement.objects.filter(assignment=assignment).first()
    if earlier:
        return Kept(earlier, repeated=True)
    filled = _hold_again(assignment)
    judgement = Judgement.objects.create(
        assignment=assignment, verdict=verdict, reason=reason.replace("\x00", "").strip(), extra=not filled
    )
    Rank.objects.bulk_create(
        Rank(judgement=judgement, story_id=assignment.shown[p - 1], rank=ranks[p], shown_position=p) for p in positions
    )
    Place.objects.filter(assignment=assignment).update(held_until=None)
    Assignment.objects.filter(pk=assignment.pk).update(skipped_at=None)
    return Kept(judgement, repeated=False)


@transaction.atomic
def skip_assignment(*, assignment: Assignment) -> None:
    """Give the place back, and do not show the comparison to this expert again."""
    Expert.objects.select_for_update(no_key=True).get(pk=assignment.expert_id)
    if Judgement.objects.filter(assignment=assignment).exists():
        return
    Place.objects.filter(assignment=assignment).update(assignment=None, held_until=None)
    Assignment.objects.filter(pk=assignment.pk).update(skipped_at=timezone.now())


def ranks_from_best_and_worst(count: int, best: int | None, worst: int | None) -> dict[int, int]:
    """{shown position: rank} when only the best, or the best and the worst, of `count` were named.

    Those not named tie in the middle.
    """
    if best is None:
        raise BadAnswer(_("Choose the best story first."))
    if best == worst:
        raise BadAnswer(_("One story cannot be both the best and the worst."))
    ranks = dict.fromkeys(range(1, count + 1), 2)
    ranks[best] = 1
    if worst is not None:
        ranks[worst] = 3 if count > 2 else 2
    return ranks


def _check(verdict: str, ranks: Mapping[int, int], positions: range, reason: str) -> None:
    if verdict not in Verdict.values:
        raise BadAnswer(_("Choose the best story, or say that they are equally good."))
    if set(ranks) != set(positions) or not all(1 <= r <= len(positions) for r in ranks.values()):
        raise BadAnswer(_("Give every story a rank from 1 to %(count)d.") % {"count": len(positions)})
    if verdict == Verdict.RANKED and len(set(ranks.values())) == 1:
        raise BadAnswer(_("All stories have the same rank. If you mean a tie, say that they are equally good."))
    if len(reason) > 2000:
        raise BadAnswer(_("The reason is too long: 2,000 characters at most."))


def _hold_again(assignment: Assignment) -> bool:
    """Hold the assignment's place for its full time from now; False if the comparison has no place left."""
    mine = Place.objects.select_for_update().filter(assignment=assignment).first()
    free = Place.objects.free().filter(comparison=assignment.comparison_id, comparison__closed_at=None)
    place = mine or free.select_for_update(skip_locked=True, of=("self",)).first()
    if place is None:
        return False
    _take(place, assignment)
    return True


def _take(place: Place, assignment: Assignment) -> None:
    until = Now() + timedelta(minutes=settings.RESERVATION_MINUTES)
    Place.objects.filter(pk=place.pk).update(assignment=assignment, held_until=until)
