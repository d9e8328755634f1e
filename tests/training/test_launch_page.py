"""The page on which a round is set up, looked at, tried and launched."""

import pytest
from django.test import Client

from generation.models import Policy
from tests.factories import judge_by_story, make_comparison, make_expert, make_policy, make_prompt
from tests.training.test_models import make_round
from training.forms import filled
from training.models import Round, State
from training.schedule import DEFAULTS

pytestmark = pytest.mark.django_db
FORM = filled(DEFAULTS)
HTMX = {"HX-Request": "true"}


@pytest.fixture
def admin(client: Client, django_user_model) -> Client:
    client.force_login(django_user_model.objects.create_user("boss", is_staff=True))
    return client


@pytest.fixture
def sent(monkeypatch) -> list[int]:
    """Ids of the rounds that were put into the queue."""
    from training.tasks import run_round

    found: list[int] = []
    monkeypatch.setattr(run_round, "delay", found.append)
    return found


@pytest.fixture
def policy() -> Policy:
    found = make_policy("base", current=True)
    judge_by_story(make_expert(), list(make_comparison(3, policy=found).stories.all()))
    return found


def text(response) -> str:
    return response.content.decode()


def test_before_there_is_a_policy_it_says_how_to_get_one(admin: Client) -> None:
    assert "There is no policy yet" in text(admin.get("/rounds/new/"))


def test_it_begins_with_what_is_shipped_and_shows_what_that_trains_on(admin: Client, policy: Policy) -> None:
    response = admin.get("/rounds/new/")
    assert response.context["summary"].pairs == 3
    assert 'value="0.00008"' in text(response)
    assert "No round has been measured yet" not in text(response)
    assert "/models/none is not a directory" in text(response)


def test_it_begins_with_another_rounds_settings_if_asked(admin: Client, policy: Policy) -> None:
    make_round(policy=policy, state=State.FAILED, message="no disk", beta=0.35, selection={})
    make_round(number=2, policy=policy, state=State.FAILED, message="no disk", beta=0.25)
    assert admin.get("/rounds/new/?from=1").context["launch_form"]["beta"].value() == 0.35
    assert "round 1's settings" in text(admin.get("/rounds/new/?from=1")).replace("&#x27;", "'")
    assert admin.get("/rounds/new/?from=7").status_code == 404
    assert admin.get("/rounds/new/?from=").status_code == 200


def test_looking_changes_nothing_and_renews_only_what_stands_beside(admin: Client, policy: Policy) -> None:
    make_round(policy=policy, state=State.FAILED, message="no disk", learning_rate=8e-5, sft_weight=0.2)
    response = admin.post("/rounds/new/", {**FORM, "which_pairs": "adjacent", "beta": 0.3}, headers=HTMX)
    page = text(response)
    assert "<form" not in page
    assert response.context["summary"].pairs == 2
    assert [line.name for line in response.context["lines"] if line.differs] == ["which", "beta"]
    assert Round.objects.count() == 1
    assert "<form" in text(admin.post("/rounds/new/", FORM))  # without JavaScript


def test_an_unusual_rate_is_remarked_on_beside_its_field(admin: Client, policy: Policy) -> None:
    page = text(admin.post("/rounds/new/", {**FORM, "learning_rate": 0.009}, headers=HTMX))
    assert 'id="note-learning_rate" hx-swap-oob="true">Unusual' in page
    assert 'id="note-beta" hx-swap-oob="true"></span>' in page


def test_a_fault_is_said_in_the_panel_too(admin: Client, policy: Policy) -> None:
    assert "Beta:" in text(admin.post("/rounds/new/", {**FORM, "beta": 7}, headers=HTMX))
    assert admin.post("/rounds/new/", {**FORM, "beta": 7}).status_code == 422


def test_a_selection_of_nothing_says_what_to_widen(admin: Client, policy: Policy) -> None:
    page = text(admin.post("/rounds/new/", {**FORM, "languages": ["zh"]}, headers=HTMX))
    assert "The selection leaves no pair over" in page


def test_trying_shows_pairs_and_launches_nothing(admin: Client, policy: Policy) -> None:
    page = text(admin.post("/rounds/new/", {**FORM, "act": "dry_run"}))
    assert policy.stories.first().text in page
    assert "Tried, and nothing launched" in page
    assert not Round.objects.exists()


def test_what_cannot_be_launched_keeps_what_was_entered(admin: Client, policy: Policy, sent: list[int]) -> None:
    make_round(policy=policy, state=State.TRAINING)
    for address, act in (("/rounds/launch/", {}), ("/rounds/new/", {"act": "dry_run"})):
        response = admin.post(address, {**FORM, **act, "seed": 4711})
        assert response.status_code == 409
        assert "Round 1 is not over" in text(response)
        assert 'value="4711"' in text(response)
    assert sent == []


def test_launching_keeps_the_selection_on_the_round_and_shows_it_there(
    admin: Client,
    policy: Policy,
    sent: list[int],
) -> None:
    make_prompt()
    admin.post("/rounds/launch/", {**FORM, "which_pairs": "extremes", "themes": ["courage"], "lora_rank": 8})
    launched = Round.objects.get()
    assert (launched.selection["which"], launched.selection["themes"]) == ("extremes", ["courage"])
    assert launched.lora_rank == 8
    assert "best against worst only" in text(admin.get("/rounds/1/"))
