"""The life of a round: launched, taken, kept alive, ended, decided."""

from datetime import timedelta

import pytest
from django.db.models.functions import Now

from annotate.models import Comparison
from annotate.pairs import PreferencePair
from generation.models import Policy
from generation.policies import make_current
from tests.factories import judge_by_story, make_comparison, make_evaluation, make_expert, make_policy
from training import launching, rounds, schedule
from training.models import Round, State
from training.rounds import (
    CannotDecide,
    CannotLaunch,
    LeaseLost,
    end_round,
    launch_round,
    new_pair_count,
    promote_round,
    reject_round,
    request_cancel,
    take_round,
)
from training.selection import Selection, pairs

pytestmark = pytest.mark.django_db


@pytest.fixture
def policy() -> Policy:
    """The policy in use, with one judged comparison: two stories, one pair."""
    found = make_policy("base", current=True)
    judge(make_comparison(2, policy=found))
    return found


def judge(comparison: Comparison, *, simulated: bool = False) -> None:
    judge_by_story(make_expert(simulated=simulated), list(comparison.stories.all()))


def launch() -> Round:
    return launch_round(**schedule.DEFAULTS)


def judged_round(policy: Policy) -> Round:
    """A round that waits for its decision."""
    found = launch()
    found.result = make_policy("round-1", parent=policy)
    found.state = State.JUDGING
    found.save()
    return found


class TestLaunch:
    def test_a_round_starts_from_the_policy_in_use(self, policy: Policy) -> None:
        assert launch().policy == policy

    def test_rounds_are_numbered_on(self, policy: Policy) -> None:
        Round.objects.filter(pk=launch().pk).update(state=State.FAILED, message="no disk")
        assert launch().number == 2

    def test_without_a_policy_it_says_how_to_get_one(self) -> None:
        with pytest.raises(CannotLaunch, match="make demo"):
            launch()

    def test_without_pairs_it_says_that_experts_have_to_rank(self) -> None:
        make_comparison(2, policy=make_policy(current=True))
        with pytest.raises(CannotLaunch, match="rank stories first"):
            launch()

    def test_simulated_judgements_do_not_count_unless_asked_for(self) -> None:
        judge(make_comparison(2, policy=make_policy(current=True)), simulated=True)
        with pytest.raises(CannotLaunch):
            launch()
        assert launch_round(include_simulated=True, **schedule.DEFAULTS).include_simulated

    def test_while_another_is_undecided_it_names_that_one(self, policy: Policy) -> None:
        launch()
        with pytest.raises(CannotLaunch, match="Round 1 is not over"):
            launch()

    @pytest.mark.parametrize(
        "wrong", [{"beta": 0.0}, {"method": "magic"}, {"epochs": -1}, {"colour": "red"}, {"eval_share": 0.6}]
    )
    def test_settings_that_the_trainer_refuses_are_refused_at_once(self, policy: Policy, wrong: dict) -> None:
        with pytest.raises(CannotLaunch, match=next(iter(wrong))):
            launch_round(**{**schedule.DEFAULTS, **wrong})

    def test_a_promotion_in_between_is_noticed(self, policy: Policy, monkeypatch) -> None:
        found = pairs(Selection(), policy)

        def promote_meanwhile(*args: object) -> list[PreferencePair]:
            make_current(policy=make_policy("round-9", parent=policy))
            return found

        monkeypatch.setattr(launching.selections, "pairs", promote_meanwhile)
        with pytest.raises(CannotLaunch, match="promoted just now"):
            launch()
        assert not Round.objects.exists()


class TestNewPairs:
    def test_pairs_of_a_launched_round_are_not_new(self, policy: Policy) -> None:
        launch()
        assert new_pair_count(policy, include_simulated=True) == 0

    def test_pairs_of_a_failed_round_are_not_new_either(self, policy: Policy) -> None:
        """Or the schedule would launch what fails again and again."""
        Round.objects.filter(pk=launch().pk).update(state=State.FAILED, message="no disk")
        assert new_pair_count(policy, include_simulated=True) == 0


class TestLease:
    def test_a_round_is_taken_once(self, policy: Policy) -> None:
        pk = launch().pk
        assert take_round(pk) is not None
        assert take_round(pk) is None

    def test_a_round_whose_process_went_silent_is_taken_over(self, policy: Policy) -> None:
        pk = launch().pk
        first = take_round(pk)
        Round.objects.update(lease_until=Now() - timedelta(seconds=1))
        second = take_round(pk)
        assert first
        assert second
        assert second.attempt == first.attempt + 1

    def test_who_was_taken_over_can_change_nothing(self, policy: Policy) -> None:
        first = take_round(launch().pk)
        Round.objects.update(lease_until=Now() - timedelta(seconds=1))
        take_round(Round.objects.get().pk)
        assert first
        with pytest.raises(LeaseLost):
            first.update(state=State.TRAINING)
        assert Round.objects.get().state == State.QUEUED

    def test_each_write_keeps_the_lease_alive(self, policy: Policy) -> None:
        lease = take_round(launch().pk)
        assert lease
        Round.objects.update(lease_until=Now() + timedelta(seconds=1))
        lease.update(done=3)
        assert Round.objects.filter(lease_until__gt=Now() + rounds.LEASE / 2).exists()

    def test_a_round_that_kills_its_process_each_time_fails_with_advice(self, policy: Policy) -> None:
        pk = launch().pk
        for _ in range(rounds.MAX_ATTEMPTS):
            assert take_round(pk)
            Round.objects.update(lease_until=Now() - timedelta(seconds=1))
        assert take_round(pk) is None
        found = Round.objects.get()
        assert found.state == State.FAILED
        assert "memory" in found.message

    def test_a_round_that_is_over_cannot_be_taken(self, policy: Policy) -> None:
        lease = take_round(launch().pk)
        assert lease
        end_round(lease, State.CANCELLED, "Cancelled by an admin.")
        assert take_round(lease.round_id) is None


class TestDecision:
    def test_promoting_makes_the_result_the_policy_in_use(self, policy: Policy) -> None:
        found = judged_round(policy)
        promote_round(round_id=found.pk)
        assert Policy.objects.current() == found.result

    def test_promoting_puts_the_results_stories_before_experts(self, policy: Policy) -> None:
        found = judged_round(policy)
        assert found.result
        make_comparison(2, policy=found.result)
        Comparison.objects.filter(policy=found.result).delete()
        promote_round(round_id=found.pk)
        assert Comparison.objects.open().get().policy == found.result

    def test_promoting_closes_what_was_open_for_the_old_policy(self, policy: Policy) -> None:
        promote_round(round_id=judged_round(policy).pk)
        assert not Comparison.objects.open().filter(policy=policy).exists()

    def test_the_next_round_begins_with_the_promoted_policy(self, policy: Policy) -> None:
        found = judged_round(policy)
        promote_round(round_id=found.pk)
        assert found.result
        judge(make_comparison(2, policy=found.result))
        assert launch().policy == found.result

    def test_rejecting_keeps_the_policy_in_use(self, policy: Policy) -> None:
        reject_round(round_id=judged_round(policy).pk)
        assert Policy.objects.current() == policy

    def test_rejecting_takes_the_results_comparisons_out_of_the_queue(self, policy: Policy) -> None:
        found = judged_round(policy)
        assert found.result
        blind = make_evaluation(found.result, policy)
        reject_round(round_id=found.pk)
        assert not Comparison.objects.open().filter(pk=blind.pk).exists()

    @pytest.mark.parametrize("decide", [promote_round, reject_round])
    def test_a_round_at_work_cannot_be_decided(self, policy: Policy, decide) -> None:
        with pytest.raises(CannotDecide, match="Round 1 is queued"):
            decide(round_id=launch().pk)

    def test_a_round_is_promoted_once(self, policy: Policy) -> None:
        found = judged_round(policy)
        promote_round(round_id=found.pk)
        with pytest.raises(CannotDecide):
            promote_round(round_id=found.pk)

    def test_only_a_round_at_work_can_be_cancelled(self, policy: Policy) -> None:
        with pytest.raises(CannotDecide):
            request_cancel(round_id=judged_round(policy).pk)
