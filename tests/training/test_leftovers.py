"""Deleting what an unfinished round has left: only that, the record stays, and resuming says why it cannot."""

import shutil
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from config.models import AuditEntry
from generation.models import Policy
from generation.policies import register_policy
from tests.factories import make_policy
from tests.training.test_models import make_round
from training.leftovers import delete_leftovers, files_of
from training.models import Round, State
from training.resume import CannotResume, resume_round
from training.weights import CannotDelete

pytestmark = pytest.mark.django_db
KEPT = ("trainer.log", "metrics.jsonl", "stages/1-structure/metrics.jsonl")


@pytest.fixture
def left(tmp_path: Path, settings, tiny_model: Path) -> Round:
    """A round that was cancelled in its second stage."""
    settings.MODEL_DIR = tmp_path / "models"
    base = register_policy(name="base", path=tiny_model)
    found = make_round(policy=base, state=State.CANCELLED, message="Cancelled.")
    names = (
        "checkpoint/state.safetensors", "checkpoint.new/state.safetensors", "reference-0a.safetensors",
        "stages/1-structure/policy/model.safetensors", "stages/2-value/checkpoint/state.safetensors",
    )  # fmt: skip
    for name in (*names, *KEPT):
        (found.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (found.folder / name).write_bytes(b"x" * 1000)
    return found


def files(left: Round) -> set[str]:
    return {str(path.relative_to(left.folder)) for path in left.folder.rglob("*") if path.is_file()}


@pytest.fixture
def admin(client: Client, django_user_model) -> Client:
    client.force_login(django_user_model.objects.create_user("boss", is_staff=True))
    return client


def test_the_page_deletes_it_and_says_why_the_round_cannot_be_resumed(left: Round, admin: Client) -> None:
    page = admin.get("/rounds/1/").content.decode()
    assert "Delete the checkpoint (4.9\xa0KB)" in page
    assert "/rounds/1/resume/" in page
    said = admin.post("/rounds/1/delete-checkpoint/", {"sure": "on"}, follow=True).content.decode()
    assert "Deleted: 4.9\xa0KB are free" in said
    assert [one.actor.username for one in AuditEntry.objects.filter(kind="checkpoint_deleted", object_id=1)] == ["boss"]
    assert "It cannot be resumed. Its checkpoint was deleted on 20" in said
    assert "/rounds/1/delete-checkpoint/" not in said
    assert files(left) == set(KEPT)
    with pytest.raises(CannotResume, match="Its checkpoint was deleted"):
        resume_round(round_id=left.pk)


def test_nothing_goes_without_the_tick(left: Round, admin: Client) -> None:
    said = admin.post("/rounds/1/delete-checkpoint/", follow=True).content.decode()
    assert "Tick that the checkpoint shall be deleted" in said
    assert (left.folder / "checkpoint").exists()
    assert Round.objects.get().checkpoint_deleted_at is None


def test_a_round_that_is_not_over_keeps_it(left: Round, admin: Client) -> None:
    Round.objects.update(state=State.TRAINING)
    before = files(left)
    said = admin.post("/rounds/1/delete-checkpoint/", {"sure": "on"}, follow=True).content.decode()
    assert "Round 1 is training: only of a round that failed or was cancelled" in said
    assert files(left) == before


def test_what_an_interrupted_deletion_has_left_can_be_deleted(left: Round, admin: Client) -> None:
    delete_leftovers(round_id=left.pk)
    first = Round.objects.get().checkpoint_deleted_at
    shutil.copytree(left.folder / "stages", left.folder / "checkpoint")
    assert "The deletion was interrupted" in admin.get("/rounds/1/").content.decode()
    assert delete_leftovers(round_id=left.pk) > 0
    assert Round.objects.get().checkpoint_deleted_at == first
    with pytest.raises(CannotDelete, match="Round 1 has left nothing to delete"):
        delete_leftovers(round_id=left.pk)


def test_the_weights_of_a_policy_that_came_of_it_stay(left: Round, tiny_model: Path) -> None:
    """It failed while it wrote: its policy is on record, and goes by its own page."""
    made = shutil.copytree(tiny_model, left.folder / "merged")
    adapter = shutil.copytree(tiny_model, left.folder / "policy")
    result = make_policy("round-1", parent=left.policy)
    Policy.objects.filter(pk=result.pk).update(path=str(made), adapter_path=str(adapter))
    Round.objects.update(result=result, state=State.FAILED)
    found = {path.name for path in files_of(Round.objects.get())}
    assert "checkpoint" in found
    assert not found & {"merged", "policy.new"}
    assert all(left.folder / "policy" != path for path in files_of(Round.objects.get()))


def test_the_command_says_what_would_go_and_deletes_it(left: Round, capsys) -> None:
    before = files(left)
    call_command("delete_weights", "--round", "1", "--dry-run")
    said = capsys.readouterr().out
    assert f"{left.folder}/checkpoint\n" in said
    assert "This would free 4.9\xa0KB." in said
    assert files(left) == before
    call_command("delete_weights", "--round", "1")
    assert "Deleted: 4.9\xa0KB are free." in capsys.readouterr().out
    for arguments, says in (
        (["--round", "1"], "has left nothing to delete"),
        (["--round", "7"], "There is no round 7"),
        ([], "Name a policy, or a round"),
        (["base", "--round", "1"], "Name a policy, or a round"),
    ):
        with pytest.raises(CommandError, match=says):
            call_command("delete_weights", *arguments)


def test_a_policy_that_was_registered_before_its_worker_was_killed_keeps_its_weights(
    left: Round, tiny_model: Path
) -> None:
    shutil.copytree(tiny_model, left.folder / "policy")
    made = register_policy(name="round-1", path=left.folder / "policy")
    assert left.result is None
    delete_leftovers(round_id=left.pk)
    assert (made.directory / "model.safetensors").exists()
    assert not (left.folder / "checkpoint").exists()
