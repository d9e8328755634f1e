"""The API put together: its parts, its errors, its schema and its addresses."""

import json
from collections.abc import Callable
from functools import wraps
from http import HTTPStatus
from typing import Any

from django.contrib.auth.decorators import login_not_required
from django.core.exceptions import SuspiciousOperation
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.urls import URLPattern, re_path
from django.utils.translation import override
from django.views.decorators.csrf import csrf_exempt
from ninja import NinjaAPI
from ninja.errors import AuthenticationError, HttpError, ValidationError
from ninja.openapi.schema import OpenAPISchema
from ninja.parser import Parser
from ninja.renderers import JSONRenderer

from config.api import launching, me, pairs, policies, problems, prompts, stories, win_rates

VERSION = "1"
DESCRIPTION = """Prompts in, stories and preference pairs out, rounds launched and read, win rates read.

A token is made under Account, API tokens, or by `manage.py make_token`; it may do what its user may do on the pages.
Times are ISO 8601 with their zone, shares and rates 0-1. Every error is a problem of RFC 9457. Lists are read page by
page: send the `next` of an answer as `cursor`, until it is null. A token may ask so many times a minute as
the installation says (600, if it says nothing); then it is answered 429, with the seconds to wait in `Retry-After`."""


class StrictParser(Parser):
    def parse_body(self, request: HttpRequest) -> Any:
        """JSON, and no NaN, which is none."""
        return json.loads(request.body, parse_constant=_no_constant)


class StrictRenderer(JSONRenderer):
    """Text as it is; a NaN would be our fault."""

    json_dumps_params = {"ensure_ascii": False, "allow_nan": False}


class StoryloopAPI(NinjaAPI):
    def get_openapi_schema(self, **options: Any) -> OpenAPISchema:
        """With the problems that may be answered: every one of them has the same shape."""
        found = super().get_openapi_schema(**options)
        schemas = problems.Problem.model_json_schema(ref_template="#/components/schemas/{model}")
        found["components"]["schemas"] |= schemas.pop("$defs", {}) | {"Problem": schemas}
        for operations in found["paths"].values():
            for operation in operations.values():
                _describe(operation)
        return found


def _describe(operation: dict[str, Any]) -> None:
    answers = operation["responses"]
    statuses = {status for status in answers if status >= HTTPStatus.BAD_REQUEST} | {400, 401, 422, 429}
    if any(name != "Token" for one in operation["security"] for name in one):
        statuses.add(403)
    content = {problems.MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    for status in sorted(statuses):
        answers[status] = {"description": HTTPStatus(status).phrase, "content": content}
    answers[429]["headers"] = {"Retry-After": {"description": "seconds", "schema": {"type": "integer", "minimum": 1}}}
    for status in (201,) if operation["operationId"] == "launch" else ():
        said = "the round's address"
        answers[status]["headers"] = {"Location": {"description": said, "schema": {"type": "string"}}}


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _api() -> StoryloopAPI:
    api = StoryloopAPI(
        title="Storyloop",
        version=VERSION,
        description=DESCRIPTION,
        docs_url=None,  # ninja's page loads its scripts from another host
        urls_namespace="api",
        renderer=StrictRenderer(),
        parser=StrictParser(),
    )
    api.add_decorator(_known_names_only)
    api.get_openapi_operation_id = lambda operation: operation.view_func.__name__.rstrip("_")  # type: ignore[method-assign]
    for module in (me, prompts, stories, pairs, policies, launching, win_rates):
        api.add_router("", module.router)
    handlers: dict[type[Exception], Callable[..., Any]] = {
        problems.Refused: problems.of_refusal,
        ValidationError: problems.of_faults,
        HttpError: problems.of_http_error,
        AuthenticationError: problems.of_no_credentials,
        SuspiciousOperation: problems.of_suspicion,
        Exception: problems.of_surprise,
    }
    for kind, handler in handlers.items():
        api.add_exception_handler(kind, handler)
    return api


def _known_names_only(endpoint: Callable[..., Any]) -> Callable[..., Any]:
    """A misspelt filter would be no filter: it is a fault."""
    models = endpoint._ninja_operation.models  # type: ignore[attr-defined]
    known = {
        name for model in models if model.__ninja_param_source__ == "query" for name in model.__ninja_flatten_map__
    }

    @wraps(endpoint)
    def checked(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        if unknown := sorted(set(request.GET) - known):
            said = f"There is no such parameter; there are: {', '.join(sorted(known)) or 'none'}."
            faults = [problems.Fault(place=["query", name], detail=said) for name in unknown]
            raise problems.unprocessable("The request has parameters that are not known: see faults.", *faults)
        return endpoint(request, *args, **kwargs)

    return checked


def _guarded(view: Callable[..., HttpResponseBase]) -> Any:
    """No session and no cookie counts here, nothing is kept on the way, and all is said in English."""

    @wraps(view, updated=())
    def answer(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if request.method == "HEAD":
            request.method = "GET"  # the server leaves the body out
        with override("en"):
            response = view(request, *args, **kwargs)
        if response.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            allowed = ", ".join(sorted(response.headers["Allow"].split(", ")))
            response = problems.problem(405, f"There is no {request.method} here, but {allowed}.")
            response["Allow"] = allowed
        response["Cache-Control"] = "no-store"
        return response

    return login_not_required(csrf_exempt(answer))


def _nothing_here(request: HttpRequest, **_: Any) -> HttpResponseBase:
    return problems.problem(404, "There is nothing at this address: /api/v1/openapi.json says what there is.")


def _root(request: HttpRequest, **_: Any) -> HttpResponseBase:
    return redirect("api:openapi-json")


def _addresses() -> list[Any]:
    found, _app, _namespace = api.urls
    for pattern in found:
        assert isinstance(pattern, URLPattern)
        pattern.callback = _guarded(_root if pattern.name == "api-root" else pattern.callback)
    return [*found, re_path(r"", _guarded(_nothing_here), name="nothing-here")]


api = _api()
urls = (_addresses(), "ninja", "api")
