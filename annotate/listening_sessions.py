"""Listening with a child: which stories, in which order, and what is kept.

A child of five to eight says reliably which of two things it likes better, and not how much it
likes one ("This or That", valid from about four years; smiley scales are not: Zaman, 2013). So the
child only chooses; the adult, who saw it listen, rates its engagement by what it did.

Comprehension is asked about one story, drawn before anything is heard: two questions a pair instead of
four, since children tire, and never about the chosen story only, which would be the better followed
one and so favour whoever wins. Each policy gets about half of the questions.
"""

import random
import re
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Count, Exists, OuterRef, Q
from django.utils import timezone
from django.utils.translation import gettext as _

from annotate.models import AgeBand, Comparison, Heard, Listening, ListeningSession, Picture, Purpose
from generation.models import Prompt

CONSENT_VERSION = "2026-11"  # of the text in templates/annotate/listening/_consent.html: change both together
PAIRS_SUGGESTED = 3  # children tire
# drawn alike, in one colour: what stands for a story must not be prettier than what stands for the other
PICTURE_PAIRS = ((Picture.SUN, Picture.MOON), (Picture.BOAT, Picture.KITE), (Picture.APPLE, Picture.PEAR))
NOTHING_NOTED = {"engagement_first": None, "engagement_second": None, "understood_who": "", "understood_end": ""}


class NoStories(Exception):
    """No pair is left for this session; the message says to the adult what to do."""


class Superseded(Exception):
    """The page did not know what another page has written since. Nothing was changed."""

    def __init__(self, current: Listening) -> None:
        super().__init__(f"{current} is at version {current.version}")
        self.current = current


@transaction.atomic
def start_session(*, key: UUID, adult: User, language: str, age_band: str, read_by: str) -> ListeningSession:
    """The adult has consented: a session, and its first pair. Raises NoStories.

    The same `key` is the same page, sent twice: one session, unless something was answered in it.
    From then on the page is an old one, and who sends it may have another child beside them.
    """
    answers = {"language": language, "age_band": age_band, "read_by": read_by}
    consent = {"consented_at": timezone.now(), "consent_version": CONSENT_VERSION}
    session, new = ListeningSession.objects.get_or_create(key=key, adult=adult, defaults={**answers, **consent})
    same = all(getattr(session, name) == value for name, value in answers.items())
    if not new and (not same or session.ended_at or session.listenings.answered().exists()):
        session = ListeningSession.objects.create(adult=adult, **answers, **consent)
    next_listening(session=session)
    return session


@transaction.atomic
def next_listening(*, session: ListeningSession) -> Listening:
    """The pair that is being heard, or a new one. Raises NoStories.

    A session that was ended goes on.
    """
    session = ListeningSession.objects.select_for_update().get(pk=session.pk)  # two clicks wait for each other
    if being_heard := open_listening(session):
        return being_heard
    comparison = _next_comparison(session)
    if comparison is None:
        raise NoStories(_("There are no more stories to compare in this language now. Come back another day."))
    if session.ended_at:
        session.ended_at = None
        session.save(update_fields=["ended_at"])
    number = session.listenings.count() + 1
    stories = list(comparison.stories.order_by("pk"))
    pictures = list(PICTURE_PAIRS[(number - 1) % len(PICTURE_PAIRS)])
    random.shuffle(stories)
    random.shuffle(pictures)
    return Listening.objects.create(
        session=session,
        comparison=comparison,
        number=number,
        first=stories[0],
        second=stories[1],
        first_picture=pictures[0],
        second_picture=pictures[1],
        first_on_left=random.random() < 0.5,
        asked_about=random.choice(stories),
    )


def open_listening(session: ListeningSession) -> Listening | None:
    """The pair that still wants its choice or its notes, unless a story of it was withdrawn."""
    listenings = session.listenings.filter(noted_at=None, first__withdrawn_at=None, second__withdrawn_at=None)
    return listenings.select_related("first", "second", "session").last()


def _next_comparison(session: ListeningSession) -> Comparison | None:
    """Old against new on a held-out prompt that this session has not had.

    First those for the child's age, those still in the queue and of the newest policy; then those
    that this adult, and then that all adults, have listened to least.
    """
    bands = Prompt.objects.filter(language=session.language).order_by().values_list("age_band", flat=True).distinct()
    heard = Listening.objects.filter(session=session, comparison__prompt=OuterRef("prompt"))
    here = Listening.objects.filter(comparison=OuterRef("pk"), session__adult=session.adult_id)
    whole = Comparison.objects.annotate(
        all=Count("stories", distinct=True), left=Count("stories", distinct=True, filter=Q(stories__withdrawn_at=None))
    ).filter(all=2, left=2, purpose=Purpose.EVALUATION, prompt__language=session.language)
    fitting = [band for band in bands if fits(band, session.age_band)]
    return (
        whole.exclude(Exists(heard))
        .annotate(
            another_age=~Q(prompt__age_band__in=[*fitting, session.age_band]),
            closed=Q(closed_at__isnull=False),
            known=Exists(here),
            times=Count("listenings", distinct=True),
        )
        .order_by("another_age", "closed", "-policy", "known", "times", "draw_order")
        .first()
    )


def fits(prompt_band: str, age_band: str) -> bool:
    """Whether a prompt's age band, as an admin wrote it ("5-6", "6 to 9 years", "7"), touches the child's."""
    ages = [int(number) for number in re.findall(r"\d+", prompt_band)]
    low, high = (int(number) for number in AgeBand(age_band).split("-"))
    return bool(ages) and min(ages) <= high and max(ages) >= low


@transaction.atomic
def record_choice(*, listening: Listening, outcome: str, position: int | None = None, version: int) -> Listening:
    """What the child said: `position` 1 is the story heard first, None unless it chose one.

    The same answer twice is one. An answer from a page that knows the earlier one replaces it (a
    child's finger slips); from one that does not, Superseded.
    """
    current = _locked(listening)
    choice = {1: current.first_id, 2: current.second_id}.get(position or 0) if outcome == Heard.CHOSEN else None
    if (current.outcome, current.choice_id) == (outcome, choice):
        return current
    if version != current.version:
        raise Superseded(current)
    current.outcome, current.choice_id = outcome, choice
    current.answered_at = current.answered_at or timezone.now()
    current.version += 1
    current.save(update_fields=["outcome", "choice", "answered_at", "version"])
    return current


@transaction.atomic
def record_notes(*, listening: Listening, notes: Mapping[str, Any], version: int) -> Listening:
    """What the adult noted: the fields of NOTHING_NOTED, each of which may be left out. Raises Superseded."""
    current = _locked(listening)
    given = {name: notes.get(name) or nothing for name, nothing in NOTHING_NOTED.items()}
    if current.noted_at and given == {name: getattr(current, name) for name in NOTHING_NOTED}:
        return current
    if version != current.version:
        raise Superseded(current)
    for name, value in given.items():
        setattr(current, name, value)
    current.noted_at = current.noted_at or timezone.now()
    current.version += 1
    current.save(update_fields=[*NOTHING_NOTED, "noted_at", "version"])
    return current


def _locked(listening: Listening) -> Listening:
    found = Listening.objects.select_related("first", "second", "session").select_for_update(of=("self",))
    return found.get(pk=listening.pk)


def end_session(*, session: ListeningSession) -> None:
    """Nothing is lost by it: what is open stays as it is, and the session can be gone on with."""
    ListeningSession.objects.filter(pk=session.pk, ended_at=None).update(ended_at=timezone.now())
