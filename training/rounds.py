"""The life of a round: launched, taken, advanced, ended. The database is the queue of record.

A process takes a round with one conditional UPDATE and keeps it alive by renewing its lease; each
write of that process asks for (pk, attempt, owner), so that one which was given up for dead
can no longer change anything. A part of the work that is done is handed over: the next belongs to
another Celery queue (docs/adr/0013).
"""

import os
import socket
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.db import IntegrityError, transaction
from django.db.models import Case, F, IntegerField, Max, When
from django.db.models.functions import Now
from django.utils.translation import gettext as _

from annotate.comparisons import close_comparisons, open_preference_comparisons
from annotate.models import Comparison
from annotate.pairs import count_pairs, preference_judgements
from generation.models import Policy
from generation.policies import make_current
from generation.version import VERSION
from training.changes import Why, record_change
from training.ends import said
from training.launching import CannotLaunch, not_over, prepare
from training.models import Round, RoundQuerySet, State
from training.versions import refuse_if_older

LEASE = timedelta(seconds=settings.LEASE_SECONDS)
MAX_ATTEMPTS = 5  # of one part: a planned hand-over is no failed attempt


class CannotDecide(ValueError):
    """The round is not in a state for this; the message says so."""


class LeaseLost(RuntimeError):
    """Another process has the round now: whoever gets this must stop and change nothing."""


@dataclass(frozen=True)
class Lease:
    """The right to work on a round."""

    round_id: int
    attempt: int
    owner: str

    def update(self, **values: Any) -> None:
        """Change the round, and hold it for another LEASE. Raises LeaseLost."""
        if not self._held().update(lease_until=Now() + LEASE, **values):
            raise LeaseLost(f"round {self.round_id} was taken over")

    def hand_over(self, state: State) -> bool:
        """Give the round back in `state`, for the next part; False if it is to be cancelled. Raises LeaseLost.

        It counts as sent: who hands it over sends it.
        """
        free = {"owner": "", "lease_until": None, "losses": 0, "enqueued_at": Now(), "done": 0, "total": 0}
        if self._held().filter(cancel_requested=False).update(state=state, **free):
            return True
        self.update()
        return False

    def _held(self) -> RoundQuerySet:
        return Round.objects.at_work().filter(pk=self.round_id, attempt=self.attempt, owner=self.owner)

    def cancel_requested(self) -> bool:
        return Round.objects.filter(pk=self.round_id, cancel_requested=True).exists()


def new_pair_count(policy: Policy, *, include_simulated: bool) -> int:
    """Pairs from judgements of `policy`'s stories that no round has used yet."""
    found = preference_judgements(policy=policy, include_simulated=include_simulated)
    last = last_launch(policy)
    return count_pairs(found.filter(created_at__gt=last) if last else found)


def last_launch(policy: Policy) -> datetime | None:
    """Of a round from `policy`, also of one that failed: what failed once is not launched again by itself."""
    found: datetime | None = Round.objects.filter(policy=policy).aggregate(last=Max("created_at"))["last"]
    return found


def launch_round(*, by: User | None = None, include_simulated: bool = False, **settings: Any) -> Round:
    """Queue a round that starts from the current policy. Raises CannotLaunch.

    settings: columns of Round, and `selection` (training/selection.py). It does not enqueue: that is the caller's
    edge, on commit.
    """
    launch = prepare(include_simulated=include_simulated, **settings)
    policy, chosen = launch.policy, launch.selection.as_json()
    values = {**launch.settings, "include_simulated": include_simulated, "selection": chosen}
    number = (Round.objects.aggregate(last=Max("number"))["last"] or 0) + 1
    try:
        with transaction.atomic():
            Policy.objects.select_for_update().get(pk=policy.pk)  # roll_back() has come first, or waits
            launched = Round.objects.create(number=number, policy=policy, launched_by=by, version=VERSION, **values)
            # from here on no round waits for its decision, so the policy in use stays what it is
            if Policy.objects.current() != policy:
                raise CannotLaunch(_("Another policy was promoted just now. Launch again."))
            return launched
    except IntegrityError as error:
        other = Round.objects.undecided().first()
        if other is None:
            raise
        raise not_over(other) from error


def take_round(round_id: int, *, queue: str = "") -> Lease | None:
    """Take the round if nobody has it; None if somebody does, it is not at work, or it waits in another queue
    than `queue`. One that newer code has launched is left to newer workers.
    """
    owner = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
    free = Round.objects.untaken().filter(pk=round_id)
    if queue:
        free = free.in_queue(queue)
    if refuse_if_older(free):
        return None
    lost = When(lease_until__isnull=False, then=F("losses") + 1)  # who hands over or ends leaves no lease behind
    with transaction.atomic():
        if not free.update(
            attempt=F("attempt") + 1,
            losses=Case(lost, default=F("losses"), output_field=IntegerField()),
            owner=owner,
            lease_until=Now() + LEASE,
        ):
            return None
        # an older worker may have said why it does not take the round
        Round.objects.filter(pk=round_id).exclude(refused_at=None).update(message="", refused_at=None)
        taken = Round.objects.get(pk=round_id)
    lease = Lease(taken.pk, taken.attempt, owner)
    if taken.losses >= MAX_ATTEMPTS:
        end_round(
            lease,
            State.FAILED,
            said("given_up", times=MAX_ATTEMPTS),
        )
        return None
    return lease


def end_round(lease: Lease, state: State, message: str) -> None:
    """Failed or cancelled, with a message that a person understands."""
    lease.update(state=state, message=message, ended_at=Now())
    Round.objects.filter(pk=lease.round_id).update(lease_until=None)


@transaction.atomic
def request_cancel(*, round_id: int) -> None:
    """Ask the process that works on the round to end it; one that nobody has is ended here. Raises CannotDecide."""
    if not Round.objects.at_work().filter(pk=round_id).update(cancel_requested=True):
        raise CannotDecide(_("This round is not at work any more."))
    # the row is locked until the commit: nobody takes it or hands it over in between
    free = Round.objects.untaken().filter(pk=round_id)
    free.update(state=State.CANCELLED, message=said("cancelled"), ended_at=Now(), lease_until=None)


@transaction.atomic
def promote_round(*, round_id: int, by: User | None = None) -> Round:
    """Make the round's result the current policy; its stories go before experts. Raises CannotDecide."""
    chosen = _waiting(round_id)
    assert chosen.result is not None  # a database constraint
    make_current(policy=chosen.result)
    record_change(policy=chosen.result, before=chosen.policy, why=Why.PROMOTED, by=by)
    close_comparisons(Comparison.objects.open())
    open_preference_comparisons(policy=chosen.result)
    return _decide(chosen, State.PROMOTED)


@transaction.atomic
def reject_round(*, round_id: int) -> Round:
    """Keep the current policy; the result's comparisons leave the queue. Raises CannotDecide."""
    chosen = _waiting(round_id)
    close_comparisons(Comparison.objects.open().filter(policy=chosen.result))
    return _decide(chosen, State.REJECTED)


def _waiting(round_id: int) -> Round:
    chosen = Round.objects.select_for_update(of=("self",)).select_related("result").get(pk=round_id)
    if chosen.state != State.JUDGING:
        raise CannotDecide(
            _("Round %(number)d is %(state)s: only a round that is being judged can be promoted or rejected.")
            % {"number": chosen.number, "state": chosen.get_state_display()}
        )
    return chosen


def _decide(chosen: Round, state: State) -> Round:
    Round.objects.filter(pk=chosen.pk).update(state=state, ended_at=Now())
    chosen.state = state
    return chosen
