"""Many requests at once, each on a connection of its own."""

import pytest

from generation.models import Prompt
from tests.config.api import Program, make_admin, make_judged, token_of
from tests.threads import at_once
from training.models import Round

pytestmark = pytest.mark.django_db(transaction=True)
FOX = {"text": "A fox.", "language": "en", "theme": "sharing", "story_type": "fable", "age_band": "5-6"}


@pytest.fixture
def token() -> str:
    return token_of(make_admin())


def test_one_key_sent_by_many_at_once_launches_one_round(token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make_judged()
    sent: list[int] = []
    monkeypatch.setattr("config.api.launching.run_round.delay", sent.append)  # no worker is here to take it
    key = {"Idempotency-Key": "night-1"}
    answers = at_once(4, lambda _: Program(token).post("/rounds", {}, headers=key))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1
    assert sent == [Round.objects.get().pk]


def test_prompts_that_many_send_at_once_are_stored_once(token: str) -> None:
    answers = at_once(4, lambda _: Program(token).post("/prompts", {"prompts": [FOX]}))
    assert sorted(answer.json()["new"] for answer in answers) == [0, 0, 0, 1]
    assert [answer.json()["ids"] for answer in answers] == [[Prompt.objects.get().pk]] * 4
