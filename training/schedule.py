"""Rounds that launch by themselves, and rounds that have to be sent again."""

import logging
from datetime import timedelta
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import Q
from django.db.models.functions import Now

from annotate.agreement import agreement
from generation.models import Policy
from training.models import Act, AgreementBy, Proposal, Round, Schedule, SettingsOf, State
from training.rounds import CannotLaunch, launch_round, new_pair_count
from training.when import next_time

log = logging.getLogger(__name__)

Outcome = dict[str, Any]  # "code", and what it is said with: training/outcomes.py
READY = "ready"
SEND_AGAIN_AFTER, SEND_AGAIN_AT_MOST = timedelta(seconds=20), timedelta(minutes=10)
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


def launch_if_due() -> Round | None:
    """Look at each schedule whose time has come; return the round that one has launched.

    Two beats at once look once: the schedule's row is locked, and has another time when it is free again.
    """
    for pk in Schedule.objects.due().values_list("pk", flat=True):
        if launched := _look_at(pk):
            return launched  # the rest can wait for the next beat
    return None


@transaction.atomic
def _look_at(pk: int) -> Round | None:
    found = Schedule.objects.due().select_for_update(skip_locked=True).annotate(now=Now()).filter(pk=pk).first()
    if found is None:
        return None
    outcome, launched = _act(found)
    now = found.now  # type: ignore[attr-defined]  # the database's clock
    Schedule.objects.filter(pk=pk).update(looked_at=now, next_at=next_time(found, now), outcome=outcome)
    return launched


def _act(schedule: Schedule) -> tuple[Outcome, Round | None]:
    outcome, policy = look(schedule), Policy.objects.current()
    if outcome["code"] != READY or policy is None:
        return outcome, None
    if schedule.act == Act.PROPOSE:
        return _propose(schedule, policy, outcome), None
    try:
        launched = launch_round(include_simulated=schedule.include_simulated, **settings_for(schedule))
    except CannotLaunch as error:
        log.info("no round launched: %s", error)
        return {"code": "cannot", "message": str(error)}, None
    return {**outcome, "code": "launched", "round": launched.number}, launched


def _propose(schedule: Schedule, policy: Policy, outcome: Outcome) -> Outcome:
    """One proposal is open at a time: a constraint. One that a round has overtaken is closed."""
    Proposal.objects.filter(closed_at=None).exclude(pk__in=Proposal.objects.open()).close()
    try:
        with transaction.atomic():
            Proposal.objects.create(
                schedule=schedule,
                policy=policy,
                round_settings=settings_for(schedule),
                include_simulated=schedule.include_simulated,
                pairs=outcome["pairs"],
            )
    except IntegrityError:
        return {"code": "proposal_waits"}
    return {**outcome, "code": "proposed"}


def look(schedule: Schedule) -> Outcome:
    """What the schedule finds now: {"code": READY, "pairs"}, or what is in the way. Changes nothing."""
    policy = Policy.objects.current()
    if policy is None:
        return {"code": "no_policy"}
    waiting = Round.objects.undecided().first()
    if waiting and (schedule.only_when_free or schedule.act == Act.LAUNCH):
        return {"code": "round_waits", "round": waiting.number}
    pairs = new_pair_count(policy, include_simulated=schedule.include_simulated)
    wanted = _dismissed_pairs(schedule) + schedule.min_new_pairs
    if pairs < wanted:
        return {"code": "few_pairs", "pairs": pairs, "wanted": wanted}
    return _agreement(schedule, policy) or {"code": READY, "pairs": pairs}


def _dismissed_pairs(schedule: Schedule) -> int:
    """Of the proposal that an admin has dismissed: the same pairs are not proposed again."""
    dismissed = Proposal.objects.of_now().filter(schedule=schedule, closed_at__isnull=False).first()
    return dismissed.pairs if dismissed and schedule.act == Act.PROPOSE else 0


def _agreement(schedule: Schedule, policy: Policy) -> Outcome | None:
    """What the experts' agreement has against it. People's; simulated experts' where they count and people are few."""
    if not schedule.agreement_by:
        return None
    comparisons = list(policy.comparisons.preference().values_list("pk", flat=True))
    found = agreement(comparisons)
    if found.share is None and schedule.include_simulated:
        found = agreement(comparisons, simulated=True)
    alpha = schedule.agreement_by == AgreementBy.ALPHA
    estimate = found.alpha if alpha else found.share
    if estimate is None:
        return {"code": "agreement_unknown", "pairs": found.pairs}
    value, floor = estimate.value if alpha else 100 * estimate.value, schedule.agreement_floor or 0.0
    if value > floor:
        return None
    return {"code": "agreement_low", "by": schedule.agreement_by, "value": value, "floor": floor}


def settings_for(schedule: Schedule) -> dict[str, Any]:
    """What launch_round is given."""
    if schedule.settings_of == SettingsOf.SHIPPED:
        return dict(DEFAULTS)
    chosen = schedule.settings_round
    return {name: getattr(chosen, name) for name in DEFAULTS} if chosen else defaults()


def defaults() -> dict[str, Any]:
    """The settings of the last round that did not fail, or the shipped ones."""
    last = Round.objects.exclude(state__in=[State.FAILED, State.CANCELLED]).first()
    return {name: getattr(last, name) for name in DEFAULTS} if last else dict(DEFAULTS)


def rounds_to_send() -> list[int]:
    """Rounds that nobody works on and that were not sent lately; they count as sent from now on.

    While its queue has no worker the messages pile up there: the longer a round waits, the rarer they are.
    """
    found = list(Round.objects.untaken().annotate(now=Now()))
    due = [one.pk for one in found if one.enqueued_at is None or one.enqueued_at < one.now - _send_again_after(one)]
    again = Q(enqueued_at=None) | Q(enqueued_at__lt=Now() - SEND_AGAIN_AFTER)  # unless another sweep was quicker
    return [pk for pk in due if Round.objects.untaken().filter(again, pk=pk).update(enqueued_at=Now())]


def _send_again_after(waiting: Round) -> timedelta:
    """As long again as it had waited when it was last sent: since it was put there, or its holder went silent."""
    since = waiting.lease_until or waiting.state_since
    waited = waiting.enqueued_at - since if waiting.enqueued_at else timedelta(0)
    return min(max(waited, SEND_AGAIN_AFTER), SEND_AGAIN_AT_MOST)
