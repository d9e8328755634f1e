"""Keeping what experts answer. Nothing is refused for being late, and nothing is overwritten."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID, uuid4

from django.db import transaction
from django.db.models import F
from django.utils import timezone
from django.utils.translation import gettext as _

from annotate.chips import known_chips
from annotate.models import (
    Assignment,
    CriterionWinner,
    Draft,
    Expert,
    Improvement,
    Judgement,
    Passage,
    Rank,
    Revision,
    Verdict,
)
from annotate.models.answers import EQUAL, Act
from annotate.pages import PageState, check_page, key_used, sent_before
from annotate.queue import fill, hold_again, lock, lock_queue, refresh_queue, release
from annotate.reports import report, take_back_reports
from generation.models import Story

MAX_IMPROVEMENT = 20_000
MAX_PASSAGES = 50
DAY_SECONDS = 86_400.0


class BadAnswer(ValueError):
    """The answer cannot be kept as it stands; the message says to the expert what to change."""


@dataclass(frozen=True)
class Mark:
    """Characters `start` to `end` (code points) of the story shown at `position`."""

    position: int
    start: int
    end: int
    good: bool


@dataclass(frozen=True)
class Details:
    """What may come with an answer. Positions are shown positions, 1 is first."""

    reasons_for: Sequence[str] = ()
    reasons_against: Sequence[str] = ()
    criteria: Mapping[str, int | None] = field(default_factory=dict)  # winner; None: no difference
    passages: Sequence[Mark] = ()
    improved: str = ""
    unsafe: frozenset[int] = frozenset()
    gone: frozenset[int] = frozenset()  # had left the queue when the page was shown: nobody read them
    seconds: float | None = None
    fields: Mapping[str, list[str]] | None = None  # as the page sent them, for the history


@dataclass(frozen=True)
class Kept:
    """What became of an answer. `repeated`: it had been given before, and the first one stands."""

    judgement: Judgement
    repeated: bool


@transaction.atomic(durable=True)
def record_judgement(
    *,
    assignment: Assignment,
    verdict: str,
    ranks: Mapping[int, int] | None = None,
    reason: str = "",
    details: Details | None = None,
    page: PageState | None = None,
) -> Kept:
    """Keep an expert's answer. `ranks` maps each shown position (1 is first) to its rank (1 is best).

    Never refused for being late: if the place has gone to somebody else and no other is free, the
    judgement is kept as an extra. The same `page` twice is one answer. From a page that knows the
    answer as it stands it is an edit; from one that does not, Conflict. Raises BadAnswer, Conflict.
    """
    details = details or Details()
    positions = range(1, len(assignment.shown) + 1)
    given = dict.fromkeys(positions, 1) if verdict in EQUAL else ranks or {}
    ranks = {position: rank for position, rank in given.items() if position not in details.gone}
    _check(assignment, verdict, ranks, reason, details)
    fields = details.fields or _fields_of(verdict, ranks, reason)
    _count(assignment, 1)  # also the lock: all writes of one expert wait for each other here
    current = Assignment.objects.get(pk=assignment.pk)
    earlier = Judgement.objects.filter(assignment=current).first() if current.answered_at else None
    if earlier:
        _count(assignment, -1)
    if earlier and (page is None or sent_before(current, page, fields)):
        return Kept(earlier, repeated=True)
    if page:
        check_page(current, page)
    if earlier or verdict == Verdict.UNSAFE:
        lock_queue()
    judgement = earlier or Judgement(assignment=current)
    judgement.verdict = verdict
    judgement.reason = _clean(reason)
    if earlier:
        take_back_reports(current, keep=_reported(judgement, details))
    if verdict == Verdict.UNSAFE:  # the stories that are left still want their judgement
        release(current)
    else:
        judgement.extra = not fill(current)
    _write(judgement, ranks, details)
    key = page.key if page and not key_used(current, page) else uuid4()
    _add_revision(current, Act.EDITED if earlier else Act.SUBMITTED, key, fields)
    if current.version:  # else nothing was ever written from its page
        Draft.objects.filter(assignment=current).delete()
    now = current.answered_at or timezone.now()
    Assignment.objects.filter(pk=current.pk).update(
        answered_at=now, skipped_at=None, version=current.version + 1, page=page.key if page else key
    )
    return Kept(judgement, repeated=False)


@transaction.atomic(durable=True)
def undo_judgement(*, assignment: Assignment) -> None:
    """Take an answer back: it is counted nowhere any more, and comes up again as a draft."""
    lock(assignment.expert)
    current = Assignment.objects.get(pk=assignment.pk)
    judgement = Judgement.objects.filter(assignment=current).first()
    if judgement is None:
        return
    lock_queue()
    fields = last_fields(current)
    judgement.delete()
    take_back_reports(current)
    Draft.objects.update_or_create(assignment=current, defaults={"fields": fields})
    _add_revision(current, Act.UNDONE, uuid4(), fields)
    Assignment.objects.filter(pk=current.pk).update(answered_at=None, version=current.version + 1, page=None)
    _count(current, -1)
    hold_again(current)
    refresh_queue([current.comparison_id])


def last_fields(assignment: Assignment) -> dict[str, list[str]]:
    """The page's fields of the answer as it stands; empty if there never was one."""
    last = Revision.objects.filter(assignment=assignment).order_by("-number").first()
    return last.fields if last else {}


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


def _check(assignment: Assignment, verdict: str, ranks: Mapping[int, int], reason: str, details: Details) -> None:
    positions = range(1, len(assignment.shown) + 1)
    if verdict not in Verdict.values:
        raise BadAnswer(_("Choose the best story, or say that they are equally good."))
    if verdict not in (Verdict.CANNOT_RANK, Verdict.UNSAFE):
        _check_ranks(assignment, verdict, ranks)
    if verdict == Verdict.UNSAFE and not details.unsafe:
        raise BadAnswer(_("Tick which story is unsafe for children."))
    if len(reason) > 2000:
        raise BadAnswer(_("The reason is too long: 2,000 characters at most."))
    named = {mark.position for mark in details.passages} | details.unsafe
    named |= {winner for winner in details.criteria.values() if winner is not None}
    if not named <= set(positions) or not known_chips(details.reasons_for, details.reasons_against):
        raise BadAnswer(_("This page is out of date. Reload it; what you have entered is kept."))
    _check_texts(assignment, verdict, ranks, details)


def _check_ranks(assignment: Assignment, verdict: str, ranks: Mapping[int, int]) -> None:
    count = len(assignment.shown)
    missing = set(range(1, count + 1)) - set(ranks)
    if missing:  # only a story that has left the queue may go without a rank
        left = Story.objects.filter(pk__in=[assignment.shown[p - 1] for p in missing]).exclude(withdrawn_at=None)
        missing = set() if left.count() == len(missing) and len(ranks) > 1 else missing
    if missing or not all(1 <= p <= count and 1 <= rank <= count for p, rank in ranks.items()):
        raise BadAnswer(_("Give every story a rank from 1 to %(count)d.") % {"count": count})
    if verdict == Verdict.RANKED and len(set(ranks.values())) == 1:
        raise BadAnswer(_("All stories have the same rank. If you mean a tie, say that they are equally good."))


def _check_texts(assignment: Assignment, verdict: str, ranks: Mapping[int, int], details: Details) -> None:
    """Passages and an improvement must fit the stories' texts, which are read only if there are any."""
    reported = verdict in (Verdict.CANNOT_RANK, Verdict.UNSAFE)  # nothing may hold that up
    if not reported and _changed_text(assignment, details.improved):
        if verdict != Verdict.RANKED or sum(rank == min(ranks.values()) for rank in ranks.values()) > 1:
            raise BadAnswer(_("You have improved a story: choose that one story as the best, or empty the box."))
        if len(details.improved) > MAX_IMPROVEMENT:
            raise BadAnswer(_("The improved story is too long: 20,000 characters at most."))
    if details.passages:
        lengths = [len(story.text) for story in assignment.stories()]
        if len(details.passages) > MAX_PASSAGES:
            raise BadAnswer(_("You have marked too many passages: 50 at most."))
        if not all(0 <= m.start < m.end <= lengths[m.position - 1] for m in details.passages):
            raise BadAnswer(_("A marked passage does not fit its story. Mark it again."))


def _write(judgement: Judgement, ranks: Mapping[int, int], details: Details) -> None:
    """The judgement's row and those that hang on it; an edit's are written anew."""
    assignment = judgement.assignment
    story = {position: pk for position, pk in enumerate(assignment.shown, start=1)}
    if details.seconds is not None:
        passed = (timezone.now() - assignment.opened_at).total_seconds()
        judgement.seconds = max(min(details.seconds, passed, DAY_SECONDS), 0.0)
        judgement.hurried = judgement.seconds < assignment.minimum_seconds
    judgement.reasons_for = list(details.reasons_for)
    judgement.reasons_against = list(details.reasons_against)
    if judgement.pk:
        for rows in (Rank, CriterionWinner, Passage, Improvement):
            rows.objects.filter(judgement=judgement).delete()
    judgement.save()
    if judgement.verdict not in (Verdict.CANNOT_RANK, Verdict.UNSAFE):
        Rank.objects.bulk_create(
            Rank(judgement=judgement, story_id=story[p], rank=rank, shown_position=p)
            for p, rank in sorted(ranks.items())
        )
    CriterionWinner.objects.bulk_create(
        CriterionWinner(judgement=judgement, criterion=criterion, story_id=story[winner] if winner else None)
        for criterion, winner in details.criteria.items()
    )
    Passage.objects.bulk_create(
        Passage(judgement=judgement, story_id=story[m.position], start=m.start, end=m.end, good=m.good)
        for m in details.passages
    )
    if judgement.verdict == Verdict.RANKED and (improved := _changed_text(assignment, details.improved)):
        best = min(ranks, key=lambda position: ranks[position])
        Improvement.objects.create(judgement=judgement, story_id=story[best], text=improved)
    report(judgement, [story[position] for position in sorted(details.unsafe)])


def _changed_text(assignment: Assignment, improved: str) -> str:
    """The improved story; "" if it says what one of those shown says: the box opens with the best one's text."""
    if not improved.strip() or any(improved.split() == story.text.split() for story in assignment.stories()):
        return ""
    return _clean(improved)


def _reported(judgement: Judgement, details: Details) -> set[int | None]:
    """What an edit goes on reporting: stories, or (None) the comparison."""
    if judgement.verdict == Verdict.CANNOT_RANK:
        return {None}
    unsafe = details.unsafe if judgement.verdict == Verdict.UNSAFE else ()
    return {judgement.assignment.shown[position - 1] for position in unsafe}


def _count(assignment: Assignment, step: int) -> None:
    Expert.objects.filter(pk=assignment.expert_id).update(judged=F("judged") + step)


def _add_revision(assignment: Assignment, act: Act, key: UUID, fields: Mapping[str, list[str]]) -> None:
    Revision.objects.create(assignment=assignment, number=assignment.version + 1, act=act, key=key, fields=fields)


def _fields_of(verdict: str, ranks: Mapping[int, int], reason: str) -> dict[str, list[str]]:
    """What a page would have sent."""
    named = {f"rank_{position}": [str(rank)] for position, rank in ranks.items()} if verdict == Verdict.RANKED else {}
    return {"verdict": [verdict], "reason": [_clean(reason)], **named}


def _clean(text: str) -> str:
    """PostgreSQL keeps no NUL."""
    return text.replace("\x00", "").strip()
