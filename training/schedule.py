"""Rounds that launch by themselves, and rounds that have to be sent again."""

import logging
from datetime import timedelta
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import F, Q
from django.db.models.functions import Now

from generation.models import Policy
from training.models import Round, Schedule, State
from training.rounds import CannotLaunch, launch_round, new_pair_count

log = logging.getLogger(__name__)

SEND_AGAIN_AFTER = timedelta(seconds=20)
DEFAULTS: dict[str, Any] = {
    "method": "full",
    "loss": "sigmoid",
    "beta": 0.2,
    "sft_weight": 0.2,
    "label_smoothing": 0.0,
    "eval_share": 0.1,
    "learning_rate": 8e-5,
    "epochs": 3,
    "batch_pairs": 16,
    "seed": 42,
    "objectives": "",
    "stages": [],
    "reference": "policy",
    "lora_rank": 16,
    "lora_alpha": 0,
    "selection": {},
}


def the_schedule() -> Schedule:
    """The one row, made at first use."""
    try:
        with transaction.atomic():
            return Schedule.objects.first() or Schedule.objects.create()
    except IntegrityError:  # somebody else has just made it
        return Schedule.objects.get()


@transaction.atomic
def launch_if_due() -> Round | None:
    """Launch a round if the schedule says so. Two beats at once launch one: the row is locked."""
    the_schedule()
    due = Q(looked_at=None) | Q(looked_at__lte=Now() - F("every_minutes") * timedelta(minutes=1))
    found = Schedule.objects.select_for_update().filter(due, enabled=True).first()
    if found is None:
        return None
    Schedule.objects.filter(pk=found.pk).update(looked_at=Now())
    policy = Policy.objects.current()
    if policy is None or Round.objects.undecided().exists():
        return None
    if new_pair_count(policy, include_simulated=found.include_simulated) < found.min_new_pairs:
        return None
    try:
        return launch_round(include_simulated=found.include_simulated, **defaults())
    except CannotLaunch as error:
        log.info("no round launched: %s", error)
        return None


def defaults() -> dict[str, Any]:
    """The settings of the last round that did not fail, or the shipped ones."""
    last = Round.objects.exclude(state__in=[State.FAILED, State.CANCELLED]).first()
    return {name: getattr(last, name) for name in DEFAULTS} if last else dict(DEFAULTS)


def rounds_to_send() -> list[int]:
    """Rounds that nobody works on and that were not sent lately; they count as sent from now on."""
    waiting = Round.objects.untaken().filter(Q(enqueued_at=None) | Q(enqueued_at__lt=Now() - SEND_AGAIN_AFTER))
    ids = list(waiting.values_list("pk", flat=True))
    return [pk for pk in ids if waiting.filter(pk=pk).update(enqueued_at=Now())]
