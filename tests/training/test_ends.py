"""How a round ends when a process dies, or weights are gone: words with a next step, in the reader's language."""

import json
import shutil
import sys
from pathlib import Path

import pytest
from django.test import Client
from django.utils.translation import override

from generation import run_words
from generation.models import Policy
from generation.policies import register_policy
from tests.factories import judge_by_story, make_comparison, make_expert, make_policy, make_prompt
from tests.models import make_tiny_model
from tests.training.test_models import make_round
from training import ends, schedule
from training.models import Round, State
from training.resume import resume_round
from training.rounds import Lease, end_round, launch_round, take_round
from training.run import Ended, _keep_progress, _run, work_on

pytestmark = pytest.mark.django_db


@pytest.fixture
def policy(tiny_model: Path, tmp_path: Path, settings) -> Policy:
    settings.MODEL_DIR, settings.EXPORT_DIR = tmp_path / "models", tmp_path / "exports"
    found = register_policy(name="base", path=shutil.copytree(tiny_model, tmp_path / "base"))
    judge_by_story(make_expert(), list(make_comparison(3, policy=found).stories.all()))
    return found


def lease_of(round_: Round) -> Lease:
    lease = take_round(round_.pk)
    assert lease
    return lease


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("import os; os.kill(os.getpid(), 9)", r"^The process was killed \(signal 9\), most often for want of memory"),
        ("import os; os.abort()", r"^The process was ended by signal 6 \(Aborted\)\. Resume the round"),
        ("import sys; print('Out of memory. Try LoRA.', file=sys.stderr); sys.exit(86)", "memory. Out of memory. Try"),
        ("raise SystemExit('No model here.')", r"^No model here\. Mend that, then resume .*\(exit status 1; all of it"),
    ],
)
def test_a_process_that_dies_is_told_with_what_to_do(policy: Policy, tmp_path: Path, code: str, says: str) -> None:
    lease = lease_of(launch_round(**schedule.DEFAULTS))
    with pytest.raises(Ended, match=says):
        _run(lease, [sys.executable, "-c", code], tmp_path / "trainer.log", lambda line: None)


def cut_off(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (lambda folder: (folder / "config.json").unlink(), "it has no config.json"),
        (lambda folder: (folder / "model.safetensors").unlink(), "holds no .safetensors file"),
        (cut_off, "model.safetensors is cut off or torn"),
    ],
)
def test_weights_that_are_gone_before_training_end_the_round(policy: Policy, harm, says: str, tmp_path: Path) -> None:
    lease = lease_of(launch_round(**schedule.DEFAULTS))
    harm(policy.directory)
    work_on(lease)
    found = Round.objects.get()
    assert (found.state, found.result) == (State.FAILED, None)
    assert found.message.startswith("The weights of base cannot be used: ")
    assert says in found.message
    assert found.message.endswith("Put the folder back where it was, then resume the round.")


def test_weights_that_are_gone_before_writing_end_the_round(policy: Policy, tmp_path: Path) -> None:
    """Moved by hand after training; put back, the round goes on to its end."""
    make_prompt(split="evaluation")
    made = register_policy(name="round-1", path=make_tiny_model(tmp_path / "made", seed=2), parent=policy)
    launched = launch_round(**schedule.DEFAULTS)
    Round.objects.update(result=made, export_path="pairs", export_sha256="0" * 64, pair_count=1)
    made.directory.rename(tmp_path / "moved")
    work_on(lease_of(launched))
    assert f"{made.path} cannot be seen by the worker" in Round.objects.get().message


def test_a_message_is_said_in_the_readers_language(client: Client, django_user_model, monkeypatch) -> None:
    """Stored in English, for programs; what it is made of is kept, so that a page says it anew."""
    round_ = make_round(policy=make_policy("base", current=True))
    lease = lease_of(round_)
    end_round(lease, State.FAILED, ends.said("given_up", times=5))
    found = Round.objects.get()
    assert found.message.startswith("The round was begun 5 times")
    assert found.said == {"code": "given_up", "times": 5}
    monkeypatch.setitem(ends.WORDS, "given_up", "Begonnen: %(times)d")
    assert found.in_words == "Begonnen: 5"
    client.force_login(django_user_model.objects.create_user("boss", is_staff=True))
    assert "Begonnen: 5" in client.get("/rounds/1/").content.decode()


def test_words_that_are_nobodys_code_stay_as_they_are() -> None:
    found = make_round(policy=make_policy("base", current=True))
    Round.objects.update(said={"code": "given_up", "times": 5}, message="other")
    lease_of(found).update(message="Stories written: 3.")
    found.refresh_from_db()
    assert (found.said, found.in_words) == ({}, "Stories written: 3.")


def test_a_message_in_a_message_is_translated_with_it(policy: Policy) -> None:
    launched = launch_round(**schedule.DEFAULTS)
    end_round(lease_of(launched), State.CANCELLED, ends.said("cancelled"))
    resume_round(round_id=launched.pk)
    found = Round.objects.get()
    assert found.said == {"code": "resumed", "before": {"code": "cancelled"}}
    with override("en"):
        assert found.in_words == found.message
    assert "It had ended with: Cancelled by an admin." in found.message


def test_what_was_written_is_kept_as_figures_too(policy: Policy) -> None:
    facts = {"stored": 8, "drawn_again": 1, "cut_off": 2, "too_long": 0, "given_up": 3, "draws": 5, "tokens": 96}
    note = run_words.in_words(facts)
    lease = lease_of(launch_round(**schedule.DEFAULTS))
    _keep_progress(lease, json.dumps({"done": 8, "wanted": 8, "note": note, "facts": facts}), note=True)
    found = Round.objects.get()
    assert found.said == {"code": "written", **facts}
    assert found.in_words == found.message == note
    assert note.startswith("Stories written: 8; drawn again: 1. Cut off at 96 tokens: 2. ")
    _keep_progress(lease, json.dumps({"done": 8, "wanted": 8, "note": "All is there.", "facts": None}), note=True)
    assert Round.objects.get().in_words == "All is there."
