"""Working on a round with the real trainer and the real writer, each in a process of its own."""

import hashlib
import json
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from django.core.management import call_command
from django.db import connection
from django.db.models.functions import Now
from django.test import override_settings

from annotate.models import Comparison, Purpose
from annotate.pairs import preference_judgements, preference_pairs, write_export
from annotate.simulated import simulate
from generation.models import Policy, Prompt, RunState, Split, Story, WritingRun
from generation.policies import register_policy
from tests.factories import judge_by_story, make_comparison, make_expert, make_policy, make_prompt, make_story
from tests.models import make_tiny_model
from tests.training.stories import add_metric
from training import schedule
from training.alarms import findings
from training.models import Round, State
from training.rounds import LeaseLost, launch_round, request_cancel, take_round
from training.run import (
    Ended,
    Killed,
    _again_if_killed,
    _compare,
    _keep_missed_metrics,
    _kept_alive,
    _position,
    work_on,
)

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]


@pytest.fixture(autouse=True)
def _folders(tmp_path: Path, settings) -> None:
    settings.MODEL_DIR = tmp_path / "models"
    settings.EXPORT_DIR = tmp_path / "exports"


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("writer") / "tiny", trained=True)


@pytest.fixture
def policy(writer: Path) -> Policy:
    return judged(writer)


def judged(writer: Path) -> Policy:
    """A policy in use, with judged training stories and stories on a held-out prompt."""
    found = register_policy(name="base", path=writer)
    for _ in range(6):
        comparison = make_comparison(3, policy=found)
        judge_by_story(make_expert(), list(comparison.stories.all()))
    for index in range(4):
        make_story(found, held_out(), index)
    return found


def held_out() -> Prompt:
    return Prompt.objects.filter(split=Split.EVALUATION).first() or make_prompt(split=Split.EVALUATION)


def work(**changes: object) -> Round:
    """Launch a round, work on it to its end, and return it."""
    launched = launch_round(**{**schedule.DEFAULTS, "epochs": 1, "batch_pairs": 4, **changes})
    lease = take_round(launched.pk)
    assert lease
    work_on(lease)
    return Round.objects.get(pk=launched.pk)


def wait_for(**state: object) -> None:
    deadline = time.monotonic() + 60
    while not Round.objects.filter(**state).exists():
        assert time.monotonic() < deadline, Round.objects.values().get()
        time.sleep(0.05)


@pytest.fixture(scope="module")
def worked(
    writer: Path, tmp_path_factory: pytest.TempPathFactory, django_db_setup: None, django_db_blocker: Any
) -> Iterator[SimpleNamespace]:
    """What one round, worked on to its end, left behind: an export, metrics, alarms, stories, comparisons, folders."""
    folder = tmp_path_factory.mktemp("worked")
    with django_db_blocker.unblock(), override_settings(MODEL_DIR=folder / "models", EXPORT_DIR=folder / "exports"):
        try:
            yield _worked(judged(writer), folder)
        finally:
            call_command("flush", verbosity=0, interactive=False)


def _worked(policy: Policy, folder: Path) -> SimpleNamespace:
    others = folder / "models" / "round-1" / "policy"
    others.mkdir(parents=True)
    late = make_prompt(split=Split.EVALUATION)
    # far enough for another text in one of the places: the same are not compared
    done = work(sft_weight=0.0, learning_rate=3e-4)
    content = Path(done.export_path).read_bytes()
    simulate(limit=3)
    blind = Comparison.objects.filter(purpose=Purpose.EVALUATION, policy=done.result, baseline=policy)
    return SimpleNamespace(
        round=done, parent=done.result and done.result.parent, policy=policy, content=content, others=others,
        after=Path(done.export_path).read_bytes(), metrics=list(done.metrics.all()), blind=blind.count(),
        held_out=list(done.metrics.held_out()), alarms={alarm.kind for alarm in done.alarms.all()},
        crossed={found.kind for found in findings(done) if found.crossed},
        written=done.result and done.result.stories.count(), late=policy.stories.filter(prompt=late).count(),
    )  # fmt: skip


def test_a_round_goes_from_queued_to_being_judged(worked: SimpleNamespace) -> None:
    assert (worked.round.state, worked.round.message) == (State.JUDGING, worked.round.message)
    assert worked.parent == worked.policy
    assert worked.written > 0
    assert worked.blind > 0


def test_its_first_loss_is_that_of_a_policy_which_is_its_reference(worked: SimpleNamespace) -> None:
    assert worked.metrics[0].loss == pytest.approx(0.6931, abs=1e-3)


def test_its_held_out_pairs_are_measured_last(worked: SimpleNamespace) -> None:
    (measured,) = worked.held_out
    assert measured == worked.metrics[-1]
    assert measured.stories == 3  # of one prompt in six
    assert measured.kl_token == pytest.approx(measured.kl / (measured.tokens / 3))


def test_every_limit_that_it_crossed_is_an_alarm(worked: SimpleNamespace) -> None:
    assert worked.alarms == worked.crossed


def test_the_export_is_frozen_when_the_round_begins(worked: SimpleNamespace) -> None:
    assert worked.round.export_sha256 == hashlib.sha256(worked.content).hexdigest()
    assert worked.round.pair_count == worked.content.count(b"\n") == 18
    assert worked.after == worked.content


def test_a_round_of_another_database_in_the_same_folder_is_left_alone(worked: SimpleNamespace) -> None:
    assert list(worked.others.iterdir()) == []


def test_prompts_imported_since_are_written_by_the_old_policy_too(worked: SimpleNamespace) -> None:
    assert worked.late > 0


def test_a_lora_round_makes_a_policy_that_stands_alone(policy: Policy) -> None:
    done = work(method="lora", learning_rate=1e-3)
    assert done.state == State.JUDGING, done.message
    assert done.result
    assert (Path(done.result.path) / "model.safetensors").exists()
    assert (Path(done.result.adapter_path) / "adapter_model.safetensors").exists()


def test_without_held_out_prompts_the_round_says_what_to_import(policy: Policy) -> None:
    policy.stories.filter(prompt__split=Split.EVALUATION).delete()
    Prompt.objects.filter(split=Split.EVALUATION).delete()
    launched = launch_round(**schedule.DEFAULTS)
    Round.objects.update(result=register_policy(name="trained", path=Path(policy.path), parent=policy))
    lease = take_round(launched.pk)
    assert lease
    work_on(lease)
    done = Round.objects.get()
    assert done.state == State.FAILED
    assert "import_prompts" in done.message


def test_a_folder_that_cannot_be_written_ends_the_round_with_a_message(policy: Policy, settings) -> None:
    settings.EXPORT_DIR = Path("/dev/null/exports")
    done = work()
    assert done.state == State.FAILED
    assert "/dev/null" in done.message
    assert "then resume the round" in done.message


def test_a_failed_round_loses_no_judgement(policy: Policy) -> None:
    before = preference_pairs(preference_judgements())
    Policy.objects.update(path="/nowhere/model")
    work()
    assert preference_pairs(preference_judgements()) == before


def test_a_round_that_is_cancelled_while_it_writes_cancels_the_writing(policy: Policy) -> None:
    for _ in range(600):
        make_prompt()

    def cancel() -> None:
        deadline = time.monotonic() + 60
        while not Story.objects.filter(policy__parent=policy).exists():
            assert time.monotonic() < deadline, Round.objects.values().get()
            time.sleep(0.05)
        request_cancel(round_id=Round.objects.get().pk)
        connection.close()

    thread = threading.Thread(target=cancel)
    thread.start()
    done = work()
    thread.join()
    assert done.state == State.CANCELLED
    writing = WritingRun.objects.get(policy=done.result)
    assert writing.state == RunState.CANCELLED
    assert 0 < writing.stories.count() < writing.wanted
    assert not [p for p in psutil.Process().children(recursive=True) if "write_stories" in p.cmdline()]


def test_a_trainer_that_is_killed_is_begun_again_and_goes_on(policy: Policy) -> None:
    killed = []

    def kill() -> None:
        wait_for(state=State.TRAINING, done__gte=1)
        for process in psutil.Process().children(recursive=True):
            if "training.dpo" in process.cmdline():
                process.kill()
                killed.append(process.pid)
        connection.close()

    thread = threading.Thread(target=kill)
    thread.start()
    done = work(epochs=3)
    thread.join()
    assert (len(killed), done.state, done.attempt) == (1, State.JUDGING, 1)
    assert list(done.metrics.trained().values_list("step", flat=True))[0] == 1


class TestAgainIfKilled:
    def tries(self, reached: list[int], ends: list[int]) -> list[int]:
        """Tries until it ends well or is given up, each killed at a position of `ends`; -1 ends well."""
        done: list[int] = []

        def act() -> None:
            end = ends[len(done)]
            done.append(end)
            if end >= 0:
                reached[:] = [end]
                raise Killed(State.FAILED, "killed")

        _again_if_killed(act, lambda: reached[0])
        return done

    def test_it_goes_on_as_long_as_it_gets_on(self) -> None:
        assert self.tries([0], [1, 2, 3, 4, 5, -1]) == [1, 2, 3, 4, 5, -1]

    def test_it_is_begun_again_twice_in_one_place(self) -> None:
        assert self.tries([0], [0, 0, -1]) == [0, 0, -1]

    def test_three_kills_in_one_place_are_its_end(self) -> None:
        with pytest.raises(Killed):
            self.tries([0], [0, 0, 0, -1])

    def test_a_later_stage_is_further_than_an_earlier_one(self, tmp_path: Path) -> None:
        seen = [_position(tmp_path)]
        for name in ("1-structure/checkpoint", "1-structure/policy", "2-value/checkpoint"):
            (tmp_path / "stages" / name).mkdir(parents=True)
            (tmp_path / "stages" / name / "position.json").write_text("{}")
            seen.append(_position(tmp_path))
        assert len(set(seen)) == 4

    def test_another_end_is_not_begun_again(self) -> None:
        def act() -> None:
            raise Ended(State.FAILED, "bad pairs")

        with pytest.raises(Ended, match="bad pairs"):
            _again_if_killed(act, lambda: 0)


def test_figures_that_were_printed_to_nobody_are_read_from_the_trainers_file(policy: Policy, tmp_path: Path) -> None:
    launched = launch_round(**schedule.DEFAULTS)
    kept = add_metric(launched, step=1, held_out=False)
    names = ("loss", "rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies", "kl")
    line = {"step": 2, "epoch": 1.0, "eval_stories": 3, "eval_tokens": 300, **{f"eval_{n}": 0.25 for n in names}}
    known = {"step": 1, "epoch": 0.5, **dict.fromkeys(names, 9.0)}
    path = tmp_path / "metrics.jsonl"
    path.write_text("\n".join([json.dumps(known), json.dumps(line), '{"step": 3, "lo']))
    _keep_missed_metrics(launched, tmp_path)
    assert launched.metrics.trained().get() == kept
    assert launched.metrics.held_out().get().kl_token == pytest.approx(0.0025)


def test_pairs_that_changed_after_the_freeze_are_not_trained_on(policy: Policy, tmp_path: Path) -> None:
    launched = launch_round(**schedule.DEFAULTS)
    lease = take_round(launched.pk)
    assert lease
    path = tmp_path / "pairs.jsonl"
    export = write_export(preference_pairs(preference_judgements()), path)
    lease.update(export_path=str(path), export_sha256=export.sha256, pair_count=export.count)
    path.write_text(path.read_text().replace("chosen", "chosen ", 1))
    work_on(lease)
    assert "have changed since they were frozen" in Round.objects.get().message


def test_the_lease_is_kept_alive_while_nothing_is_written(policy: Policy, monkeypatch) -> None:
    monkeypatch.setattr("training.run.LEASE", timedelta(seconds=0.6))
    lease = take_round(launch_round(**schedule.DEFAULTS).pk)
    assert lease
    Round.objects.update(lease_until=Now() - timedelta(seconds=1))
    with _kept_alive(lease):
        time.sleep(0.5)
    assert not Round.objects.untaken().exists()


def test_who_was_taken_over_opens_no_comparisons(policy: Policy) -> None:
    first = take_round(launch_round(**schedule.DEFAULTS).pk)
    assert first
    Round.objects.update(lease_until=None, result=make_policy("round-1", parent=policy))
    take_round(first.round_id)
    with pytest.raises(LeaseLost):
        _compare(Round.objects.get(), first)
    assert not Comparison.objects.filter(purpose=Purpose.EVALUATION).exists()
