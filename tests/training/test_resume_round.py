"""A round that was cancelled goes on, to the weights of an unbroken one; and when it cannot."""

import re
import shutil
import subprocess
import threading
import time
from pathlib import Path

import psutil
import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from django.utils import timezone

from annotate.pairs import preference_judgements, preference_pairs, write_export
from config.models import AuditEntry
from generation.models import Policy
from generation.policies import make_current, register_policy
from tests.factories import judge_by_story, make_comparison, make_expert, make_policy
from tests.training.dpo.helpers import largest_difference, weights
from tests.training.test_models import make_round
from training import schedule
from training.models import Round, State
from training.resume import CannotResume, resume_round
from training.rounds import launch_round, request_cancel, take_round
from training.run import _train, trainer_command, work_on

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _folders(tmp_path: Path, settings) -> None:
    settings.MODEL_DIR = tmp_path / "models"
    settings.EXPORT_DIR = tmp_path / "exports"


@pytest.fixture
def policy(tiny_model: Path, tmp_path: Path) -> Policy:
    shutil.copytree(tiny_model, tmp_path / "base")
    return register_policy(name="base", path=tmp_path / "base")


@pytest.fixture
def ended(policy: Policy, tmp_path: Path) -> Round:
    """A round that was cancelled while it trained, with its pairs and a checkpoint."""
    judge_by_story(make_expert(), list(make_comparison(2, policy=policy).stories.all()))
    export = write_export(preference_pairs(preference_judgements()), tmp_path / "pairs.jsonl")
    found = make_round(
        policy=policy, state=State.CANCELLED, message="Cancelled.", attempt=2, owner="worker", cancel_requested=True,
        export_path=str(export.path), export_sha256=export.sha256, pair_count=export.count, ended_at=timezone.now(),
    )  # fmt: skip
    (found.folder / "checkpoint").mkdir(parents=True)
    (found.folder / "checkpoint" / "position.json").write_text("{}")
    return found


@pytest.fixture
def sent(monkeypatch) -> list[int]:
    from training.tasks import run_round

    found: list[int] = []
    monkeypatch.setattr(run_round, "delay", found.append)
    return found


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_a_round_that_was_cancelled_goes_on_to_the_weights_of_an_unbroken_one(policy: Policy, tmp_path: Path) -> None:
    for _ in range(30):
        judge_by_story(make_expert(), list(make_comparison(3, policy=policy).stories.all()))
    launched = launch_round(**{**schedule.DEFAULTS, "epochs": 3, "batch_pairs": 1})

    def cancel() -> None:
        deadline = time.monotonic() + 40
        while not Round.objects.filter(state=State.TRAINING, done__gte=1).exists():
            assert time.monotonic() < deadline, Round.objects.values().get()
            time.sleep(0.005)
        request_cancel(round_id=launched.pk)
        connection.close()

    thread = threading.Thread(target=cancel)
    thread.start()
    lease = take_round(launched.pk)
    assert lease
    work_on(lease)
    thread.join()
    cancelled = Round.objects.get()
    assert cancelled.state == State.CANCELLED, cancelled.message
    assert not [p for p in psutil.Process().children(recursive=True) if "training.dpo" in p.cmdline()]

    resume_round(round_id=launched.pk)
    lease = take_round(launched.pk)
    assert lease
    _train(Round.objects.select_related("policy", "result").get(), lease)
    resumed = Round.objects.select_related("result").get()
    assert (resumed.export_sha256, resumed.attempt) == (cancelled.export_sha256, 1)
    steps = list(resumed.metrics.trained().values_list("step", flat=True))
    told = re.findall(r"(?:Ended|going on) after step (\d+)", (resumed.folder / "trainer.log").read_text())
    assert told[0] == told[1]  # no step is lost, not even before the first checkpoint was due
    assert 0 < int(told[0]) < len(steps)
    assert steps == list(range(1, len(steps) + 1))

    subprocess.run(trainer_command(resumed, tmp_path / "unbroken"), check=True, capture_output=True)
    assert resumed.result
    assert largest_difference(weights(Path(resumed.result.path)), weights(tmp_path / "unbroken" / "policy")) == 0


def test_it_is_queued_as_if_nobody_had_taken_it(ended: Round) -> None:
    resume_round(round_id=ended.pk)
    ended.refresh_from_db()
    assert (ended.state, ended.attempt, ended.owner, ended.cancel_requested, ended.ended_at) == (
        State.QUEUED, 0, "", False, None,
    )  # fmt: skip
    assert "It had ended with: Cancelled." in ended.message


def test_a_round_that_failed_while_it_wrote_goes_on_with_its_policy(ended: Round, tiny_model: Path) -> None:
    shutil.rmtree(ended.folder)
    result = register_policy(name="round-1", path=tiny_model, parent=ended.policy)
    Round.objects.update(state=State.FAILED, result=result)
    assert resume_round(round_id=ended.pk).result == result


def test_a_round_that_ended_before_its_pairs_were_frozen_or_a_checkpoint_begins_with_that(ended: Round) -> None:
    shutil.rmtree(ended.folder)
    Round.objects.update(export_path="", export_sha256="", pair_count=None)
    assert resume_round(round_id=ended.pk).state == State.QUEUED


class TestRefused:
    def check(self, ended: Round, said: str) -> None:
        before = Round.objects.values().get(pk=ended.pk)
        with pytest.raises(CannotResume, match=said):
            resume_round(round_id=ended.pk)
        assert Round.objects.values().get(pk=ended.pk) == before

    def test_while_another_is_undecided(self, ended: Round) -> None:
        make_round(number=2, policy=ended.policy)
        self.check(ended, "Round 2 is not over")

    def test_while_it_is_at_work_or_decided(self, ended: Round) -> None:
        Round.objects.update(state=State.TRAINING)
        self.check(ended, "only a round that was cancelled or has failed")

    def test_without_its_pairs(self, ended: Round) -> None:
        Path(ended.export_path).unlink()
        self.check(ended, "The frozen pairs are gone")

    def test_with_other_pairs(self, ended: Round) -> None:
        Path(ended.export_path).write_text("{}")
        self.check(ended, "are not what they were")

    def test_without_its_checkpoint_if_an_admin_deleted_it(self, ended: Round) -> None:
        Round.objects.update(checkpoint_deleted_at=timezone.now())
        self.check(ended, "Its checkpoint was deleted on 20")

    def test_without_its_base(self, ended: Round) -> None:
        shutil.rmtree(ended.policy.path)
        self.check(ended, "is not a directory.* The round cannot go on")

    def test_after_another_policy_was_promoted(self, ended: Round) -> None:
        make_current(policy=make_policy("round-2"))
        self.check(ended, "base, which is not in use any more: roll back to it")


def test_the_command_queues_it(ended: Round, sent: list[int], capsys) -> None:
    call_command("resume_round", "1")
    assert sent == [ended.pk]
    with pytest.raises(CommandError, match="Round 1 is queued"):
        call_command("resume_round", "1")
    with pytest.raises(CommandError, match="There is no round 7"):
        call_command("resume_round", "7")


def test_the_page_offers_it_and_the_form_with_its_settings(
    ended: Round, sent: list[int], client: Client, django_user_model, django_capture_on_commit_callbacks
) -> None:
    client.force_login(django_user_model.objects.create_user("boss", is_staff=True))
    page = client.get("/rounds/1/").content.decode()
    assert "/rounds/1/resume/" in page
    assert "/rounds/new/?from=1" in page
    with django_capture_on_commit_callbacks(execute=True):
        client.post("/rounds/1/resume/")
    assert sent == [ended.pk]
    logged = AuditEntry.objects.filter(kind="round_resumed", object_type="round", object_id=1, actor__username="boss")
    assert logged.count() == 1


def test_the_page_says_why_it_is_not_offered(ended: Round, client: Client, django_user_model) -> None:
    shutil.rmtree(ended.policy.path)
    client.force_login(django_user_model.objects.create_user("boss", is_staff=True))
    page = client.get("/rounds/1/").content.decode()
    assert "/rounds/1/resume/" not in page
    assert "It cannot be resumed." in page
    assert "is not a directory" in client.post("/rounds/1/resume/", follow=True).content.decode()
