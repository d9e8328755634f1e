"""Experts who wait for places never wait for each other: who waits holds no place."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event

import pytest
from django.db import connection, transaction

from annotate.models import Assignment, Expert, Place
from annotate.models.queue import PlaceQuerySet
from annotate.queue import next_assignment
from tests.factories import make_comparison, make_expert
from tests.threads import wait_until_blocked

pytestmark = pytest.mark.django_db(transaction=True)
GATE = 0x67617465  # an advisory lock at which a search for places can be stopped

Beside = Callable[[Callable[[], object]], Future]


@pytest.fixture
def beside() -> Iterator[Beside]:
    """Begins what it is given, on a database connection of its own."""

    def alone(act: Callable[[], object]) -> object:
        try:
            return act()
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        yield lambda act: pool.submit(alone, act)


@pytest.fixture
def places(settings) -> list[Place]:
    """The only two, in the queue's order."""
    settings.PLACES_PER_COMPARISON = 1
    for _ in range(2):
        make_comparison()
    return list(Place.objects.order_by("number", "draw_order"))


def lock(place: Place) -> None:
    Place.objects.select_for_update().get(pk=place.pk)


def seat(place: Place, expert: Expert) -> None:
    """Gives the place to `expert`, as a search that found it would."""
    assignment = Assignment.objects.create(comparison=place.comparison, expert=expert, shown=[])
    Place.objects.filter(pk=place.pk).update(assignment=assignment, held_until="2100-01-01T00:00Z")


def is_locked(place: Place) -> bool:
    with transaction.atomic():
        return not Place.objects.select_for_update(skip_locked=True).filter(pk=place.pk).exists()


def test_who_waited_for_a_place_in_vain_lets_it_go_before_waiting_for_the_next(places, beside: Beside) -> None:
    first, second = places
    expert, other, locked = make_expert(), make_expert(), Event()

    def take_the_first() -> None:
        with transaction.atomic():
            lock(first)
            locked.set()
            wait_until_blocked()
            seat(first, other)

    with transaction.atomic():
        lock(second)
        taken = beside(take_the_first)
        locked.wait(20)
        asked = beside(lambda: next_assignment(expert=expert))
        taken.result(30)
        wait_until_blocked()
        assert not beside(lambda: is_locked(first)).result(30)
    assert asked.result(30).comparison == second.comparison


def test_who_has_found_only_places_just_taken_lets_them_go_before_waiting(places, beside, monkeypatch) -> None:
    first, second = places
    expert, other = make_expert(), make_expert()
    free = PlaceQuerySet.free
    gate = [f"pg_advisory_xact_lock_shared({GATE})::text = ''"]
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", [GATE])
        monkeypatch.setattr(PlaceQuerySet, "free", lambda self: free(self).extra(where=gate))
        asked = beside(lambda: next_assignment(expert=expert))
        wait_until_blocked()  # the search has begun, and has seen both places free
        seat(second, other)
        with transaction.atomic():
            lock(first)
            cursor.execute("SELECT pg_advisory_unlock(%s)", [GATE])
            wait_until_blocked()
            assert not beside(lambda: is_locked(second)).result(30)
    assert asked.result(30).comparison == first.comparison
