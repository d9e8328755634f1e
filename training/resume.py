"""Going on with a round that was cancelled or has failed, from its last checkpoint, or from its first step."""

import hashlib
from pathlib import Path

from django.db import IntegrityError, transaction
from django.db.models.functions import Now
from django.utils.formats import date_format
from django.utils.translation import gettext as _

from generation.engines.loading import check_model_directory
from generation.engines.values import EngineError
from generation.models import Policy
from generation.policies import require_weights
from generation.stores import single
from generation.stores.faults import ABSENT, StoreFault
from training.ends import said
from training.models import Round, State

ENDED = (State.FAILED, State.CANCELLED)


class CannotResume(ValueError):
    """The round cannot go on; the message says why and what to do."""


def resume_round(*, round_id: int) -> Round:
    """Put the round back into the queue: the same pairs, on from its last checkpoint. One that failed before its
    pairs were frozen, or before the first checkpoint, begins there. Raises CannotResume.

    It does not enqueue: that is the caller's edge, on commit.
    """
    resumed = Round.objects.select_related("policy", "result").get(pk=round_id)
    check_resume(resumed)
    try:
        with transaction.atomic():
            # nobody deletes weights or rolls back meanwhile
            list(Policy.objects.select_for_update().order_by("pk"))
            _check_policy(Round.objects.select_related("policy", "result").get(pk=round_id))
            ended = Round.objects.filter(pk=round_id, state__in=ENDED, checkpoint_deleted_at=None)
            found = ended.filter(attempt=resumed.attempt).update(
                state=State.QUEUED,
                attempt=0,
                owner="",
                lease_until=None,
                losses=0,
                refused_at=None,
                enqueued_at=Now(),
                cancel_requested=False,
                ended_at=None,
                message=said("resumed", before=resumed.said or resumed.message),
            )
    except IntegrityError as error:
        raise CannotResume(_not_over()) from error
    if not found:
        check_resume(Round.objects.select_related("policy", "result").get(pk=round_id))
        raise CannotResume(_("The round has been resumed already."))
    return Round.objects.get(pk=round_id)


def reason_against_resuming(shown: Round) -> str:
    """Why `shown` cannot go on, for its page; "" if it can. The frozen pairs are read only when it does."""
    try:
        _check_state(shown)
        _check_policy(shown)
        _check_progress(shown)
    except CannotResume as error:
        return str(error)
    return ""


def check_resume(shown: Round) -> None:
    """Raise CannotResume if `shown` cannot go on as things stand."""
    _check_state(shown)
    _check_policy(shown)
    _check_progress(shown)
    _check_export(shown)


def _check_state(shown: Round) -> None:
    if shown.state not in ENDED:
        raise CannotResume(
            _("Round %(number)d is %(state)s: only a round that was cancelled or has failed can be resumed.")
            % {"number": shown.number, "state": shown.get_state_display()}
        )
    if Round.objects.undecided().exists():
        raise CannotResume(_not_over())


def _not_over() -> str:
    other = Round.objects.undecided().first()
    return _("Round %(number)d is not over: wait for it, or promote, reject or cancel it first.") % {
        "number": other.number if other else 0
    }


def _check_policy(shown: Round) -> None:
    """A round begins from the policy in use, and its base is still there."""
    if not shown.policy.is_current:
        raise CannotResume(
            _("The round begins from %(policy)s, which is not in use any more: roll back to it, or launch a new round.")
            % {"policy": shown.policy.name}
        )
    try:
        for policy in filter(None, (shown.policy, shown.result)):
            require_weights(policy)
            check_model_directory(policy.directory)
    except EngineError as error:
        raise CannotResume(_("%(reason)s The round cannot go on.") % {"reason": error}) from error


def _check_export(shown: Round) -> None:
    if not shown.export_path:
        return  # it ended before they were frozen: it freezes those of now
    try:
        with single.get(Path(shown.export_path), sha256=shown.export_sha256).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except StoreFault as error:
        if error.code in ABSENT:
            raise CannotResume(str(error)) from error
        raise CannotResume(
            _("The frozen pairs are gone (%(path)s): launch a new round.") % {"path": shown.export_path}
        ) from error
    except OSError as error:
        raise CannotResume(
            _("The frozen pairs are gone (%(path)s): launch a new round.") % {"path": shown.export_path}
        ) from error
    if digest != shown.export_sha256:
        raise CannotResume(
            _("The frozen pairs in %(path)s are not what they were: launch a new round.") % {"path": shown.export_path}
        )


def _check_progress(shown: Round) -> None:
    """Without a checkpoint it begins with its first step, to the same weights, unless an admin has ended that."""
    if shown.checkpoint_deleted_at:
        raise CannotResume(
            _("Its checkpoint was deleted on %(date)s. Launch the round again: its settings are offered.")
            % {"date": date_format(shown.checkpoint_deleted_at, "Y-m-d")}
        )
