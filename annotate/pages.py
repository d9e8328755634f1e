"""What a page knows of the answer that it shows, and what happens when two tabs know different things."""

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from django.db import transaction

from annotate.models import Assignment, Draft, Revision
from annotate.queue import keep_holding, lock


@dataclass(frozen=True)
class PageState:
    """`key` names one showing of the page (and is its idempotency key), `version` is what it has read."""

    key: UUID
    version: int


class Conflict(Exception):
    """Another page has written since this one was read. Nothing is written; `assignment` is as it stands."""

    def __init__(self, assignment: Assignment) -> None:
        super().__init__(f"assignment {assignment.pk} is at version {assignment.version}")
        self.assignment = assignment


def check_page(assignment: Assignment, page: PageState) -> None:
    """Raise Conflict if somebody else's write would be lost. A page always knows its own writes."""
    if assignment.version != page.version and assignment.page != page.key:
        raise Conflict(assignment)


def key_used(assignment: Assignment, page: PageState) -> bool:
    """This page has submitted an answer. Asked only where something was written before."""
    return bool(assignment.version) and Revision.objects.filter(assignment=assignment, key=page.key).exists()


def sent_before(assignment: Assignment, page: PageState, fields: Mapping[str, list[str]]) -> bool:
    """The same page has submitted the same answer: this is it once more, and nothing new.

    Another answer from a page that never heard of its success is a change, and no repetition: Conflict,
    so that the expert sees both.
    """
    used = Revision.objects.filter(assignment=assignment, key=page.key).first() if assignment.version else None
    if used is None:
        return False
    if _without_time(used.fields) == _without_time(fields):
        return True
    if page.version != assignment.version:
        raise Conflict(assignment)
    return False


def _without_time(fields: Mapping[str, list[str]]) -> dict[str, list[str]]:
    return {name: values for name, values in fields.items() if name != "seconds"}


@transaction.atomic(durable=True)
def save_draft(*, assignment: Assignment, fields: Mapping[str, list[str]], page: PageState) -> int:
    """Keep what has been entered so far, and the place with it. Returns the version. Raises Conflict."""
    lock(assignment.expert)
    current = Assignment.objects.get(pk=assignment.pk)
    if sent_before(current, page, fields):
        return current.version  # sent before this page's submit, and overtaken by it
    check_page(current, page)
    Draft.objects.update_or_create(assignment=current, defaults={"fields": fields})
    Assignment.objects.filter(pk=current.pk).update(version=current.version + 1, page=page.key)
    keep_holding(current)
    return current.version + 1
