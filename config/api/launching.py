"""Rounds launched, or only tried."""

import hashlib
from datetime import timedelta
from functools import partial
from typing import Annotated, Any

from django.db import transaction
from django.db.models.functions import Now
from django.http import HttpResponse
from django.urls import reverse
from ninja import Header, Query, Status

from config.api.access import ApiRequest, refused
from config.api.problems import Fault, Refused, unprocessable
from config.api.round_values import LaunchIn, Preview, RoundOut, round_out
from config.api.rounds import router  # one address, one router
from config.models import ApiAnswer
from training import schedule
from training.launching import CannotLaunch, check_settings, prepare, settings_of
from training.models import Round
from training.preview import dry_run as try_out
from training.rounds import launch_round
from training.tasks import run_round

KEPT = timedelta(days=7)  # for how long an answer is given again
Key = Annotated[
    str | None,
    Header(
        None,
        alias="Idempotency-Key",
        pattern="^[!-~]{1,100}$",
        description="a name of your own for this request: sent again with the same body within 7 days it is answered "
        "as the first time, and launches nothing",
    ),
]


@router.post(
    "/rounds",
    response={200: Preview, 201: RoundOut},
    summary="Launch a round, or try it",
    openapi_extra=refused(409),
)
def launch(
    request: ApiRequest,
    response: HttpResponse,
    body: LaunchIn,
    idempotency_key: Key = None,
    dry_run: Annotated[bool, Query(description="check all, and answer what launching would do")] = False,
) -> Any:
    """As the launch page does: from the policy in use, on the pairs of the selection. 409 says why it cannot be
    launched now. 201's Location is the round's address; GET it to see how far it is."""
    given = _settings(body)
    try:
        check_settings(**given)
    except CannotLaunch as error:
        raise unprocessable(str(error), Fault(place=_place(error.part), detail=str(error))) from error
    try:
        if dry_run:
            return Status(200, Preview(**try_out(prepare(**given)).as_dict()))
        answer = _launched_once(request, given, idempotency_key)
    except CannotLaunch as error:
        raise Refused(409, str(error)) from error
    response["Location"] = reverse("api:get_round", kwargs={"number": answer.number})
    return Status(201, answer)


@transaction.atomic
def _launched_once(request: ApiRequest, given: dict[str, Any], key: str | None) -> RoundOut:
    """Two of the same key at once: the second waits for the row of the first. What was refused leaves no row."""
    if key is None:
        return _launched(request, given)
    ApiAnswer.objects.filter(user=request.user, created_at__lt=Now() - KEPT).delete()
    digest = hashlib.sha256(request.body).hexdigest()
    kept, new = ApiAnswer.objects.get_or_create(user=request.user, key=key, defaults={"digest": digest})
    if not new:
        if kept.digest != digest:
            detail = "This Idempotency-Key was used with another body: take a new key for a new request."
            raise unprocessable(detail, Fault(place=["header", "Idempotency-Key"], detail=detail))
        return RoundOut(**kept.answer)
    answer = _launched(request, given)
    kept.answer = answer.model_dump(mode="json")
    kept.save(update_fields=["answer"])
    return answer


def _launched(request: ApiRequest, given: dict[str, Any]) -> RoundOut:
    launched = launch_round(by=request.user, **given)
    transaction.on_commit(partial(run_round.delay, launched.pk))
    return round_out(Round.objects.select_related("policy", "result", "launched_by").get(pk=launched.pk))


def _settings(body: LaunchIn) -> dict[str, Any]:
    """What `launch_round` takes: as shipped, or that round's, and over them what was sent."""
    given: dict[str, Any] = {**schedule.DEFAULTS, "include_simulated": False}
    if body.from_round:
        like = Round.objects.filter(number=body.from_round).first()
        if like is None:
            detail = f"There is no round {body.from_round}."
            raise unprocessable(detail, Fault(place=["body", "from_round"], detail=detail))
        given = settings_of(like)
    sent = body.model_dump(exclude_none=True, exclude={"from_round", "selection"})
    selection = body.selection.model_dump(exclude_none=True) if body.selection else {}
    return {**given, **sent, "selection": {**given["selection"], **selection}}


def _place(part: str) -> list[str | int]:
    if part in LaunchIn.model_fields:
        return ["body", part]
    return ["body", "selection", part] if part else ["body"]
