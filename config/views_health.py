"""What a load balancer, a supervisor and Prometheus ask. No log-in, no session, no cookie."""

import secrets

from django.conf import settings
from django.contrib.auth.decorators import login_not_required as public
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from config.metrics import exposition
from config.readiness import OK, readiness


@public
@never_cache
@require_safe
def healthz(request: HttpRequest) -> HttpResponse:
    """This process answers. Nothing else is asked: a database that is gone is no reason to restart it."""
    return HttpResponse("ok\n", content_type="text/plain; charset=utf-8")


@public
@never_cache
@require_safe
def readyz(request: HttpRequest) -> HttpResponse:
    """Whether to send people here: 200, or 503 with what is lacking."""
    found = readiness()
    ready = all(said == OK for said in found.values())
    return JsonResponse({"ready": ready, "checks": found}, status=200 if ready else 503)


@public
@never_cache
@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """For who knows STORYLOOP_METRICS_TOKEN; without one in the settings there is no such page."""
    if not settings.METRICS_TOKEN:
        raise Http404
    scheme, _blank, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not secrets.compare_digest(token.encode(), settings.METRICS_TOKEN.encode()):
        return HttpResponse("The token is missing or wrong.\n", status=401, headers={"WWW-Authenticate": "Bearer"})
    return HttpResponse(exposition(), content_type=CONTENT_TYPE_LATEST)
