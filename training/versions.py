"""Rounds and workers of different versions: newer code goes on with what older code began, never the reverse.

A worker that is older than a round leaves it alone and says so on it. A newer one may take it meanwhile; if none does
within PATIENCE, the round ends, and can be resumed when the workers are up to date.
"""

import socket
from datetime import timedelta

from django.db.models.functions import Coalesce, Now

from generation import version
from training.ends import said
from training.models import Round, RoundQuerySet, State

PATIENCE = timedelta(minutes=10)


def refuse_if_older(free: RoundQuerySet) -> bool:
    """Whether this code is older than the round in `free`, which then says so."""
    found = free.first()
    if found is None or not version.older_than(found.version):
        return False
    versions = {"worker": version.VERSION, "round": found.version}
    message = said("older_worker", host=socket.gethostname(), minutes=PATIENCE.seconds // 60, **versions)
    free.update(message=message, refused_at=Coalesce("refused_at", Now()))
    return True


def give_up() -> None:
    """End what only older workers have seen for PATIENCE; its message says why."""
    refused = Round.objects.untaken().filter(refused_at__lt=Now() - PATIENCE)
    refused.update(state=State.FAILED, ended_at=Now(), lease_until=None)
