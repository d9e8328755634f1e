"""Rounds read, cancelled, resumed, promoted, rejected."""

from collections.abc import Callable
from functools import partial

from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest
from ninja import Field, Query, Router, Schema
from pydantic import StrictBool

from config.api.access import AdminToken, ApiRequest, refused
from config.api.problems import Refused
from config.api.round_values import STATES, RoundDetail, RoundOut, round_detail, round_out
from config.api.values import Number, Page, Strict
from training.models import Round
from training.resume import CannotResume, resume_round
from training.rounds import CannotDecide, promote_round, reject_round, request_cancel
from training.tasks import send_round

router = Router(tags=["rounds"], auth=AdminToken())


class Rounds(Schema):
    items: list[RoundOut]
    next: int | None = Field(None, description="the cursor of the next page; null: this is the last")


class Wanted(Page):
    state: STATES | None = Field(None, description="only those in this state")


class Decision(Strict):
    in_spite_of_alarms: StrictBool = Field(False, description="a round with alarms is promoted only with true")


@router.get("/rounds", response=Rounds, summary="List rounds")
def list_rounds(request: HttpRequest, wanted: Query[Wanted]) -> Rounds:
    """Newest first."""
    found = _rounds().order_by("-number")
    if wanted.cursor is not None:
        found = found.filter(number__lt=wanted.cursor)
    if wanted.state:
        found = found.filter(state=wanted.state)
    page = list(found[: wanted.limit + 1])
    items = [round_out(one) for one in page[: wanted.limit]]
    return Rounds(items=items, next=items[-1].number if len(page) > wanted.limit else None)


@router.get("/rounds/{number}", response=RoundDetail, summary="Read a round", openapi_extra=refused(404))
def get_round(request: HttpRequest, number: Number) -> RoundDetail:
    """Its state, how far it is, its settings, last figures and alarms."""
    return round_detail(find_round(number))


@router.post("/rounds/{number}/cancel", response={202: RoundDetail}, openapi_extra=refused(404, 409))
def cancel_round(request: HttpRequest, number: Number) -> RoundDetail:
    """Its process saves a checkpoint and ends it in a moment; resume goes on from there."""
    return _decide(number, request_cancel)


@router.post("/rounds/{number}/resume", response={202: RoundDetail}, openapi_extra=refused(404, 409))
def resume(request: HttpRequest, number: Number) -> RoundDetail:
    """A round that was cancelled or has failed goes on from its last checkpoint, on the same pairs."""
    return _decide(number, _resume)


@router.post("/rounds/{number}/promote", response=RoundDetail, openapi_extra=refused(404, 409))
def promote(request: ApiRequest, number: Number, body: Decision | None = None) -> RoundDetail:
    """Its policy becomes the one in use. An admin may overrule alarms, but not overlook them."""
    if not (body and body.in_spite_of_alarms) and find_round(number).alarms.exists():
        raise Refused(409, "This round has alarms: read them, and send in_spite_of_alarms to promote it all the same.")
    return _decide(number, partial(promote_round, by=request.user))


@router.post("/rounds/{number}/reject", response=RoundDetail, openapi_extra=refused(404, 409))
def reject(request: HttpRequest, number: Number) -> RoundDetail:
    """The policy before stays in use."""
    return _decide(number, reject_round)


@transaction.atomic
def _resume(*, round_id: int) -> None:
    resume_round(round_id=round_id)
    transaction.on_commit(partial(send_round, round_id))


def _decide(number: int, act: Callable[..., object]) -> RoundDetail:
    try:
        act(round_id=find_round(number).pk)
    except (CannotDecide, CannotResume) as error:
        raise Refused(409, str(error)) from error
    return round_detail(find_round(number))


def find_round(number: int) -> Round:
    found = _rounds().filter(number=number).first()
    if found is None:
        raise Refused(404, f"There is no round {number}.")
    return found


def _rounds() -> QuerySet[Round]:
    return Round.objects.select_related("policy", "result", "launched_by")
