"""An id and a log line for each request."""

import logging
import re
import time
import uuid
from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

from config import logs

access = logging.getLogger("storyloop.access")
WELL_FORMED = re.compile(r"[A-Za-z0-9._-]{8,64}")
QUIET = ("healthz", "readyz", "metrics")  # asked all day long
Handler = Callable[[HttpRequest], HttpResponse]


def request_log(get_response: Handler) -> Handler:
    """A line for each request, and an id that all of its lines share: the proxy's X-Request-ID, or a new one.

    The line has the URL's pattern, not the path: a path may hold an invitation. Static files have none.
    """

    def logged(request: HttpRequest) -> HttpResponse:
        begin = time.monotonic()
        given = request.headers.get("X-Request-ID", "")
        number = given if WELL_FORMED.fullmatch(given) else uuid.uuid4().hex
        with logs.about(request_id=number, request=request):
            response = get_response(request)
            response["X-Request-ID"] = number
            match = request.resolver_match
            if (match or response.status_code >= 400) and (match and match.url_name) not in QUIET:
                facts = {"method": request.method, "route": logs.route_of(request), "status": response.status_code}
                access.info("request", extra={**facts, "ms": round(1000 * (time.monotonic() - begin), 1)})
        return response

    return logged
