"""Rounds that launch by themselves, and rounds that are sent again."""

import threading
from datetime import timedelta

import pytest
from django.db import connection
from django.db.models.functions import Now

from generation.models import Policy
from tests.factories import judge_by_story, make_comparison, make_expert, make_policy
from training.models import Round, Schedule, State
from training.schedule import DEFAULTS, defaults, launch_if_due, rounds_to_send


@pytest.fixture
def policy() -> Policy:
    """The policy in use, with one new pair."""
    found = make_policy(current=True)
    judge_by_story(make_expert(), list(make_comparison(2, policy=found).stories.all()))
    return found


@pytest.mark.django_db
class TestLaunchIfDue:
    def test_a_round_is_launched_when_enough_new_pairs_are_there(self, policy: Policy) -> None:
        Schedule.objects.create(enabled=True, min_new_pairs=1)
        launched = launch_if_due()
        assert launched
        assert launched.policy == policy

    def test_nothing_is_launched_below_the_threshold(self, policy: Policy) -> None:
        Schedule.objects.create(enabled=True, min_new_pairs=2)
        assert launch_if_due() is None

    def test_nothing_is_launched_when_switched_off(self, policy: Policy) -> None:
        Schedule.objects.create(enabled=False, min_new_pairs=1)
        assert launch_if_due() is None

    def test_the_schedule_is_off_until_an_admin_switches_it_on(self, policy: Policy) -> None:
        assert launch_if_due() is None
        assert not Schedule.objects.get().enabled

    def test_it_looks_no_more_often_than_the_admin_said(self, policy: Policy) -> None:
        Schedule.objects.create(enabled=True, min_new_pairs=1, every_minutes=10, looked_at=Now() - timedelta(minutes=9))
        assert launch_if_due() is None

    def test_it_looks_again_when_the_time_has_come(self, policy: Policy) -> None:
        looked = Now() - timedelta(minutes=11)
        Schedule.objects.create(enabled=True, min_new_pairs=1, every_minutes=10, looked_at=looked)
        assert launch_if_due() is not None

    def test_nothing_is_launched_while_a_round_waits_for_its_decision(self, policy: Policy) -> None:
        Round.objects.create(number=1, policy=policy, method="full", loss="sigmoid", learning_rate=1e-4)
        Schedule.objects.create(enabled=True, min_new_pairs=1)
        assert launch_if_due() is None

    def test_simulated_pairs_count_only_if_the_admin_said_so(self) -> None:
        stories = make_comparison(2, policy=make_policy(current=True)).stories.all()
        judge_by_story(make_expert(simulated=True), list(stories))
        Schedule.objects.create(enabled=True, min_new_pairs=1)
        assert launch_if_due() is None

    def test_a_round_takes_over_the_last_rounds_settings(self, policy: Policy) -> None:
        Round.objects.create(
            number=1, policy=policy, method="lora", loss="sigmoid", learning_rate=0.003, state=State.QUEUED
        )  # fmt: skip
        assert defaults()["learning_rate"] == 0.003

    def test_a_failed_rounds_settings_are_not_taken_over(self, policy: Policy) -> None:
        Round.objects.create(
            number=1, policy=policy, method="lora", loss="sigmoid", learning_rate=0.003,
            state=State.FAILED, message="no memory",
        )  # fmt: skip
        assert defaults()["learning_rate"] == DEFAULTS["learning_rate"]


@pytest.mark.django_db(transaction=True)
def test_two_beats_at_once_launch_one_round(policy: Policy) -> None:
    Schedule.objects.create(enabled=True, min_new_pairs=1)
    launched = []

    def beat() -> None:
        launched.append(launch_if_due())
        connection.close()

    threads = [threading.Thread(target=beat) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [bool(found) for found in launched].count(True) == 1
    assert Round.objects.count() == 1


@pytest.mark.django_db
class TestRoundsToSend:
    def queued(self, policy: Policy) -> Round:
        return Round.objects.create(number=1, policy=policy, method="full", loss="sigmoid", learning_rate=1e-4)

    def test_a_round_that_nobody_was_told_of_is_sent(self, policy: Policy) -> None:
        found = self.queued(policy)
        assert rounds_to_send() == [found.pk]

    def test_it_is_not_sent_twice_in_a_row(self, policy: Policy) -> None:
        self.queued(policy)
        rounds_to_send()
        assert rounds_to_send() == []

    def test_a_round_whose_worker_died_is_sent_again(self, policy: Policy) -> None:
        found = self.queued(policy)
        past = Now() - timedelta(minutes=1)
        Round.objects.update(state=State.TRAINING, enqueued_at=past, lease_until=past)
        assert rounds_to_send() == [found.pk]

    def test_a_round_that_somebody_works_on_is_left_alone(self, policy: Policy) -> None:
        self.queued(policy)
        Round.objects.update(state=State.TRAINING, lease_until=Now() + timedelta(seconds=20))
        assert rounds_to_send() == []
