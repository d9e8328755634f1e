"""Every error of the API is a problem of RFC 9457: application/problem+json."""

import json
import logging
from http import HTTPStatus
from typing import Any

from django.http import HttpRequest, HttpResponse
from ninja import Field, Schema

log = logging.getLogger(__name__)
MEDIA_TYPE = "application/problem+json"


class Fault(Schema):
    """One thing that is wrong in a request."""

    place: list[str | int] = Field(
        description="where it is: path, query, header or body, then names and places (from 0) on the way to it",
        examples=[["body", "prompts", 0, "language"]],
    )
    detail: str = Field(description="what is wrong", examples=["Input should be 'en' or 'zh'"])


class Problem(Schema):
    """Why a request was refused (RFC 9457)."""

    type: str = Field(description="what kind it is: about:blank, the status says all", examples=["about:blank"])
    title: str = Field(description="the status in words", examples=["Conflict"])
    status: int = Field(description="the HTTP status", examples=[409])
    detail: str = Field(description="what happened and what to do", examples=["Round 3 is not over: wait for it."])
    faults: list[Fault] | None = Field(None, description="with 422: each thing that is wrong")


class Refused(Exception):
    """Raised by an endpoint; becomes a problem. retry_after: seconds."""

    def __init__(
        self, status: int, detail: str, faults: list[Fault] | None = None, *, retry_after: int | None = None
    ) -> None:
        super().__init__(detail)
        self.status, self.detail, self.faults, self.retry_after = status, detail, faults, retry_after


def unprocessable(detail: str, *faults: Fault) -> Refused:
    return Refused(422, detail, list(faults))


def problem(status: int, detail: str, faults: list[Fault] | None = None) -> HttpResponse:
    found = Problem(
        type="about:blank", title=HTTPStatus(status).phrase, status=status, detail=detail, faults=faults
    ).model_dump(exclude_none=True)
    response = HttpResponse(json.dumps(found, ensure_ascii=False), status=status, content_type=MEDIA_TYPE)
    if status == HTTPStatus.UNAUTHORIZED:
        response["WWW-Authenticate"] = 'Bearer realm="Storyloop"'
    return response


def of_refusal(request: HttpRequest, error: Any) -> HttpResponse:
    response = problem(error.status, error.detail, error.faults)
    if error.retry_after is not None:
        response["Retry-After"] = str(error.retry_after)
    return response


def of_faults(request: HttpRequest, error: Any) -> HttpResponse:
    """What does not fit the schema."""
    faults = [Fault(place=_place(one["loc"]), detail=one["msg"]) for one in error.errors]
    return problem(422, "The request does not fit the schema: see faults.", faults)


def of_http_error(request: HttpRequest, error: Any) -> HttpResponse:
    if error.status_code == HTTPStatus.BAD_REQUEST and error.__cause__:  # ninja says no more than that
        return problem(400, f"The body cannot be read as JSON: {error.__cause__}")
    return problem(error.status_code, str(error))


def of_no_credentials(request: HttpRequest, error: Any) -> HttpResponse:
    said = "Send a token that is in force, as “Authorization: Bearer slt_…”: Account, API tokens, or make_token."
    return problem(401, said)


def of_suspicion(request: HttpRequest, error: Any) -> HttpResponse:
    """Django's own guards: a body too large, too many fields, a host that is not ours."""
    log.info("refused: %s", error)
    return problem(400, str(error))


def of_surprise(request: HttpRequest, error: Any) -> HttpResponse:
    log.error("%s %s failed", request.method, request.path, exc_info=error)
    return problem(500, "Something went wrong on our side. It is in the web server's log.")


def _place(location: tuple[str | int, ...]) -> list[str | int]:
    """Without the name of our function's argument: the body is the body."""
    place = list(location)
    return place[:1] + place[2:] if place[:2] in (["body", "body"], ["query", "query"]) else place
