"""Rounds that launch by themselves or are proposed, and rounds that are sent again."""

from datetime import UTC, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.db.models.functions import Now
from django.test import Client

from annotate.judgements import record_judgement
from annotate.models import Expert, Kind
from annotate.queue import assign
from generation.models import Policy
from tests.apart import apart_at_once
from tests.factories import judge_by_story, make_comparison, make_expert, make_policy
from training.models import Proposal, Round, Schedule, State
from training.outcomes import in_words
from training.schedule import DEFAULTS, defaults, launch_if_due, look, rounds_to_send
from training.when import first_time, next_time

BERLIN = ZoneInfo("Europe/Berlin")


@pytest.fixture
def policy() -> Policy:
    """The policy in use, with one new pair."""
    found = make_policy(current=True)
    judge_by_story(make_expert(), list(make_comparison(2, policy=found).stories.all()))
    return found


def schedule(**fields: Any) -> Schedule:
    return Schedule.objects.create(**{"enabled": True, "min_new_pairs": 1, **fields})


def said() -> str:
    """What the schedule says that it found."""
    return in_words(Schedule.objects.get().outcome)


def queued(policy: Policy, **fields: Any) -> Round:
    values = {"number": 1, "policy": policy, "method": "full", "loss": "sigmoid", "learning_rate": 1e-4}
    return Round.objects.create(**{**values, **fields})


def local(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN)


class TestTimes:
    def sunday(self, at: str = "02:00", days: tuple[int, ...] = (7,)) -> Schedule:
        return Schedule(when="weekly", weekdays=list(days), at=time.fromisoformat(at))

    @pytest.mark.parametrize(
        ("after", "expected"),
        [
            ("2026-11-23T12:00", "2026-11-29T02:00"),  # a Monday
            ("2026-11-29T01:59", "2026-11-29T02:00"),
            ("2026-11-29T02:00", "2026-12-06T02:00"),  # not twice
        ],
    )
    def test_a_weekday_at_a_time(self, after: str, expected: str) -> None:
        assert next_time(self.sunday(), local(after), BERLIN) == local(expected)

    def test_several_days(self) -> None:
        found = self.sunday(days=(1, 4))
        assert next_time(found, local("2026-11-23T03:00"), BERLIN) == local("2026-11-26T02:00")

    def test_a_time_that_the_day_lacks_is_an_hour_later_by_the_clock(self) -> None:
        found = next_time(self.sunday("02:30"), local("2026-03-28T12:00"), BERLIN)
        assert found == datetime(2026, 3, 29, 1, 30, tzinfo=UTC)
        assert f"{found.astimezone(BERLIN):%H:%M}" == "03:30"
        assert next_time(self.sunday("02:30"), found, BERLIN) == local("2026-04-05T02:30")

    def test_a_time_that_the_day_has_twice_counts_once(self) -> None:
        first = next_time(self.sunday("02:30"), local("2026-10-24T12:00"), BERLIN)
        assert first == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
        assert next_time(self.sunday("02:30"), first, BERLIN) == local("2026-11-01T02:30")

    def test_every_so_many_minutes(self) -> None:
        found = Schedule(every_minutes=90)
        assert next_time(found, local("2026-11-23T12:00")) == local("2026-11-23T13:30")

    def test_after_a_change_it_keeps_its_distance_from_the_last_look(self) -> None:
        now = local("2026-11-23T12:00")
        assert first_time(Schedule(every_minutes=60), now) == now
        assert first_time(Schedule(every_minutes=60, looked_at=now - timedelta(minutes=50)), now) == now + timedelta(
            minutes=10
        )


@pytest.mark.django_db
class TestLaunchIfDue:
    def test_a_round_is_launched_when_enough_new_pairs_are_there(self, policy: Policy) -> None:
        schedule()
        launched = launch_if_due()
        assert launched
        assert launched.policy == policy
        assert said() == "launched round 1 with 1 new pairs"

    def test_below_the_threshold_it_says_how_many_are_missing(self, policy: Policy) -> None:
        schedule(min_new_pairs=2)
        assert launch_if_due() is None
        assert said() == "1 of 2 new pairs"

    def test_nothing_is_launched_when_switched_off(self, policy: Policy) -> None:
        schedule(enabled=False)
        assert launch_if_due() is None

    def test_it_looks_no_more_often_than_the_admin_said(self, policy: Policy) -> None:
        schedule(min_new_pairs=2, every_minutes=10)
        launch_if_due()
        Schedule.objects.update(min_new_pairs=1)
        assert launch_if_due() is None
        Schedule.objects.update(next_at=Now() - timedelta(seconds=1))
        assert launch_if_due() is not None

    def test_the_next_time_is_counted_from_when_it_looked(self, policy: Policy) -> None:
        schedule(every_minutes=10, next_at=Now() - timedelta(days=3))  # nobody was there
        launch_if_due()
        found = Schedule.objects.get()
        assert found.next_at - found.looked_at == timedelta(minutes=10)

    def test_nothing_is_launched_while_a_round_waits_for_its_decision(self, policy: Policy) -> None:
        queued(policy)
        schedule()
        assert launch_if_due() is None
        assert said() == "round 1 is not over"

    def test_simulated_pairs_count_only_if_the_admin_said_so(self) -> None:
        stories = make_comparison(2, policy=make_policy(current=True)).stories.all()
        judge_by_story(make_expert(simulated=True), list(stories))
        assert look(schedule())["code"] == "few_pairs"
        assert look(schedule(include_simulated=True))["code"] == "ready"

    def test_settings_come_from_where_the_admin_said(self, policy: Policy) -> None:
        first = queued(policy, beta=0.4, state=State.CANCELLED, message="no")
        queued(policy, number=2, beta=0.3, state=State.REJECTED, result=make_policy())
        for settings_of, expected in (("last", 0.3), ("shipped", DEFAULTS["beta"]), ("round", 0.4)):
            Round.objects.filter(number__gt=2).delete()
            Schedule.objects.all().delete()
            Round.objects.update(created_at=Now() - timedelta(hours=1))
            schedule(settings_of=settings_of, settings_round=first if settings_of == "round" else None)
            launched = launch_if_due()
            assert launched
            assert launched.beta == expected

    def test_a_failed_rounds_settings_are_not_taken_over(self, policy: Policy) -> None:
        queued(policy, learning_rate=0.003, state=State.FAILED, message="no memory")
        assert defaults()["learning_rate"] == DEFAULTS["learning_rate"]


@pytest.mark.django_db
class TestAgreement:
    def judged(self, policy: Policy, comparisons: int, experts: list[Expert], *, agree: bool = True) -> None:
        """Each comparison of three stories ranked by two people: three pairs of stories with two votes."""
        for _ in range(comparisons):
            comparison = make_comparison(3, policy=policy)
            shown = list(comparison.stories.values_list("pk", flat=True))
            for expert, ranks in zip(experts, ([1, 2, 3], [1, 2, 3] if agree else [3, 2, 1]), strict=True):
                assignment = assign(comparison, expert, shown, Kind.ORDINARY)  # the queue would draw repeats, too
                record_judgement(
                    assignment=assignment, verdict="ranked", ranks=dict(zip((1, 2, 3), ranks, strict=True))
                )

    @pytest.mark.parametrize(("by", "floor"), [("alpha", 0.9), ("share", 90)])
    def test_above_the_floor_it_launches_and_below_it_says_the_figure(self, by: str, floor: float) -> None:
        policy, experts = make_policy(current=True), [make_expert(), make_expert("parent")]
        self.judged(policy, 10, experts)
        assert look(schedule(agreement_by=by, agreement_floor=floor))["code"] == "ready"
        self.judged(policy, 3, experts, agree=False)
        found = look(schedule(agreement_by=by, agreement_floor=floor))
        assert found["code"] == "agreement_low"
        assert found["value"] == pytest.approx(77, abs=1) if by == "share" else found["value"] < 0.6

    def test_too_few_judgements_say_nothing_and_launch_nothing(self) -> None:
        policy = make_policy(current=True)
        self.judged(policy, 3, [make_expert(), make_expert("parent")])
        found = look(schedule(agreement_by="alpha", agreement_floor=-1))
        assert in_words(found).startswith("agreement is not known yet: 9 of 30 pairs")


@pytest.mark.django_db
class TestProposals:
    def test_a_proposal_waits_for_the_admin_and_fills_the_form(self, policy: Policy, admin_client: Client) -> None:
        schedule(act="propose", settings_of="shipped", include_simulated=True)
        assert launch_if_due() is None
        assert not Round.objects.exists()
        Proposal.objects.update(round_settings={**DEFAULTS, "beta": 0.37})
        assert "A round is proposed" in admin_client.get("/rounds/").content.decode()
        form = admin_client.get("/rounds/new/?proposed").context["launch_form"]
        assert (form.initial["beta"], form.initial["include_simulated"]) == (0.37, True)

    def test_it_is_proposed_once(self, policy: Policy) -> None:
        schedule(act="propose")
        launch_if_due()
        Schedule.objects.update(next_at=None)
        launch_if_due()
        assert Proposal.objects.count() == 1
        assert said() == "a proposal is waiting already"

    def test_a_dismissed_one_comes_back_when_as_many_new_pairs_have_come(
        self, policy: Policy, admin_client: Client
    ) -> None:
        schedule(act="propose")
        launch_if_due()
        admin_client.post(f"/rounds/proposals/{Proposal.objects.get().pk}/dismiss/")
        Schedule.objects.update(next_at=None)
        launch_if_due()
        assert said() == "1 of 2 new pairs"
        judge_by_story(make_expert(), list(make_comparison(2, policy=policy).stories.all()))
        Schedule.objects.update(next_at=None)
        launch_if_due()
        assert Proposal.objects.open().get().pairs > 1

    def test_a_round_that_was_launched_since_makes_it_void(self, policy: Policy) -> None:
        schedule(act="propose", only_when_free=False)
        launch_if_due()
        queued(policy)
        Round.objects.update(created_at=Now() + timedelta(seconds=1))
        assert not Proposal.objects.open().exists()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("act", ["launch", "propose"])
def test_two_beats_in_two_processes_start_one_round(policy: Policy, act: str) -> None:
    schedule(act=act)
    schedule(act=act, name="another, due at the same time")
    beats = "from training.schedule import launch_if_due\nfor _ in range(3): launch_if_due()"
    apart_at_once(beats, 2)
    assert (Round if act == "launch" else Proposal).objects.count() == 1
    assert Schedule.objects.filter(outcome__code="launched" if act == "launch" else "proposed").count() == 1


@pytest.mark.django_db
class TestPage:
    FORM = {  # noqa: RUF012
        "name": "Nights", "enabled": "on", "when": "weekly", "weekdays": ["7"], "at": "02:00", "every_minutes": "60",
        "min_new_pairs": "200", "agreement_by": "alpha", "agreement_floor": "0.4", "act": "propose",
        "settings_of": "shipped",
    }  # fmt: skip

    def test_an_admin_adds_changes_and_removes_one(self, admin_client: Client) -> None:
        admin_client.post("/rounds/schedules/add/", self.FORM)
        found = Schedule.objects.get()
        assert (found.weekdays, found.at, found.agreement_floor) == ([7], time(2), 0.4)
        assert found.next_at.isoweekday() == 7
        page = admin_client.get("/rounds/schedules/").content.decode()
        assert "Sunday, 02:00" in page
        assert "there is no policy yet" in page  # what it would say now
        admin_client.post(f"/rounds/schedules/{found.pk}/save/", {**self.FORM, "when": "every", "every_minutes": "5"})
        found.refresh_from_db()
        assert (found.weekdays, found.at, found.every_minutes) == ([], None, 5)
        admin_client.post(f"/rounds/schedules/{found.pk}/remove/")
        assert not Schedule.objects.exists()

    @pytest.mark.parametrize(
        ("changed", "field"),
        [
            ({"weekdays": []}, "weekdays"),
            ({"at": ""}, "at"),
            ({"at": "25:00"}, "at"),
            ({"agreement_floor": ""}, "agreement_floor"),
            ({"agreement_floor": "40"}, "agreement_floor"),
            ({"settings_of": "round"}, "settings_round"),
            ({"min_new_pairs": "0"}, "min_new_pairs"),
            ({"every_minutes": "-1"}, "every_minutes"),
            ({"when": "every", "every_minutes": ""}, "every_minutes"),
        ],
    )
    def test_nonsense_is_refused_and_the_rest_is_kept(
        self, admin_client: Client, changed: dict[str, Any], field: str
    ) -> None:
        response = admin_client.post("/rounds/schedules/add/", {**self.FORM, **changed})
        assert response.status_code == 422
        assert list(response.context["form"].errors) == [field]
        assert 'value="Nights"' in response.content.decode()
        assert not Schedule.objects.exists()

    def test_what_the_beat_has_written_meanwhile_stays(self, admin_client: Client, policy: Policy) -> None:
        found = schedule(min_new_pairs=2)
        launch_if_due()
        admin_client.post(f"/rounds/schedules/{found.pk}/save/", self.FORM)
        assert said() == "1 of 2 new pairs"


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
