"""Who may use an endpoint: a token's user, under the rules of the pages."""

from typing import Any

from django.contrib.auth.models import User
from django.http import HttpRequest
from ninja.security import HttpBearer

from config.api import limit
from config.api.problems import Refused
from config.models import ApiToken
from config.tokens import find_token
from generation.permissions import is_admin


class ApiRequest(HttpRequest):
    """What an endpoint is given."""

    user: User
    auth: ApiToken


class Token(HttpBearer):
    """Anybody with a token in force that has not asked too often."""

    def authenticate(self, request: HttpRequest, token: str) -> ApiToken | None:
        found = find_token(token)
        if found:
            request.user = found.user
            limit.count(found)
        return found


class AdminToken(Token):
    """An admin's token."""

    def authenticate(self, request: HttpRequest, token: str) -> ApiToken | None:
        found = super().authenticate(request, token)
        if found and not is_admin(found.user):
            raise Refused(403, "Only admins may do this.")
        return found


def refused(*statuses: int) -> dict[str, Any]:
    """For an endpoint's openapi_extra: the problems that it may answer with, besides those that all may."""
    return {"responses": {status: {} for status in statuses}}  # site.py says the rest
