"""A round goes from queue to queue: who takes it, what counts as a failed attempt, how often it is sent."""

import shutil
from datetime import timedelta
from pathlib import Path

import pytest
from django.db.models import F
from django.db.models.functions import Now
from django.test import Client

from config.celery import app
from generation.engines.values import EngineError
from generation.models import Policy
from generation.policies import register_policy
from generation.queues import DEFAULT, GENERATION, TRAINING
from generation.version import VERSION, older_than
from tests.apart import apart
from tests.factories import judge_by_story, make_comparison, make_expert, make_policy
from tests.training.test_models import make_round
from training import rounds, schedule, versions
from training.ends import said
from training.models import Round, State
from training.resume import resume_round
from training.rounds import LeaseLost, launch_round, request_cancel, take_round
from training.run import work_on
from training.tasks import run_round, send_round, sweep_rounds, write_round

pytestmark = pytest.mark.django_db
MINUTE = timedelta(minutes=1)


@pytest.fixture
def policy(tiny_model: Path, tmp_path: Path) -> Policy:
    """The policy in use, with real files and a judged comparison."""
    shutil.copytree(tiny_model, tmp_path / "base")
    found = register_policy(name="base", path=tmp_path / "base")
    judge_by_story(make_expert(), list(make_comparison(2, policy=found).stories.all()))
    return found


@pytest.fixture
def launched(policy: Policy) -> Round:
    return launch_round(**schedule.DEFAULTS)


@pytest.fixture
def trained(launched: Round) -> Round:
    """Its training is done, and its worker has given it back."""
    lease = take_round(launched.pk, queue=TRAINING)
    assert lease
    lease.update(state=State.TRAINING, result=make_policy("round-1", parent=launched.policy))
    assert lease.hand_over(State.WRITING)
    return Round.objects.get()


@pytest.fixture
def sent(monkeypatch) -> list[tuple[str, int]]:
    found: list[tuple[str, int]] = []
    monkeypatch.setattr(run_round, "delay", lambda pk: found.append((TRAINING, pk)))
    monkeypatch.setattr(write_round, "delay", lambda pk: found.append((GENERATION, pk)))
    return found


@pytest.mark.parametrize(
    ("task", "queue"),
    [
        ("training.tasks.run_round", TRAINING),
        ("training.tasks.write_round", GENERATION),
        ("generation.tasks.write_run", GENERATION),
        ("generation.tasks.read_stories", GENERATION),
        ("training.tasks.sweep_rounds", DEFAULT),
        ("annotate.tasks.make_export_file", DEFAULT),
    ],
)
def test_each_task_has_its_queue(task: str, queue: str) -> None:
    app.loader.import_default_modules()
    assert task in app.tasks
    assert app.amqp.router.route({}, task)["queue"].name == queue


class TestParts:
    def test_a_launched_round_is_the_training_workers(self, launched: Round) -> None:
        assert take_round(launched.pk, queue=GENERATION) is None
        assert take_round(launched.pk, queue=TRAINING)

    def test_a_trained_round_is_the_writing_workers(self, trained: Round) -> None:
        assert (trained.state, trained.owner, trained.lease_until) == (State.WRITING, "", None)
        assert take_round(trained.pk, queue=TRAINING) is None
        assert take_round(trained.pk, queue=GENERATION)

    def test_it_is_sent_to_the_queue_of_its_part(self, trained: Round, sent: list) -> None:
        send_round(trained.pk)
        Round.objects.update(result=None, state=State.QUEUED)
        send_round(trained.pk)
        assert sent == [(GENERATION, trained.pk), (TRAINING, trained.pk)]

    def test_a_message_that_was_lost_is_sent_again_to_that_queue(self, trained: Round, sent: list) -> None:
        sweep_rounds()
        assert sent == []  # it was sent just now
        Round.objects.update(enqueued_at=Now() - MINUTE)
        sweep_rounds()
        assert sent == [(GENERATION, trained.pk)]

    def test_who_has_lost_the_round_hands_nothing_over(self, launched: Round) -> None:
        lease = take_round(launched.pk)
        Round.objects.update(lease_until=Now() - MINUTE)
        take_round(launched.pk)
        assert lease
        with pytest.raises(LeaseLost):
            lease.hand_over(State.WRITING)


class TestAttempts:
    def test_a_hand_over_is_no_failed_attempt(self, launched: Round) -> None:
        for _ in range(rounds.MAX_ATTEMPTS + 1):
            lease = take_round(launched.pk)
            assert lease
            lease.hand_over(State.QUEUED)
        found = Round.objects.get()
        assert (found.attempt, found.losses) == (rounds.MAX_ATTEMPTS + 1, 0)

    def test_losses_of_the_part_before_do_not_count(self, launched: Round) -> None:
        for _ in range(rounds.MAX_ATTEMPTS - 1):
            assert take_round(launched.pk)
            Round.objects.update(lease_until=Now() - MINUTE)
        lease = take_round(launched.pk)
        assert Round.objects.get().losses == rounds.MAX_ATTEMPTS - 1
        assert lease
        lease.hand_over(State.WRITING)
        assert take_round(launched.pk)
        assert Round.objects.get().losses == 0


class TestCancel:
    @pytest.mark.parametrize("which", ["launched", "trained"])
    def test_between_two_parts_it_is_cancelled_at_once(self, request, which: str) -> None:
        found = request.getfixturevalue(which)
        request_cancel(round_id=found.pk)
        found.refresh_from_db()
        assert (found.state, found.message) == (State.CANCELLED, said("cancelled"))
        assert found.ended_at

    def test_at_the_hand_over_its_holder_ends_it(self, launched: Round) -> None:
        lease = take_round(launched.pk)
        request_cancel(round_id=launched.pk)
        assert lease
        assert not lease.hand_over(State.WRITING)
        assert Round.objects.get().state == State.QUEUED  # still its holder's

    def test_the_next_holder_ends_it_before_it_begins(self, launched: Round) -> None:
        lease = take_round(launched.pk)
        Round.objects.update(cancel_requested=True)
        assert lease
        assert work_on(lease, queue=TRAINING) is False
        assert (Round.objects.get().state, Round.objects.get().export_path) == (State.CANCELLED, "")


class TestSending:
    def test_the_longer_it_waits_the_rarer_it_is_sent(self, launched: Round) -> None:
        """No worker claims its queue for six hours: a message each 20 seconds would be 1,080."""
        count = 0
        for _ in range(6 * 60):
            count += len(schedule.rounds_to_send())
            Round.objects.update(enqueued_at=F("enqueued_at") - MINUTE, state_since=F("state_since") - MINUTE)
        assert 6 * 6 - 12 < count < 6 * 6 + 12

    def test_after_a_kill_it_is_sent_soon_however_long_it_was_worked_on(self, launched: Round) -> None:
        Round.objects.update(
            state=State.TRAINING, state_since=Now() - 300 * MINUTE, enqueued_at=Now() - 200 * MINUTE,
            lease_until=Now() - timedelta(seconds=1),
        )  # fmt: skip
        assert schedule.rounds_to_send() == [launched.pk]
        Round.objects.update(enqueued_at=Now() - timedelta(seconds=30))
        assert schedule.rounds_to_send() == [launched.pk]


class TestVersions:
    def test_a_round_remembers_what_launched_it(self, launched: Round) -> None:
        assert launched.version == VERSION

    @pytest.mark.parametrize("ours", ["0.2.0", "0.2.0.dev0"])  # before a release and in it
    def test_which_is_older(self, ours: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("generation.version.VERSION", ours)
        assert older_than("999.0")
        assert older_than("0.2.0") is (ours == "0.2.0.dev0")  # what is in the making is older than the release
        assert not older_than(ours)
        assert not older_than("0.1.9")
        assert not older_than("")

    @pytest.mark.django_db(transaction=True)
    def test_an_older_worker_leaves_it_and_says_so_and_a_newer_one_takes_it(self, policy: Policy) -> None:
        launched = launch_round(**schedule.DEFAULTS)
        code = "from generation import version; version.VERSION = '0.0.9'\nfrom training.tasks import run_round\n"
        assert apart(f"{code}run_round({launched.pk})").wait(60) == 0
        found = Round.objects.get()
        assert (found.state, found.attempt) == (State.QUEUED, 0)
        assert f"runs Storyloop 0.0.9, this round was launched by {VERSION}" in found.message
        assert found.refused_at
        assert take_round(launched.pk)
        found.refresh_from_db()
        assert (found.message, found.refused_at) == ("", None)

    def test_when_only_older_workers_come_it_ends_and_is_resumed_later(self, launched: Round, monkeypatch) -> None:
        with monkeypatch.context() as older:
            older.setattr("generation.version.VERSION", "0.0.9")
            assert take_round(launched.pk) is None
            since = Round.objects.get().refused_at
            assert take_round(launched.pk) is None
            assert Round.objects.get().refused_at == since
        versions.give_up()
        assert Round.objects.get().state == State.QUEUED
        Round.objects.update(refused_at=Now() - versions.PATIENCE - MINUTE)
        versions.give_up()
        ended = Round.objects.get()
        assert (ended.state, "update that worker" in ended.message) == (State.FAILED, True)
        assert resume_round(round_id=ended.pk).refused_at is None
        assert take_round(ended.pk)


class TestSight:
    def test_a_policy_that_is_not_mounted_here_is_named_with_the_machine(self, launched: Round, tmp_path: Path) -> None:
        (tmp_path / "base").rename(tmp_path / "elsewhere")
        lease = take_round(launched.pk)
        assert lease
        work_on(lease, queue=TRAINING)
        found = Round.objects.get()
        assert found.state == State.FAILED
        for words in (f"{tmp_path}/base cannot be seen", lease.owner.partition(":")[0], "mount", "resume the round"):
            assert words in found.message
        (tmp_path / "elsewhere").rename(tmp_path / "base")
        assert resume_round(round_id=found.pk).state == State.QUEUED

    def test_so_are_the_frozen_pairs_and_the_policy_that_it_made(self, trained: Round, tmp_path: Path) -> None:
        for changes, path in [
            ({}, "/nowhere/round-1"),
            (
                {"result": None, "export_path": "/nowhere/pairs.jsonl", "export_sha256": "a" * 64, "pair_count": 1},
                "/nowhere/pairs.jsonl",
            ),
        ]:
            Policy.objects.filter(name="round-1").update(path="/nowhere/round-1")
            Round.objects.update(state=State.WRITING, message="", **changes)
            lease = take_round(trained.pk)
            assert lease
            work_on(lease)
            assert f"{path} cannot be seen" in Round.objects.get().message


class TestPage:
    def test_it_says_which_machine_has_the_round(self, admin_client: Client) -> None:
        found = make_round(policy=make_policy(), state=State.TRAINING)
        Round.objects.update(owner="gpu-2:4711:abc", lease_until=Now() + MINUTE)
        assert "on gpu-2" in admin_client.get("/rounds/1/").content.decode()
        Round.objects.update(lease_until=Now() - MINUTE)
        page = admin_client.get("/rounds/1/").content.decode()
        assert "on gpu-2" not in page
        assert found.queue == TRAINING

    def test_it_says_which_queue_waits_for_a_worker(self, admin_client: Client) -> None:
        make_round(policy=make_policy(), state=State.WRITING, result=make_policy("round-1"))
        page = admin_client.get("/rounds/1/").content.decode()
        assert "A worker takes it as soon as one is free." in page
        assert "No worker has it" not in page
        Round.objects.update(state_since=Now() - 5 * MINUTE)
        assert "It waits in the queue “generation”" in admin_client.get("/rounds/1/").content.decode()


def test_who_was_taken_over_while_it_failed_leaves_the_round_alone(
    launched: Round, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = take_round(launched.pk)
    assert first

    def fail_late(current: Round) -> None:  # as a store does that does not answer for longer than the lease
        Round.objects.update(lease_until=None)
        take_round(current.pk)
        raise EngineError("The model store does not answer.")

    monkeypatch.setattr("training.run.check_sight", fail_late)
    assert work_on(first) is False
    assert (Round.objects.get().state, Round.objects.get().message) == (State.QUEUED, "")
