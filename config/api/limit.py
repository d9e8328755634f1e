"""How often a token may ask: STORYLOOP_API_PER_MINUTE, over all processes that serve pages.

Each request takes 60 / limit seconds of a minute that begins anew all the time (a leaky bucket; the cell rate algorithm
of ITU-T I.371): so many may come at once, and then as many a minute as the limit says. It is one UPDATE of the token's
row, which PostgreSQL makes for one request after the other. ninja's own throttles read a cache and then write it: two
processes would count one request.
"""

from datetime import timedelta
from math import ceil

from django.conf import settings
from django.db import connection, transaction
from django.db.models import F, Q
from django.db.models.functions import Greatest, Now
from django.utils import timezone

from config.api.problems import Refused
from config.models import ApiToken

MINUTE = timedelta(minutes=1)


def count(token: ApiToken) -> None:
    """Count a request of `token`. Raises Refused (429), saying when to ask again; what was refused does not count."""
    if not settings.API_PER_MINUTE:
        return
    takes = MINUTE / settings.API_PER_MINUTE
    mine = ApiToken.objects.filter(pk=token.pk)
    with transaction.atomic():
        with connection.cursor() as cursor:  # no request waits for the disk: a crash may forget what it forgives
            cursor.execute("SET LOCAL synchronous_commit TO off")
        fits = mine.filter(Q(busy_until=None) | Q(busy_until__lte=Now() + MINUTE - takes))
        if fits.update(busy_until=Greatest(F("busy_until"), Now()) + takes):
            return
    busy_until = mine.values_list("busy_until", flat=True).first() or timezone.now()
    wait = max(ceil((busy_until - timezone.now() - MINUTE + takes).total_seconds()), 1)
    raise Refused(
        429,
        f"This token may ask {settings.API_PER_MINUTE} times a minute, and has. Ask again in {wait} s (Retry-After).",
        retry_after=wait,
    )
