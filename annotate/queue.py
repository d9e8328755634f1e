"""Giving experts their next comparison.

Lock order: the expert's row (one expert's tabs wait for each other), lock_queue() where several places change,
then a place. Who waits for a place without lock_queue() holds no other: a lock that was got in vain, because the
place had meanwhile been taken, is let go before the next wait. So no two ever wait for each other.
"""

import hashlib
import random
from collections.abc import Callable, Iterable
from datetime import timedelta
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Count, Exists, OuterRef, Q, QuerySet
from django.db.models.functions import Now
from django.utils import timezone

from annotate.models import Assignment, Campaign, Comparison, Expert, Gold, Kind, Place
from annotate.models.answers import EQUAL, Verdict
from generation.models import Language, Story
from generation.sql import among

# a quick reader's characters a second: 400 English words a minute (Brysbaert, 2019, gives 238 on average
# for fiction and hardly anybody above 350), 900 Chinese characters
QUICK = {Language.ENGLISH: 40.0, Language.CHINESE: 15.0}
QUEUE_LOCK = 0x53746F7279  # any number that nobody else uses in this database
REPEAT_AFTER = 8  # judgements, so that the first answer is no longer in mind
REPEAT_BEFORE = 60  # judgements: further back is not looked, however long somebody has judged


@transaction.atomic
def next_assignment(*, expert: Expert) -> Assignment | None:
    """What `expert` is to judge now: what they have open, else a free place; None if there is none.

    Two experts never get the same place: it is taken under a row lock, and places locked by
    others are passed over. Now and then a silent check comes in the place's stead.
    """
    lock(expert)
    unanswered = expert.assignments.unanswered().select_related("comparison__prompt").order_by("pk")
    for assignment in unanswered:
        if can_be_judged(assignment) and hold_again(assignment):
            return assignment
    place = _free_place(expert)
    if place is None:
        return None
    return _silent_check(expert) or _seat(place, expert)


def _free_place(expert: Expert) -> Place | None:
    """New against old in the share that the admins set, by chance, as long as there is both; else what there is."""
    evaluation_now = 100 * _drawn(expert, "evaluation", expert.judged).random() < Campaign.current().evaluation_share
    free = Place.objects.free().open_to(expert).select_related("comparison__prompt")
    wanted = [free.filter(evaluation=kind) for kind in (evaluation_now, not evaluation_now)]
    return _unless_in_vain(lambda: _unlocked(wanted[0]) or _unlocked(wanted[1])) or _waited_for(wanted)


def _unlocked(places: QuerySet[Place]) -> Place | None:
    return places.select_for_update(skip_locked=True, of=("self",)).first()


def _waited_for(wanted: Iterable[QuerySet[Place]]) -> Place | None:
    """At last those that others lock, one after the other: they may be given back."""
    for places in wanted:
        while pk := places.values_list("pk", flat=True).first():
            one = places.filter(pk=pk).select_for_update(of=("self",))
            if found := _unless_in_vain(one.first):
                return found
    return None


def _unless_in_vain(take: Callable[[], Place | None]) -> Place | None:
    """What `take` finds and locks. If nothing, also the locks go that it got on places no longer free: PostgreSQL
    looks at a row again only once it has it."""
    with transaction.atomic():
        found = take()
        if found is None:
            transaction.set_rollback(True)
    return found


def lock(expert: Expert) -> None:
    """All writes of one expert wait for each other here. Reads anew what others may have changed."""
    fresh = Expert.objects.select_for_update(no_key=True).values_list("judged", "languages", "simulated")
    expert.judged, expert.languages, expert.simulated = fresh.get(pk=expert.pk)


def _seat(place: Place, expert: Expert) -> Assignment:
    assignment = assign(place.comparison, expert, None, Kind.ORDINARY)
    hold(place, assignment)
    return assignment


def assign(comparison: Comparison, expert: Expert, shown: list[int] | None, kind: Kind) -> Assignment:
    """Put `comparison` before `expert`, in the order `shown` or else in the one drawn for the two."""
    stories = {story.pk: story for story in comparison.stories.only("text", "withdrawn_at")}
    shown = shown or _shuffled((pk for pk, story in stories.items() if not story.withdrawn_at), expert, comparison)
    letters = sum(len(stories[pk].text) for pk in shown)
    assignment = Assignment.objects.create(
        comparison=comparison,
        expert=expert,
        shown=shown,
        kind=kind,
        minimum_seconds=letters / QUICK[Language(comparison.prompt.language)],
    )
    assignment._stories = [stories[pk] for pk in shown]
    return assignment


def shown_order(expert: Expert, comparison: Comparison) -> list[int]:
    """The comparison's story ids in an order drawn for (expert, comparison), the same each time."""
    return _shuffled(comparison.stories.filter(withdrawn_at=None).values_list("pk", flat=True), expert, comparison)


def _shuffled(ids: Iterable[int], expert: Expert, comparison: Comparison) -> list[int]:
    order = sorted(ids)
    _drawn(expert, comparison.pk).shuffle(order)
    return order


def _drawn(expert: Expert, *of: object) -> random.Random:
    """Chance that is the same each time for this expert and `of`."""
    words = ":".join(map(str, (settings.SECRET_KEY, expert.pk, *of)))
    return random.Random(hashlib.sha256(words.encode()).digest())


def find_assignment(*, expert: Expert, key: UUID) -> Assignment:
    """The expert's own assignment; Assignment.DoesNotExist for anybody else's."""
    return expert.assignments.select_related("comparison__prompt").get(key=key)


@transaction.atomic
def skip_assignment(*, assignment: Assignment) -> None:
    """Give the place back, and do not show the comparison to this expert again."""
    lock(assignment.expert)
    skipped = Assignment.objects.filter(pk=assignment.pk, answered_at=None).update(skipped_at=timezone.now())
    if skipped:
        release(assignment)


@transaction.atomic
def unskip_assignment(*, assignment: Assignment) -> bool:
    """Take a skip back; without a place if the last has gone, and then what comes is an extra.

    False for an adjudication that somebody else decides by now.
    """
    lock(assignment.expert)
    others = Assignment.objects.filter(comparison=assignment.comparison_id, kind=Kind.ADJUDICATION, skipped_at=None)
    if assignment.kind == Kind.ADJUDICATION and others.exists():
        return False
    Assignment.objects.filter(pk=assignment.pk).update(skipped_at=None)
    hold_again(assignment)
    return True


def hold_again(assignment: Assignment) -> bool:
    """Hold the assignment's place for its full time from now; False if the comparison has no place left.

    What is no ordinary work has no place and needs none.
    """
    if assignment.kind != Kind.ORDINARY:
        return True
    mine = Place.objects.select_for_update().filter(assignment=assignment)
    free = Place.objects.free().filter(comparison=assignment.comparison_id)
    place = _unless_in_vain(lambda: mine.first() or _unlocked(free))
    if place is None:
        return False
    hold(place, assignment)
    return True


def hold(place: Place, assignment: Assignment) -> None:
    until = Now() + timedelta(minutes=settings.RESERVATION_MINUTES)
    Place.objects.filter(pk=place.pk).update(assignment=assignment, held_until=until)


def keep_holding(assignment: Assignment) -> None:
    """Whoever is still writing keeps the place, unless somebody else has taken it."""
    until = Now() + timedelta(minutes=settings.RESERVATION_MINUTES)
    Place.objects.filter(assignment=assignment, held_until__isnull=False).update(held_until=until)


def fill(assignment: Assignment) -> bool:
    """The place is filled for good: its own, or a free one if its own has gone. False if there is none.

    What is no ordinary work has no place and needs none.
    """
    if assignment.kind != Kind.ORDINARY:
        return True
    mine = Place.objects.filter(assignment=assignment)
    if mine.update(held_until=None, wanted=False):
        return True
    return hold_again(assignment) and bool(mine.update(held_until=None, wanted=False))


def release(assignment: Assignment) -> None:
    """The place is somebody else's to fill."""
    Place.objects.filter(assignment=assignment).update(assignment=None, held_until=None)


def lock_queue() -> None:
    """Taken before any place by who changes several of them, so that two of these never wait for each other."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [QUEUE_LOCK])


def refresh_queue(comparisons: Iterable[int]) -> None:
    """Bring `Place.wanted` in line with closings and withdrawn stories, for comparisons by id.
    Under lock_queue()."""
    ids = among(comparisons)
    left = Count("stories", filter=Q(stories__withdrawn_at=None))
    two = Comparison.objects.filter(pk__in=ids, closed_at=None).annotate(left=left).filter(left__gte=2)
    queued = among(two.values_list("pk", flat=True))
    places = Place.objects.filter(comparison__in=ids)
    filled = Q(assignment__isnull=False, held_until=None)
    list(places.select_for_update().order_by("number", "draw_order").values("pk"))  # in the queue's own order
    places.filter(filled | ~Q(comparison__in=queued)).update(wanted=False)
    places.filter(~filled, comparison__in=queued).update(wanted=True)


def can_be_judged(assignment: Assignment) -> bool:
    """Two of its stories are still in the queue."""
    return Story.objects.filter(pk__in=assignment.shown, withdrawn_at=None).count() >= 2


def _silent_check(expert: Expert) -> Assignment | None:
    """Now and then a comparison whose answer is known, or one that the expert has answered before."""
    if expert.simulated:
        return None
    campaign = Campaign.current()
    shares = [1 / every if every else 0 for every in (campaign.repeat_every, campaign.gold_every)]
    chance = _drawn(expert, "check", expert.judged).random()
    if chance >= sum(shares) or _has_just_skipped_one(expert):
        return None
    return _repeat(expert) if chance < shares[0] else _gold(expert)


def _has_just_skipped_one(expert: Expert) -> bool:
    last = expert.assignments.order_by("-pk").first()
    return bool(last and last.skipped_at and last.kind != Kind.ORDINARY)


def _repeat(expert: Expert) -> Assignment | None:
    """An earlier answer not asked again yet, every story in another place than the first time."""
    answered = expert.assignments.exclude(answered_at=None).order_by("-answered_at")
    window = list(answered.values_list("pk", flat=True)[REPEAT_AFTER:REPEAT_BEFORE])
    again = Assignment.objects.filter(expert=expert, comparison=OuterRef("comparison"), kind=Kind.REPEAT)
    found = Assignment.objects.filter(pk__in=window, kind=Kind.ORDINARY).exclude(Exists(again))
    ranked = found.filter(judgement__verdict__in=[Verdict.RANKED, *EQUAL]).order_by("answered_at")
    for first in ranked.select_related("comparison__prompt")[:3]:
        if len(first.shown) > 1 and not Story.objects.filter(pk__in=first.shown).exclude(withdrawn_at=None).exists():
            shown = swapped(first.shown, _drawn(expert, "repeat", first.comparison_id))
            return assign(first.comparison, expert, shown, Kind.REPEAT)
    return None


def swapped(shown: list[int], chance: random.Random) -> list[int]:
    """The same stories, none in its old place."""
    order = list(shown)
    while any(old == new for old, new in zip(shown, order, strict=True)):
        chance.shuffle(order)
    return order


def _gold(expert: Expert) -> Assignment | None:
    seen = Assignment.objects.filter(expert=expert, comparison=OuterRef("comparison"))
    withdrawn = Story.objects.filter(comparisons=OuterRef("comparison")).exclude(withdrawn_at=None)
    found = Gold.objects.filter(retired_at=None, comparison__prompt__language__in=expert.languages)
    found = found.exclude(made_by=expert.user_id)  # who knows the answer
    gold = found.exclude(Exists(seen)).exclude(Exists(withdrawn)).select_related("comparison__prompt").first()
    if gold is None:
        return None
    return assign(gold.comparison, expert, None, Kind.GOLD)
