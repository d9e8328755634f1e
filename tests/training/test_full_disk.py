"""Rounds on a disk that is really full: a stated end with a next step, and after freeing it the way to the end.

Not shown here: a full disk of PostgreSQL's. There no end can be written down; the lease runs out, and the round is
taken again.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from generation.models import Policy
from generation.policies import register_policy
from tests.disks import fill, free, small_disk
from tests.factories import judge_by_story, make_comparison, make_expert, make_prompt, make_story
from tests.models import make_tiny_model
from training import schedule
from training.models import Round, State
from training.resume import resume_round
from training.rounds import Lease, launch_round, take_round
from training.run import _freeze, _train, work_on

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]
KB = 1 << 10


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk") as found:
        yield found


@pytest.fixture
def policy(tmp_path: Path, settings) -> Policy:
    """A policy in use, with judged training stories and stories on a held-out prompt."""
    settings.MODEL_DIR, settings.EXPORT_DIR = tmp_path / "models", tmp_path / "exports"
    found = register_policy(name="base", path=make_tiny_model(tmp_path / "tiny", trained=True))
    for _ in range(6):
        judge_by_story(make_expert(), list(make_comparison(4, policy=found).stories.all()))
    prompt = make_prompt(split="evaluation")
    for index in range(4):
        make_story(found, prompt, index)
    return found


def taken(round_id: int) -> tuple[Round, Lease]:
    lease = take_round(round_id)
    assert lease
    return Round.objects.select_related("policy", "result").get(pk=round_id), lease


def launched(**changes: object) -> tuple[Round, Lease]:
    return taken(launch_round(**{**schedule.DEFAULTS, "epochs": 1, "batch_pairs": 4, **changes}).pk)


def resumed() -> tuple[Round, Lease]:
    return taken(resume_round(round_id=Round.objects.get().pk).pk)


def ended(folder: Path) -> Round:
    found = Round.objects.get()
    assert found.state == State.FAILED
    assert f"The disk of {folder} is full: 0." in found.message
    assert "Free some space, then resume the round" in found.message
    return found


def test_freezing_pairs_on_a_full_disk(policy: Policy, disk: Path, settings) -> None:
    settings.EXPORT_DIR = disk / "exports"
    fill(disk, leaving=4 * KB)  # for the folder, and not for 36 pairs
    _found, lease = launched()
    work_on(lease)
    assert ended(settings.EXPORT_DIR).export_path == ""
    assert list(settings.EXPORT_DIR.iterdir()) == []
    free(disk)
    again, lease = resumed()
    _freeze(again, lease)
    assert Round.objects.get().pair_count == 36


def test_training_and_merging_on_a_full_disk_and_writing_with_its_log_on_one(
    policy: Policy, disk: Path, settings
) -> None:
    settings.MODEL_DIR = disk / "models"
    fill(disk, leaving=64 * KB)
    found, lease = launched(method="lora", lora_rank=64)
    work_on(lease)
    ended(found.folder)
    assert not Policy.objects.filter(parent=policy).exists()
    assert not list(found.folder.glob("policy*"))

    fill(disk, leaving=420 * KB)  # an adapter fits, the merged weights do not
    work_on(resumed()[1])
    ended(found.folder)
    assert (found.folder / "policy").exists()
    assert not Policy.objects.filter(parent=policy).exists()
    assert not list(found.folder.glob("merged*"))

    free(disk)
    again, lease = resumed()
    _train(again, lease)
    fill(disk)
    work_on(lease)
    assert Round.objects.get().state == State.JUDGING, Round.objects.get().message
