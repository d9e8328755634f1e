"""Bringing an installation to where experts can judge: when a writer is started, and when not."""

import subprocess
import sys

import pytest

from config.setup import SetupFailed, write_missing_stories
from generation.models import Policy, RunState
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
