"""Reports of experts: a story that is unsafe for children leaves at once, and an admin decides."""

from collections.abc import Collection, Iterable

from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone

from annotate.models import Assignment, Comparison, Judgement, Report, Verdict
from annotate.models.reports import Outcome, Subject
from annotate.queue import lock_queue, refresh_queue
from generation.models import Story


def report(judgement: Judgement, unsafe: Iterable[int]) -> None:
    """Put an answer's complaint before the admins. Unsafe stories leave the queue and all exports now."""
    assignment = judgement.assignment
    if judgement.verdict == Verdict.CANNOT_RANK:
        _file(assignment, Subject.CANNOT_RANK, None, judgement.reason)
    elif judgement.verdict == Verdict.UNSAFE:
        stories = list(unsafe)
        for story in stories:
            _file(assignment, Subject.UNSAFE, story, judgement.reason)
        Story.objects.filter(pk__in=stories, withdrawn_at=None).update(withdrawn_at=timezone.now())
        refresh_queue(_comparisons_of(stories))


def take_back_reports(assignment: Assignment, *, keep: Collection[int | None] = ()) -> None:
    """The expert says otherwise now: reports that nobody has settled yet fall, but for those on stories in `keep`
    (None: on the comparison)."""
    reports = Report.objects.unsettled().filter(assignment=assignment)
    fallen = [r for r in reports if r.story_id not in keep]
    if fallen:
        ids = [r.pk for r in fallen]
        Report.objects.filter(pk__in=ids).update(outcome=Outcome.TAKEN_BACK, settled_at=timezone.now())
        _bring_back({r.story_id for r in fallen if r.story_id})


@transaction.atomic
def settle(*, report: Report, by: User, upheld: bool) -> bool:
    """An admin's decision, once. Upheld: the story stays out for good, or the comparison that cannot be ranked
    is closed. Dismissed: all is as before. False if somebody had settled it already."""
    lock_queue()
    outcome = Outcome.UPHELD if upheld else Outcome.DISMISSED
    settled = Report.objects.unsettled().filter(pk=report.pk)
    if not settled.update(outcome=outcome, settled_at=timezone.now(), settled_by=by):
        return False
    if report.subject == Subject.CANNOT_RANK and upheld:
        comparison = report.assignment.comparison_id
        Comparison.objects.open().filter(pk=comparison).update(closed_at=timezone.now())
        refresh_queue([comparison])
    if report.story_id and not upheld:
        _bring_back({report.story_id})
    return True


def _file(assignment: Assignment, subject: Subject, story: int | None, note: str) -> None:
    same = Report.objects.unsettled().filter(assignment=assignment, subject=subject, story=story)
    decided = Report.objects.filter(story__isnull=False, story=story, outcome=Outcome.UPHELD)
    if not same.update(note=note) and not decided.exists():
        Report.objects.create(assignment=assignment, subject=subject, story_id=story, note=note)


def _bring_back(stories: set[int]) -> None:
    """Stories against which no report stands any more."""
    standing = Report.objects.filter(story__in=stories, outcome__in=["", Outcome.UPHELD])
    free = stories - set(standing.values_list("story_id", flat=True))
    if Story.objects.filter(pk__in=free).exclude(withdrawn_at=None).update(withdrawn_at=None):
        refresh_queue(_comparisons_of(free))


def _comparisons_of(stories: Iterable[int]) -> list[int]:
    return list(Comparison.objects.filter(stories__in=list(stories)).values_list("pk", flat=True).distinct())
