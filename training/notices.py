"""Telling admins what becomes of rounds: what has happened is written down once, then sent until it has arrived.

What happened is read from the rounds themselves, so that nothing has to be told twice to be known: the beat looks
for rounds in a state that no row tells of yet. A row is an event for a destination; the database has each once. A
worker that dies while it sends leaves its row to the next: the receiver may then get the message twice, under the same
id.
"""

import json
from datetime import timedelta
from smtplib import SMTPException
from typing import Any

from django.conf import settings
from django.core.mail import EmailMessage
from django.db.models import Exists, F, OuterRef
from django.db.models.functions import Now
from django.urls import reverse
from django.utils import translation
from django.utils.translation import gettext as _

from annotate.permissions import is_admin
from training import promotion, webhooks
from training.models import Channel, Delivery, Destination, Event, Proposal, Round, Sending, State
from training.webhooks import NotSent

BACK_OFF = [timedelta(seconds=30), timedelta(minutes=2), timedelta(minutes=10), timedelta(hours=1), timedelta(hours=6)]
TRIES = len(BACK_OFF) + 1
SENDING = timedelta(minutes=2)  # who has not finished by then is dead
STATES = {
    Event.JUDGING: [State.JUDGING],
    Event.DECISION: [State.JUDGING],
    Event.ENDED: [State.PROMOTED, State.REJECTED, State.CANCELLED],
    Event.FAILED: [State.FAILED],
}
OVER = (Event.ENDED, Event.FAILED)


def record_events() -> None:
    """A row for each event and destination that has none. Two sweeps at once leave one: a constraint."""
    rows = []
    for destination in Destination.objects.all():
        for event in destination.events:
            if event == Event.PROPOSED:
                rows += [_proposed(destination, one) for one in _unheard(destination)]
                continue
            happened = _untold(destination, Event(event))
            rows += [
                Delivery(destination=destination, round=one, event=event, happened_at=one.state_since)
                for one in happened
                if event != Event.DECISION or promotion.waits_for_an_admin(one)
            ]
    Delivery.objects.bulk_create(rows, ignore_conflicts=True)


def _untold(destination: Destination, event: Event) -> Any:
    told = Delivery.objects.filter(
        destination=destination, event=event, round=OuterRef("pk"), happened_at=OuterRef("state_since")
    )
    found = Round.objects.filter(~Exists(told), state__in=STATES[event]).select_related("policy", "result")
    return found.filter(state_since__gte=destination.since) if event in OVER else found  # what waits still waits


def _unheard(destination: Destination) -> Any:
    told = Delivery.objects.filter(destination=destination, proposal=OuterRef("pk"))
    return Proposal.objects.open().filter(~Exists(told))


def _proposed(destination: Destination, proposal: Proposal) -> Delivery:
    return Delivery(destination=destination, proposal=proposal, event=Event.PROPOSED, happened_at=proposal.created_at)


def due() -> list[int]:
    return list(_due().values_list("pk", flat=True))


def _due() -> Any:
    return Delivery.objects.filter(state=Sending.WAITING, next_try_at__lte=Now())


def send(delivery_id: int) -> None:
    """Try once, if nobody else does and it is due."""
    if not _due().filter(pk=delivery_id).update(attempts=F("attempts") + 1, next_try_at=Now() + SENDING):
        return
    found = Delivery.objects.select_related("destination__user", "round__policy", "round__result", "proposal").get(
        pk=delivery_id
    )
    mine = Delivery.objects.filter(pk=found.pk, attempts=found.attempts)
    try:
        if found.attempts > TRIES:  # each was cut short: by the time limit, or with its worker
            raise NotSent(_("No try came to its end."))
        with translation.override(found.destination.language):
            status = _deliver(found)
    except NotSent as error:
        _put_off(found, mine, error)
    else:
        mine.update(state=Sending.SENT, sent_at=Now(), status=status, message="")


def _put_off(found: Delivery, mine: Any, error: NotSent) -> None:
    said = {"message": str(error), "status": error.status}
    if found.event == Event.TEST or found.attempts >= TRIES:
        mine.update(state=Sending.FAILED, **said)
    else:
        mine.update(next_try_at=Now() + BACK_OFF[found.attempts - 1], **said)


def _deliver(found: Delivery) -> int | None:
    """HTTP's status, if there is one. Raises NotSent."""
    if found.destination.channel == Channel.WEBHOOK:
        return _webhook(found)
    _email(found)
    return None


def _webhook(found: Delivery) -> int:
    body = json.dumps(payload(found), ensure_ascii=False).encode()
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "Storyloop",
        "X-Storyloop-Event": found.event,
        "X-Storyloop-Delivery": str(found.pk),
        "X-Storyloop-Signature": webhooks.signature(found.destination.secret, body),
    }
    return webhooks.post(found.destination.url, body, headers, private=settings.PRIVATE_WEBHOOKS)


def payload(found: Delivery) -> dict[str, Any]:
    """What a webhook gets. id is the same at each try."""
    at = found.created_at if found.event == Event.DECISION else found.happened_at  # judged while in the same state
    told: dict[str, Any] = {"id": found.pk, "event": found.event, "at": at.isoformat(), "round": None}
    if found.round:
        told["round"] = {
            "number": found.round.number,
            "state": found.round.state,
            "message": found.round.message,
            "pairs": found.round.pair_count,
            "policy": found.round.policy.name,
            "result": found.round.result.name if found.round.result else None,
            "url": link(found.round),
        }
    if found.proposal:
        told["proposal"] = {"pairs": found.proposal.pairs, "url": settings.SITE_URL + reverse("rounds")}
    return {**told, "text": subject(found)}


def _email(found: Delivery) -> None:
    """To the mail server: what becomes of it there is not known. Raises NotSent."""
    user = found.destination.user
    if user is None or not is_admin(user) or not user.email:
        raise NotSent(_("This account is no admin's any more, or has no address."))
    if not settings.MAIL_SERVER:
        raise NotSent(_("No mail server is set: STORYLOOP_EMAIL_URL."))
    lines = [subject(found)]
    if found.round:
        lines += [found.round.in_words, link(found.round)]
    if found.proposal:
        lines += [settings.SITE_URL + reverse("rounds")]
    mail = EmailMessage(f"Storyloop: {subject(found)}", "\n\n".join(filter(None, lines)), to=[user.email])
    try:
        mail.send()
    except (SMTPException, OSError) as error:
        raise NotSent(_("The mail server did not take it: %(error)s") % {"error": error}) from error


def link(shown: Round) -> str:
    return settings.SITE_URL + reverse("show_round", args=[shown.number])


def subject(found: Delivery) -> str:
    """In one line."""
    if found.proposal:
        return _("A round is proposed: %(pairs)d new pairs.") % {"pairs": found.proposal.pairs}
    if found.round is None:
        return _("This is a test: messages arrive.")
    said = {"number": found.round.number, "state": found.round.get_state_display()}
    if found.event == Event.JUDGING:
        return _("Round %(number)d waits to be judged.") % said
    if found.event == Event.DECISION:
        return _("Round %(number)d is judged and waits for your decision.") % said
    return _("Round %(number)d is over: %(state)s.") % said
