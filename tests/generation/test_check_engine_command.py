"""manage.py check_engine"""

import json
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from generation.models import EngineCheck, Policy
from generation.policies import register_policy
from tests.factories import make_policy

pytestmark = pytest.mark.django_db


@pytest.fixture
def policy(tiny_model) -> Policy:
    return register_policy(name="base", path=tiny_model)


def said(*arguments: str) -> str:
    out = StringIO()
    call_command("check_engine", *arguments, stdout=out)
    return out.getvalue()


def test_an_engine_that_is_well_says_so_with_its_story_and_times(policy):
    first, *story, last = said().splitlines()
    found = EngineCheck.objects.get()
    assert first == f"transformers {found.version}: well"
    assert " ".join(" ".join(story).split()) == " ".join(found.message.split())
    assert last == f"ready after {found.start_seconds:.1f} s, a story in {found.write_seconds:.1f} s"


def test_as_json_it_is_one_object(policy):
    found = json.loads(said("--json"))
    assert set(found) == {"engine", "version", "well", "message", "start_seconds", "write_seconds"}
    assert found["well"] is True


def test_an_engine_that_is_not_well_ends_with_a_fault():
    make_policy(current=True)
    out = StringIO()
    with pytest.raises(CommandError, match="not well"):
        call_command("check_engine", stdout=out)
    assert "NOT WELL\n/models/none is not a directory" in out.getvalue()
    assert "ready after" not in out.getvalue()


def test_not_well_as_json_is_still_json():
    make_policy(current=True)
    out = StringIO()
    with pytest.raises(CommandError):
        call_command("check_engine", "--json", stdout=out)
    found = json.loads(out.getvalue())
    assert (found["well"], found["start_seconds"]) == (False, None)


def test_a_policy_can_be_named(policy, tiny_model):
    register_policy(name="round-1", path=tiny_model, parent=policy)
    said("--policy", "round-1")
    assert EngineCheck.objects.get().policy.name == "round-1"


@pytest.mark.parametrize("arguments", [[], ["--policy", "round-9"]])
def test_without_the_policy_it_says_what_to_do(arguments):
    with pytest.raises(CommandError, match=r"There is no policy .*Run “make demo”"):
        said(*arguments)


def test_an_engine_that_is_none_is_refused(policy):
    with pytest.raises(CommandError, match="--engine: invalid choice: 'gpt'"):
        said("--engine", "gpt")
    assert not EngineCheck.objects.exists()


def test_the_engine_of_the_settings_is_checked(policy, settings, tmp_path):
    settings.ENGINE, settings.VLLM_PYTHON, settings.VAR_DIR = "vllm", tmp_path / "no-python", tmp_path
    with pytest.raises(CommandError, match="not well"):
        said()
    assert EngineCheck.objects.get().engine == "vllm"
