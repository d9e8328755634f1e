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


@transaction.atomic(durable=True)
def save_draft(*, assignment: Assignment, fields: Mapping[str, list[str]], page: PageState) -> int:
    """Keep what has been entered so far, and the place with it. Returns the version. Raises Conflict."""
    lock(assignment.expert)
    current = Assignment.objects.get(pk=assignment.pk)
    if Revision.objects.filter(assignment=current, key=page.key).exists():
        return current.version  # sent before this page's submit, and overtaken by it
    check_page(current, page)
    Draft.objects.update_or_create(assignment=current, defaults={"fields": fields})
    Assignment.objects.filter(pk=current.pk).update(version=current.version + 1, page=page.key)
    keep_holding(current)
    return current.version + 1
