"""How often a token may ask: exactly so, however many processes count, and then it says when to come again."""

from datetime import timedelta

import pytest
from django.db.models.functions import Now
from django.utils import timezone

from config.models import ApiToken
from generation.models import Prompt
from tests.config.api import Program, assert_problem, make_admin, token_of
from tests.threads import at_once

FOX = {"text": "A fox.", "language": "en", "theme": "sharing", "story_type": "fable", "age_band": "5-6"}


@pytest.fixture
def program(settings) -> Program:
    settings.API_PER_MINUTE = 3
    return Program(token_of(make_admin()))


def statuses(program: Program, count: int) -> list[int]:
    return [program.get("/me").status_code for _ in range(count)]


@pytest.mark.django_db
def test_what_is_too_much_is_refused_with_the_seconds_to_wait_and_does_nothing(program: Program) -> None:
    assert statuses(program, 3) == [200] * 3
    answer = program.post("/prompts", {"prompts": [FOX]})
    said = assert_problem(answer, 429)["detail"]
    assert said.startswith("This token may ask 3 times a minute, and has. Ask again in ")
    assert 1 <= int(answer["Retry-After"]) <= 20
    assert not Prompt.objects.exists()


@pytest.mark.django_db
def test_time_that_passes_makes_room_for_as_many_as_fit_into_it(program: Program) -> None:
    assert statuses(program, 4) == [200, 200, 200, 429]
    # 20 s later, and a good deal less than 40
    ApiToken.objects.update(busy_until=timezone.now() + timedelta(seconds=60 - 21))
    assert statuses(program, 2) == [200, 429]
    ApiToken.objects.update(busy_until=Now() - timedelta(days=1))
    assert statuses(program, 4) == [200, 200, 200, 429]  # a night of rest saves nothing up


@pytest.mark.django_db
def test_another_token_is_counted_by_itself_and_no_limit_is_none(program: Program, settings) -> None:
    assert statuses(program, 4)[-1] == 429
    assert statuses(Program(token_of(make_admin("other"))), 1) == [200]
    settings.API_PER_MINUTE = 0
    assert statuses(program, 5) == [200] * 5


@pytest.mark.django_db(transaction=True)
def test_requests_at_once_are_counted_one_by_one(program: Program) -> None:
    """Each on a connection of its own, as those of other processes."""
    found = at_once(12, lambda _: program.get("/me").status_code)
    assert sorted(found) == [200] * 3 + [429] * 9
