"""Two web machines and four workers that share no folder, only the database and a bucket: a round from launch to
its deletion. Processes as `manage.py worker` and systemd's units start them."""

import io
import json
import tarfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import psutil
import pytest
from django.contrib.auth.hashers import PBKDF2PasswordHasher
from django.contrib.auth.models import User
from django.db import connection
from django.db.models.functions import Now
from kombu import pools

from annotate.exports import begin_export
from annotate.models import Export, Origin
from annotate.selections import Selection
from annotate.tasks import make_export_file
from generation.models import Policy, Split
from generation.policies import register_policy
from generation.queues import DEFAULT, GENERATION, TRAINING
from generation.stores import manifest
from generation.stores.places import key_of
from tests import s3
from tests.factories import judge_by_story, make_comparison, make_expert, make_prompt, make_story
from tests.generation.stores.conftest import use
from tests.installation import Browser, Machine, Processes, ended_with, kill
from tests.models import make_tiny_model
from training import schedule
from training.models import Round, State
from training.rounds import launch_round
from training.tasks import run_round, sweep_rounds

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]
QUEUES = {"default": DEFAULT, "writer": GENERATION, "trainer 1": TRAINING, "trainer 2": TRAINING}
PASSWORD = "a password of twelve or more"


@pytest.fixture
def store(settings, tmp_path: Path) -> Iterator[dict[str, str]]:
    """A bucket; this process is one more machine, the one on which the base model was."""
    settings.MODEL_DIR, settings.EXPORT_DIR = tmp_path / "desk" / "models", tmp_path / "desk" / "exports"
    with s3.running() as address:
        use(settings, s3.URL, address)
        yield {"STORYLOOP_MODEL_STORE": s3.URL, "STORYLOOP_S3_ENDPOINT": address, **s3.KEYS}


@pytest.fixture
def policy(store: dict[str, str], tmp_path: Path) -> Policy:
    found = register_policy(name="base", path=make_tiny_model(tmp_path / "tiny", trained=True))
    for _ in range(6):
        judge_by_story(make_expert(), list(make_comparison(3, policy=found).stories.all()))
    prompt = make_prompt(split=Split.EVALUATION)
    for index in range(4):
        make_story(found, prompt, index)
    password = PBKDF2PasswordHasher().encode(PASSWORD, "salt", iterations=1000)
    User.objects.create(username="admin", password=password, is_staff=True)
    return found


@pytest.fixture
def machines(policy: Policy, store: dict[str, str], tmp_path: Path) -> dict[str, Machine]:
    names = [*QUEUES, "web 1", "web 2"]
    return {name: Machine(tmp_path / name, connection.settings_dict["NAME"], store) for name in names}


@pytest.fixture
def workers(machines: dict[str, Machine]) -> Iterator[Processes]:
    started = {name: machines[name].worker(queue) for name, queue in QUEUES.items()}
    with ended_with(started):
        yield started
    pools.reset()  # this process's own connection to the queue


def holder(workers: Processes) -> str:
    """The name of the worker in whose processes the round is."""
    owner = Round.objects.get().owner
    if not owner:
        return ""
    try:
        above = {process.pid for process in psutil.Process(int(owner.split(":")[1])).parents()}
    except psutil.NoSuchProcess:
        return ""
    return next((name for name, process in workers.items() if process.pid in above), "")


def wait_for(reached: Callable[[Round], bool], machines: dict[str, Machine]) -> None:
    deadline = time.monotonic() + 240
    while not reached(found := Round.objects.get()):
        assert time.monotonic() < deadline, (found.__dict__, {name: one.log() for name, one in machines.items()})
        assert found.state not in (State.FAILED, State.CANCELLED), found.message
        time.sleep(0.03)


def test_machines_without_a_common_folder_train_write_judge_and_delete(
    workers: Processes, machines: dict[str, Machine]
) -> None:
    launched = launch_round(**{**schedule.DEFAULTS, "epochs": 3, "batch_pairs": 2})
    run_round.delay(launched.pk)
    export = begin_export(by=None, purpose="to look at", selection=Selection())
    make_export_file.delay(export.pk)
    machines["web 1"].collect_static()
    machines["web 2"].collect_static(like=machines["web 1"])
    _trained_by_two_and_written_by_a_third(workers, machines)
    (first, one), (second, two) = machines["web 1"].web(), machines["web 2"].web()
    with ended_with({"web 1": first, "web 2": second}):
        person = Browser()
        person.wait_for(one, machines["web 1"])
        person.wait_for(two, machines["web 2"])
        person.post(f"{one}/log-in/", username="admin", password=PASSWORD)
        _files_of_one_machine_are_seen_by_both(person, one, two, export)
        _downloads_are_the_same_and_go_on_at_the_other(person, one, two)
        _what_one_uploads_the_other_imports(person, one, two)
        _promoted_here_left_there_and_deleted(person, one, two)
    assert all(process.poll() is None for process in workers.values() if process.returncode is None)


def _trained_by_two_and_written_by_a_third(workers: Processes, machines: dict[str, Machine]) -> None:
    seen: dict[str, set[str]] = defaultdict(set)

    def look(found: Round) -> None:
        if name := holder(workers):
            seen[found.state].add(name)

    def training(found: Round) -> bool:
        look(found)
        return found.state == State.TRAINING and found.done >= 1

    wait_for(training, machines)
    victim = holder(workers)
    other = {"trainer 1": "trainer 2", "trainer 2": "trainer 1"}[victim]
    kill(workers[victim])
    Round.objects.update(lease_until=Now() - timedelta(seconds=1))  # as if it had run out
    sweep_rounds.delay()  # in the beat's place

    def judging(found: Round) -> bool:
        look(found)
        return found.state == State.JUDGING

    wait_for(judging, machines)
    found = Round.objects.get()
    assert seen[State.TRAINING] == {victim, other}
    assert seen[State.WRITING] == {"writer"}
    assert (holder(workers), found.attempt, found.losses) == ("writer", 3, 0)
    assert found.result
    assert found.result.stories.exists()
    steps = list(found.metrics.trained().values_list("step", flat=True))
    assert steps == list(range(1, len(steps) + 1))
    assert found.metrics.last().held_out
    with connection.cursor() as cursor:
        cursor.execute("SELECT path FROM generation_policy UNION SELECT export_path FROM training_round")
        assert not any(path.startswith("/") for (path,) in cursor.fetchall())


def _files_of_one_machine_are_seen_by_both(person: Browser, one: str, two: str, export: Export) -> None:
    for path in ("/rounds/1/pairs.jsonl", f"/data/{export.pk}/file/"):
        first, second = (person.get(address + path) for address in (one, two))
        assert (first.status_code, second.status_code) == (200, 200), path
        assert first.content == second.content
        assert json.loads(first.text.splitlines()[0])["chosen"]
    for address in (one, two):
        assert "round-1" in person.get(f"{address}/policies/").text


def _downloads_are_the_same_and_go_on_at_the_other(person: Browser, one: str, two: str) -> None:
    result = Policy.objects.get(name="round-1")
    path = f"/policies/{result.pk}/weights.tar"
    first, second = person.get(one + path), person.get(two + path)
    assert (first.status_code, first.headers["ETag"]) == (200, second.headers["ETag"])
    assert first.content == second.content
    half = len(first.content) // 2
    rest = person.get(two + path, Range=f"bytes={half}-", **{"If-Range": first.headers["ETag"]})
    assert (rest.status_code, rest.content) == (206, first.content[half:])
    with tarfile.open(fileobj=io.BytesIO(first.content)) as tar:
        assert {"round-1/model.safetensors", "round-1/config.json", "round-1/README.md"} <= set(tar.getnames())


def _what_one_uploads_the_other_imports(person: Browser, one: str, two: str) -> None:
    pair = {"prompt": "Tell of a hare.", "chosen": "A hare ran home.", "rejected": "No."}
    about = {"name": "elsewhere", "licence": "MIT", "language": "en", "which": "all"}
    file = {"file": ("pairs.jsonl", json.dumps(pair).encode())}
    shown = person.post(f"{one}/data/imported/check/", f"{one}/data/imported/", files=file, **about)
    key = shown.partition('name="key" value="')[2].partition('"')[0]
    about |= {"key": key, "file_name": "pairs.jsonl"}
    person.post(f"{two}/data/imported/store/", f"{two}/data/imported/", **about)
    assert Origin.objects.get().pairs.count() == 1


def _promoted_here_left_there_and_deleted(person: Browser, one: str, two: str) -> None:
    base, result = Policy.objects.get(name="base"), Policy.objects.get(name="round-1")
    person.post(f"{one}/rounds/1/promote/", f"{one}/rounds/1/", in_spite_of_alarms="on")
    assert Policy.objects.current() == result
    assert "promoted" in person.get(f"{two}/rounds/1/").text
    person.post(f"{two}/policies/{base.pk}/roll-back/", f"{two}/policies/{base.pk}/")
    assert Policy.objects.current() == base
    key = key_of(result.path)
    assert manifest.read(key)
    person.post(f"{one}/policies/{result.pk}/delete-weights/", f"{one}/policies/{result.pk}/", sure="on")
    assert list(manifest.names_in(key)) == []
    assert "were deleted" in person.get(f"{two}/policies/{result.pk}/weights.tar").text
