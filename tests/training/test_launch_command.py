"""manage.py launch_round."""

import json

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from generation.models import Policy
from tests.factories import judge_by_story, make_comparison, make_expert, make_policy
from tests.training.test_models import make_round
from training.models import Round, State

pytestmark = pytest.mark.django_db


@pytest.fixture
def policy() -> Policy:
    found = make_policy("base", current=True)
    judge_by_story(make_expert(), list(make_comparison(3, policy=found).stories.all()))
    return found


@pytest.fixture
def sent(monkeypatch) -> list[int]:
    """Ids of the rounds that were put into the queue."""
    from training.tasks import run_round

    found: list[int] = []
    monkeypatch.setattr(run_round, "delay", found.append)
    return found


def test_it_launches_what_it_is_told_and_says_so_in_json(
    policy: Policy,
    sent: list[int],
    capsys,
    django_capture_on_commit_callbacks,
) -> None:
    options = ["--language", "en", "--theme", "courage", "--pairs", "adjacent", "--beta", "0.3", "--lora-rank", "8"]
    with django_capture_on_commit_callbacks(execute=True):
        call_command("launch_round", *options, "--json")
    launched = Round.objects.get()
    assert sent == [launched.pk]
    assert (launched.beta, launched.lora_rank, launched.selection["which"]) == (0.3, 8, "adjacent")
    found = json.loads(capsys.readouterr().out)
    assert (found["round"], found["selection"]) == (1, launched.selection)


def test_a_dry_run_launches_nothing_and_fails_where_something_is_in_the_way(policy: Policy, capsys) -> None:
    with pytest.raises(CommandError, match="/models/none is not a directory"):
        call_command("launch_round", "--dry-run", "--json")
    found = json.loads(capsys.readouterr().out)
    assert (found["pairs"], len(found["examples"]), found["seconds"]) == (3, 3, None)
    with pytest.raises(CommandError):
        call_command("launch_round", "--dry-run")
    assert "PROMPT    Write a story" in capsys.readouterr().out
    assert not Round.objects.exists()


def test_it_begins_with_another_rounds_settings(policy: Policy, sent: list[int]) -> None:
    make_round(policy=policy, state=State.FAILED, message="no disk", beta=0.4, epochs=2)
    call_command("launch_round", "--from-round", "1", "--epochs", "1")
    launched = Round.objects.get(number=2)
    assert (launched.beta, launched.epochs) == (0.4, 1)


@pytest.mark.parametrize(
    ("message", "options"),
    [
        ("beta is 0.7: give 0.1 to 0.5", ["--beta", "0.7"]),
        ("There are: courage", ["--theme", "corage"]),
        ("invalid choice: 'fr'", ["--language", "fr"]),
        ("There is no round 9", ["--from-round", "9"]),
        ("give CRITERION or CRITERION:BETA", ["--stage", "structure:high"]),
        ("No pairs are judged by “Creativity”", ["--stage", "creativity:0.2"]),
        ("min_agreement is 0.2", ["--min-agreement", "0.2"]),
        ("The selection leaves no pair over", ["--language", "zh"]),
    ],
)
def test_a_wrong_option_ends_it_with_what_to_do(policy: Policy, message: str, options: list[str]) -> None:
    with pytest.raises(CommandError) as error:
        call_command("launch_round", *options)
    assert message in str(error.value)
    assert not Round.objects.exists()
