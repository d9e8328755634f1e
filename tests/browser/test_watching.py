"""A round's page while it is at work, in a real browser. What a worker would do is done by SQL."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, models
from django.db.models.expressions import DatabaseDefault
from django.utils import timezone
from playwright.sync_api import Page, expect

from tests.browser.conftest import Demo
from tests.browser.test_every_page import LOOKS, a_look, verdict_on
from training.models import Round, RoundMetric, State

pytestmark = pytest.mark.slow
Open = Callable[..., Page]
NUMBER = 900


def insert(demo: Demo, row: models.Model) -> None:
    """As Django would, whatever columns the model has by now."""
    fields = [f for f in row._meta.concrete_fields if f.name not in ("id", "state_since")]
    fields = [f for f in fields if not isinstance(getattr(row, f.attname), DatabaseDefault)]
    values: list[Any] = [f.get_db_prep_save(f.pre_save(row, add=True), connection) for f in fields]
    columns = ", ".join(f'"{f.column}"' for f in fields)
    demo.change(
        f"INSERT INTO {row._meta.db_table} ({columns}) VALUES ({', '.join(['%s'] * len(values))})",  # noqa: S608
        *values,
    )


def add_step(demo: Demo, step: int, *, held_out: bool = False) -> None:
    number = demo.one("SELECT id FROM training_round WHERE number = %s", NUMBER)
    figures = dict.fromkeys(
        ("loss", "rewards_chosen", "rewards_rejected", "rewards_margins", "rewards_accuracies", "kl"), 0.5
    )
    insert(demo, RoundMetric(round_id=number, step=step, held_out=held_out, epoch=step / 10, **figures))
    demo.change("UPDATE training_round SET done = %s WHERE id = %s", step, number)


@pytest.fixture
def at_work(demo: Demo) -> Iterator[None]:
    """A round that somebody trains, as far as the demo's worker can see."""
    policy = demo.one("SELECT id FROM generation_policy WHERE is_current")
    held = {"lease_until": timezone.now() + timedelta(hours=1), "attempt": 1, "owner": "nobody"}
    settings = {"method": "full", "loss": "sigmoid", "learning_rate": 1e-4}
    insert(demo, Round(number=NUMBER, policy_id=policy, state=State.TRAINING, total=40, **settings, **held))
    add_step(demo, 1)
    yield
    number = demo.one("SELECT id FROM training_round WHERE number = %s", NUMBER)
    demo.change("DELETE FROM training_roundmetric WHERE round_id = %s", number)
    demo.change("DELETE FROM training_round WHERE id = %s", number)


@pytest.mark.usefixtures("at_work")
def test_a_round_moves_without_reloading_and_leaves_the_reader_where_they_are(open_page: Open, demo: Demo) -> None:
    page = open_page("admin", f"/rounds/{NUMBER}/", viewport={"width": 500, "height": 700})
    page.evaluate("window.sameCanvas = document.querySelector('#curves canvas')")
    page.get_by_text("The figures as a table").click()
    table = page.locator("#curves-rows")
    table.focus()
    table.evaluate("(one) => { one.scrollLeft = 120; }")
    add_step(demo, 2)
    add_step(demo, 2, held_out=True)
    expect(page.locator("#live-now")).to_contain_text("step 2 of 40")
    expect(table.get_by_role("row")).to_have_count(3)
    expect(table).to_be_focused()
    assert table.evaluate("(one) => one.scrollLeft") == 120
    assert page.evaluate("window.sameCanvas.isConnected")
    said = page.locator("#said")
    expect(said).to_be_empty()
    demo.change(
        "UPDATE training_round SET state = 'failed', message = 'The disk is full.', ended_at = now() WHERE number = %s",
        NUMBER,
    )
    expect(said).to_have_text(f"Round {NUMBER}: failed")
    expect(page.get_by_text("The disk is full.")).to_be_visible()
    expect(page.locator("[hx-trigger]")).to_have_count(0)  # nobody asks any more
    assert page.evaluate("window.sameCanvas !== undefined")  # the document is the one that was loaded


@pytest.mark.usefixtures("at_work")
@pytest.mark.parametrize(("language", "scheme", "widths"), LOOKS)
def test_its_page_and_those_of_schedules_and_notices_fit_the_screen_and_suit_everybody(
    open_page: Open, language: str, scheme: str, widths: tuple[int, int]
) -> None:
    page = a_look(open_page, "admin", language, scheme)

    def states() -> Iterator[str]:
        for address in (f"{NUMBER}/", "schedules/", "notices/", "compare/"):
            page.goto(f"/rounds/{address}")
            page.evaluate("document.querySelectorAll('details').forEach((fold) => { fold.open = true; })")
            yield address

    assert verdict_on(page, states(), widths) == ""
