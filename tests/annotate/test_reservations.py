"""Who judges what: one expert a place, and many experts at once."""

from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from threading import Event
from time import sleep

import pytest
from django.db import transaction
from django.utils import timezone

from annotate.comparisons import close_comparisons
from annotate.judgements import record_judgement
from annotate.models import Assignment, Expert, Judgement, Place
from annotate.queue import next_assignment, shown_order, skip_assignment
from tests.factories import make_comparison, make_expert
from tests.threads import at_once

Expire = Callable[[Assignment], None]


def answer(assignment: Assignment) -> Judgement:
    return record_judgement(assignment=assignment, verdict="tie").judgement


def test_a_reload_gives_the_same_assignment(expert: Expert) -> None:
    make_comparison()
    make_comparison()
    assert next_assignment(expert=expert) == next_assignment(expert=expert)


def test_a_reload_shows_the_same_order(expert: Expert) -> None:
    make_comparison(5)
    assert next_assignment(expert=expert).shown == next_assignment(expert=expert).shown


def test_the_order_shown_is_kept_in_the_database(expert: Expert) -> None:
    comparison = make_comparison(5)
    assignment = next_assignment(expert=expert)
    stored = Assignment.objects.get(pk=assignment.pk).shown
    assert stored == assignment.shown
    assert sorted(stored) == sorted(comparison.stories.values_list("pk", flat=True))


def test_experts_see_different_orders(settings, db: None) -> None:
    settings.PLACES_PER_COMPARISON = 12
    make_comparison(4)
    orders = {tuple(next_assignment(expert=make_expert()).shown) for _ in range(12)}
    assert len(orders) > 1


def test_no_story_always_stands_first(db: None) -> None:
    comparison = make_comparison(3)
    first = Counter(shown_order(Expert(pk=pk), comparison)[0] for pk in range(1, 91))
    assert len(first) == 3
    assert min(first.values()) > 5


def test_a_place_is_taken_with_a_time_limit(settings, expert: Expert) -> None:
    settings.RESERVATION_MINUTES = 7
    make_comparison()
    assignment = next_assignment(expert=expert)
    left = Place.objects.get(assignment=assignment).held_until - timezone.now()
    assert timedelta(minutes=6) < left < timedelta(minutes=8)


def test_a_reload_gives_the_full_time_again(settings, expert: Expert) -> None:
    make_comparison()
    assignment = next_assignment(expert=expert)
    soon = timezone.now() + timedelta(seconds=5)
    Place.objects.filter(assignment=assignment).update(held_until=soon)
    next_assignment(expert=expert)
    assert Place.objects.get(assignment=assignment).held_until > soon


def test_a_judged_place_is_held_for_good(expert: Expert) -> None:
    make_comparison()
    assignment = next_assignment(expert=expert)
    answer(assignment)
    assert Place.objects.get(assignment=assignment).held_until is None


def test_a_place_that_is_held_is_not_given_to_another(settings, expert: Expert) -> None:
    settings.PLACES_PER_COMPARISON = 1
    make_comparison()
    next_assignment(expert=expert)
    assert next_assignment(expert=make_expert()) is None


def test_a_judged_place_is_not_given_to_another(settings, expert: Expert) -> None:
    settings.PLACES_PER_COMPARISON = 1
    make_comparison()
    answer(next_assignment(expert=expert))
    assert next_assignment(expert=make_expert()) is None


def test_an_expired_place_goes_to_another_expert(settings, expert: Expert, expire: Expire) -> None:
    settings.PLACES_PER_COMPARISON = 1
    comparison = make_comparison()
    expire(next_assignment(expert=expert))
    taken = next_assignment(expert=make_expert())
    assert taken.comparison == comparison
    assert Place.objects.get().assignment == taken


def test_a_late_answer_is_kept_as_an_extra(settings, expert: Expert, expire: Expire) -> None:
    settings.PLACES_PER_COMPARISON = 1
    make_comparison()
    late = next_assignment(expert=expert)
    expire(late)
    answer(next_assignment(expert=make_expert()))
    assert answer(late).extra
    assert Judgement.objects.count() == 2


def test_a_late_answer_does_not_take_the_place_from_who_holds_it_now(settings, expert: Expert, expire: Expire) -> None:
    settings.PLACES_PER_COMPARISON = 1
    make_comparison()
    late = next_assignment(expert=expert)
    expire(late)
    second = next_assignment(expert=make_expert())
    answer(late)
    assert not answer(second).extra


def test_a_late_answer_fills_its_place_if_nobody_took_it(settings, expert: Expert, expire: Expire) -> None:
    settings.PLACES_PER_COMPARISON = 1
    make_comparison()
    late = next_assignment(expert=expert)
    expire(late)
    assert not answer(late).extra


def test_a_late_answer_fills_another_free_place(settings, expert: Expert, expire: Expire) -> None:
    settings.PLACES_PER_COMPARISON = 2
    make_comparison()
    late = next_assignment(expert=expert)
    expire(late)
    next_assignment(expert=make_expert())
    assert not answer(late).extra
    assert set(Place.objects.values_list("assignment", flat=True)) == set(
        Assignment.objects.values_list("pk", flat=True)
    )


def test_who_lost_the_only_place_is_given_other_work(settings, expert: Expert, expire: Expire) -> None:
    settings.PLACES_PER_COMPARISON = 1
    lost = make_comparison()
    expire(next_assignment(expert=expert))
    next_assignment(expert=make_expert())
    other = make_comparison()
    assert next_assignment(expert=expert).comparison == other != lost


def test_skipping_gives_the_place_back(settings, expert: Expert) -> None:
    settings.PLACES_PER_COMPARISON = 1
    comparison = make_comparison()
    skip_assignment(assignment=next_assignment(expert=expert))
    assert next_assignment(expert=make_expert()).comparison == comparison


def test_what_was_skipped_is_not_shown_again(expert: Expert) -> None:
    make_comparison()
    skip_assignment(assignment=next_assignment(expert=expert))
    assert next_assignment(expert=expert) is None


def test_skipping_what_was_judged_changes_nothing(expert: Expert) -> None:
    make_comparison()
    assignment = next_assignment(expert=expert)
    answer(assignment)
    skip_assignment(assignment=assignment)
    assert Place.objects.get(assignment=assignment)
    assert Assignment.objects.get(pk=assignment.pk).skipped_at is None


def test_skipping_after_the_time_leaves_the_next_experts_place_alone(settings, expert: Expert, expire: Expire) -> None:
    settings.PLACES_PER_COMPARISON = 1
    make_comparison()
    late = next_assignment(expert=expert)
    expire(late)
    second = next_assignment(expert=make_expert())
    skip_assignment(assignment=late)
    assert Place.objects.get().assignment == second


def test_an_answer_after_a_skip_is_kept(expert: Expert) -> None:
    make_comparison()
    assignment = next_assignment(expert=expert)
    skip_assignment(assignment=assignment)
    assert not answer(assignment).extra
    assert Assignment.objects.get(pk=assignment.pk).skipped_at is None


def test_an_expert_never_sees_a_comparison_twice(expert: Expert) -> None:
    comparisons = [make_comparison() for _ in range(3)]
    shown = []
    while assignment := next_assignment(expert=expert):
        shown.append(assignment.comparison)
        answer(assignment)
    assert Counter(shown) == Counter(comparisons)


def test_every_comparison_is_judged_once_before_any_is_judged_twice(db: None) -> None:
    comparisons = [make_comparison() for _ in range(4)]
    taken = [next_assignment(expert=make_expert()).comparison for _ in range(8)]
    assert set(taken[:4]) == set(taken[4:]) == set(comparisons)


def test_closed_comparisons_are_not_handed_out(expert: Expert) -> None:
    close_comparisons([make_comparison()])
    assert next_assignment(expert=expert) is None


def test_who_holds_a_place_may_finish_after_the_comparison_was_closed(expert: Expert) -> None:
    comparison = make_comparison()
    assignment = next_assignment(expert=expert)
    close_comparisons([comparison])
    assert next_assignment(expert=expert) == assignment
    assert not answer(assignment).extra


def test_who_lost_their_place_gets_no_new_one_in_a_closed_comparison(expert: Expert, expire: Expire) -> None:
    comparison = make_comparison()
    expire(next_assignment(expert=expert))
    next_assignment(expert=make_expert())
    close_comparisons([comparison])
    assert next_assignment(expert=expert) is None


def test_nothing_to_judge_is_none(expert: Expert) -> None:
    assert next_assignment(expert=expert) is None


@pytest.mark.django_db(transaction=True)
def test_two_experts_never_get_the_same_place(settings) -> None:
    settings.PLACES_PER_COMPARISON = 4
    comparisons = [make_comparison() for _ in range(5)]
    experts = [make_expert() for _ in range(20)]
    taken = at_once(20, lambda i: next_assignment(expert=experts[i]))
    assert len({Place.objects.get(assignment=assignment).pk for assignment in taken}) == 20
    assert Counter(a.comparison for a in taken) == dict.fromkeys(comparisons, 4)


@pytest.mark.django_db(transaction=True)
def test_a_comparison_never_has_more_experts_than_places(settings) -> None:
    settings.PLACES_PER_COMPARISON = 3
    comparisons = [make_comparison() for _ in range(4)]
    experts = [make_expert() for _ in range(20)]
    taken = [a for a in at_once(20, lambda i: next_assignment(expert=experts[i])) if a]
    assert Counter(a.comparison for a in taken) == dict.fromkeys(comparisons, 3)


@pytest.mark.django_db(transaction=True)
def test_no_judgement_is_lost_when_all_judge_at_once(settings) -> None:
    settings.PLACES_PER_COMPARISON = 4
    for _ in range(5):
        make_comparison()
    experts = [make_expert() for _ in range(20)]

    def judge_two(index: int) -> list[Judgement]:
        return [answer(a) for _ in range(2) if (a := next_assignment(expert=experts[index]))]

    acknowledged = [judgement for done in at_once(20, judge_two) for judgement in done]
    assert set(acknowledged) == set(Judgement.objects.all())
    assert Place.objects.filter(assignment__judgement__isnull=False).count() == len(acknowledged) == 20
    assert not any(judgement.extra for judgement in acknowledged)


@pytest.mark.django_db(transaction=True)
def test_one_expired_place_goes_to_one_of_many(settings) -> None:
    settings.PLACES_PER_COMPARISON = 1
    make_comparison()
    next_assignment(expert=make_expert())
    Place.objects.update(held_until=timezone.now() - timedelta(seconds=1))
    experts = [make_expert() for _ in range(8)]
    taken = at_once(8, lambda i: next_assignment(expert=experts[i]))
    assert len([a for a in taken if a]) == 1


@pytest.mark.django_db(transaction=True)
def test_the_same_expert_in_many_tabs_gets_one_assignment() -> None:
    for _ in range(3):
        make_comparison()
    expert = make_expert()
    taken = at_once(6, lambda _: next_assignment(expert=expert))
    assert len(set(taken)) == Assignment.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_a_double_click_stores_one_judgement() -> None:
    make_comparison()
    assignment = next_assignment(expert=make_expert())
    kept = at_once(4, lambda _: record_judgement(assignment=assignment, verdict="tie"))
    assert Judgement.objects.count() == 1
    assert sorted(k.repeated for k in kept) == [False, True, True, True]


@pytest.mark.django_db(transaction=True)
def test_a_place_that_another_let_go_is_waited_for(settings) -> None:
    settings.PLACES_PER_COMPARISON = 1
    make_comparison()
    expert, locked = make_expert(), Event()

    def lock_and_let_go() -> None:
        with transaction.atomic():
            Place.objects.select_for_update().get()
            locked.set()
            sleep(0.3)

    def ask() -> Assignment | None:
        locked.wait()
        return next_assignment(expert=expert)

    assert at_once(2, lambda i: ask() if i else lock_and_let_go())[1] is not None
