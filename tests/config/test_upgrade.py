"""Installations of before: what a release stored is there, and is worked with, after `manage.py migrate`.

tests/config/releases/ holds databases as they were, written by the code of then (its README says how). A new release
adds its own and never changes another's.
"""

import gzip
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection, transaction
from django.urls import reverse

from annotate.models import Comparison, Judgement
from annotate.pairs import preference_judgements, preference_pairs
from annotate.queue import next_assignment
from annotate.simulated import judge
from tests.config.people import logged_in, make_admin
from tests.factories import make_expert
from training.models import Round

RELEASES = sorted(Path(__file__).with_name("releases").glob("*.sql.gz"))
STORED = (
    "generation_prompt", "generation_story", "annotate_comparison", "annotate_comparison_stories", "annotate_place",
    "annotate_assignment", "annotate_judgement", "annotate_rank", "training_round", "training_roundmetric", "auth_user",
)  # fmt: skip
JUDGED = """
    SELECT j.id, j.verdict, j.reason, j.created_at, array_agg(r.rank ORDER BY r.shown_position)
    FROM annotate_judgement j JOIN annotate_rank r ON r.judgement_id = j.id GROUP BY j.id ORDER BY j.id
"""


def rows(query: str) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(query)
        return cursor.fetchall()


def stored() -> dict[str, int]:
    return {table: rows(f"SELECT count(*) FROM {table}")[0][0] for table in STORED}


def run(command: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(command)


def load(dump: Path) -> None:
    with connection.cursor() as cursor:
        cursor.execute(gzip.decompress(dump.read_bytes()).decode())
        cursor.execute("SET search_path TO DEFAULT; SET row_security TO DEFAULT")


def enter(name: str) -> str:
    """Let the tests' connection lead to the database `name`; where it led before."""
    connection.close()
    was, connection.settings_dict["NAME"] = connection.settings_dict["NAME"], name
    return str(was)


@pytest.fixture(scope="module", params=RELEASES, ids=lambda path: path.name.removesuffix(".sql.gz"))
def upgraded(request: Any, django_db_setup: None, django_db_blocker: Any) -> Iterator[SimpleNamespace]:
    """A release's database, migrated; `before`: the rows of each table, `judged`: its judgements as they were."""
    with django_db_blocker.unblock():
        name = f"{connection.settings_dict['NAME']}_upgrade"
        for command in (f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)', f'CREATE DATABASE "{name}"'):
            run(command)
        tests_own = enter(name)
        try:
            load(request.param)
            found = SimpleNamespace(before=stored(), judged=rows(JUDGED))
            call_command("migrate", verbosity=0)
            yield found
        finally:
            enter(tests_own)
            run(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture(autouse=True)
def undone(upgraded: SimpleNamespace) -> Iterator[None]:
    """What a test writes is not there for the next one."""
    block = transaction.atomic()
    block._from_testcase = True  # as Django's own tests mark it: what must be the outermost block may be in it
    with block:
        yield
        transaction.set_rollback(True)


def test_every_row_is_there(upgraded: SimpleNamespace) -> None:
    assert min(upgraded.before.values()) > 0
    assert stored() == upgraded.before


def test_every_judgement_is_what_it_was(upgraded: SimpleNamespace) -> None:
    assert rows(JUDGED) == upgraded.judged


def test_its_judgements_are_pairs_to_train_on(upgraded: SimpleNamespace) -> None:
    assert len(preference_pairs(preference_judgements())) > 10


@pytest.mark.parametrize("page", ["rounds", "dashboard", "judging", "policies", "people"])
def test_an_admin_reads_it(upgraded: SimpleNamespace, page: str) -> None:
    assert logged_in(make_admin()).get(reverse(page)).status_code == 200


def test_its_round_has_its_win_rate(upgraded: SimpleNamespace) -> None:
    first = Round.objects.order_by("number")[0]
    asked = Comparison.objects.filter(purpose="evaluation", policy=first.result, baseline=first.policy)
    judged = Judgement.objects.filter(assignment__comparison__in=asked).count()
    page = logged_in(make_admin()).get(reverse("show_round", args=[first.number])).content.decode()
    assert re.search(rf"n = {judged}\b", page)


def test_a_new_expert_judges_what_was_open(upgraded: SimpleNamespace) -> None:
    expert = make_expert(simulated=True)
    before = Judgement.objects.count()
    assignment = next_assignment(expert=expert)
    assert assignment is not None
    judge(assignment, seed=1)
    assert Judgement.objects.count() == before + 1
    assert Comparison.objects.count() == upgraded.before["annotate_comparison"]
