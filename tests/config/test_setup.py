"""Bringing an installation to where experts can judge: when a writer is started, and when not."""

import shutil
import subprocess
import sys

import pytest

from config.setup import SetupFailed, prepare, write_missing_stories
from generation.engines.values import EngineError
from generation.models import Policy, RunState
from generation.policies import register_policy
from generation.runs import end_run, give_up
from tests.factories import make_policy, make_prompt, make_run, make_story

pytestmark = pytest.mark.django_db


@pytest.fixture
def policy() -> Policy:
    return make_policy("base")


class Started:
    """What setup runs, not run: the writer itself has tests of its own."""

    def __init__(self, monkeypatch, status: int = 0) -> None:
        self.commands: list[list[str]] = []

        def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
            self.commands.append(command)
            return subprocess.CompletedProcess(command, status)

        monkeypatch.setattr("config.setup.subprocess.run", run)


def given_up(policy: Policy, places: int) -> None:
    """An earlier run that could not fill `places` of a prompt's, and wrote the others."""
    prompt, run = make_prompt(), make_run(policy, count=4)
    for index in range(4):
        if index < places:
            give_up(run, prompt, index, "same")
        else:
            make_story(policy, prompt, index)
    end_run(run, RunState.DONE)


def said(policy: Policy) -> list[str]:
    lines: list[str] = []
    write_missing_stories(policy, lines.append)
    return lines


def test_a_policy_that_lacks_stories_writes_them(policy, monkeypatch, settings):
    make_prompt()
    started = Started(monkeypatch)
    assert said(policy) == [f"base writes {settings.STORIES_PER_PROMPT} stories"]
    assert started.commands == [[sys.executable, "manage.py", "write_stories", "--policy", "base"]]


def test_a_policy_that_has_written_everything_is_not_started(policy, monkeypatch):
    given_up(policy, 0)
    started = Started(monkeypatch)
    assert (said(policy), started.commands) == ([], [])


def test_for_places_that_were_given_up_no_writer_is_started(policy, monkeypatch):
    given_up(policy, 2)
    started = Started(monkeypatch)
    assert (said(policy), started.commands) == ([], [])


def test_prompts_imported_since_are_written_for(policy, monkeypatch):
    given_up(policy, 2)
    make_prompt()
    started = Started(monkeypatch)
    said(policy)
    assert len(started.commands) == 1


@pytest.mark.parametrize("state", [RunState.RUNNING, RunState.CANCELLED, RunState.FAILED])
def test_a_run_that_did_not_come_to_its_end_is_gone_on_with(policy, monkeypatch, state):
    make_prompt()
    make_run(policy, count=4, state=state)
    started = Started(monkeypatch)
    said(policy)
    assert len(started.commands) == 1


def test_a_writer_that_fails_is_told_with_what_to_do(policy, monkeypatch):
    make_prompt()
    Started(monkeypatch, status=1)
    with pytest.raises(SetupFailed, match="The stories could not be written: see the lines above"):
        said(policy)


def cut_off(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def index_of_two(folder):
    (folder / "model.safetensors.index.json").write_text(
        '{"weight_map": {"a": "model.safetensors", "b": "b.safetensors"}}'
    )


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (shutil.rmtree, "base is not a directory"),
        (lambda folder: (folder / "config.json").unlink(), "it has no config.json"),
        (lambda folder: (folder / "model.safetensors").unlink(), "holds no .safetensors file"),
        (cut_off, "model.safetensors is cut off or torn: it has .* bytes of .* Copy the model again"),
        (index_of_two, "lacks b.safetensors, which its index names"),
        (
            lambda folder: (folder / "model.safetensors").write_bytes(b"<html>"),
            "holds no weights .* Copy the model again",
        ),
    ],
)
def test_a_base_model_that_is_not_whole_is_refused_before_it_is_registered(tiny_model, tmp_path, settings, harm, says):
    base = shutil.copytree(tiny_model, tmp_path / "base")
    settings.BASE_MODEL = str(base)
    harm(base)
    with pytest.raises(EngineError, match=says):
        prepare([].append)
    assert not Policy.objects.exists()


def test_a_policy_whose_weights_are_gone_is_told_of_and_judging_goes_on(tiny_model, tmp_path, monkeypatch):
    policy = register_policy(name="base", path=shutil.copytree(tiny_model, tmp_path / "base"))
    for index in range(4):
        make_story(policy, make_prompt(), index)
    shutil.rmtree(policy.path)
    Started(monkeypatch)
    lines: list[str] = []
    assert prepare(lines.append) == policy
    assert any("The weights of base cannot be used: " in line and "Put them back" in line for line in lines)
