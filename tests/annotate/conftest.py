"""What the tests of judging begin with."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from annotate.models import Assignment, Expert, Place
from tests.factories import make_expert


@pytest.fixture
def expert(db: None) -> Expert:
    return make_expert()


@pytest.fixture
def judging(client: Client, expert: Expert) -> Client:
    """A browser in which `expert` has logged in."""
    client.force_login(expert.user)
    return client


@pytest.fixture
def expire(db: None) -> Callable[[Assignment], None]:
    """Let the time of an assignment's place run out."""

    def run_out(assignment: Assignment) -> None:
        past = timezone.now() - timedelta(seconds=1)
        assert Place.objects.filter(assignment=assignment).update(held_until=past) == 1

    return run_out
