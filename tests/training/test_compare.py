"""Two rounds side by side."""

from typing import Any

import pytest
from django.test import Client

from tests.factories import make_policy
from tests.training.stories import add_metric
from tests.training.test_models import make_round
from training.compare import figure_rows, settings_rows
from training.models import Round, State

pytestmark = pytest.mark.django_db


@pytest.fixture
def rounds() -> tuple[Round, Round]:
    base = make_policy("base")
    first = make_round(
        policy=base, result=make_policy("round-1", parent=base), state=State.PROMOTED, beta=0.1, pair_count=40,
        export_path="/pairs", export_sha256="ab" * 32,
    )  # fmt: skip
    second = make_round(
        number=2, policy=first.result, state=State.FAILED, message="no disk", beta=0.3, method="lora",
        learning_rate=1e-5,
    )  # fmt: skip
    add_metric(first, loss=0.5)
    return first, second


def test_differences_are_marked_and_numbers_written_out(rounds: tuple[Round, Round]) -> None:
    rows = {row.label: row for row in settings_rows(*rounds)}
    assert {label for label, row in rows.items() if row.differs} == {"Beta", "Weights", "Learning rate"}
    assert (rows["Weights"].a, rows["Weights"].b) == ("full weights", "LoRA (16/32)")
    assert rows["Learning rate"].b == "0.00001"
    assert rows["Judged by"].a == "people"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("include_simulated", True), ("selection", {"languages": ["zh"]}), ("objectives", "structure=1"),
        ("stages", [{"criterion": "structure", "beta": 0.3}]), ("reference", "base"), ("loss", "robust"),
        ("sft_weight", 0.3), ("label_smoothing", 0.1), ("epochs", 2), ("batch_pairs", 8), ("eval_share", 0.2),
        ("seed", 7),
    ],
)  # fmt: skip
def test_every_setting_is_compared(rounds: tuple[Round, Round], name: str, value: Any) -> None:
    first, _second = rounds
    before = settings_rows(first, first)
    assert not any(row.differs for row in before)
    other = Round.objects.get(pk=first.pk)
    setattr(other, name, value)
    assert any(row.differs for row in settings_rows(first, other))


def test_what_came_of_them_stands_beneath(rounds: tuple[Round, Round]) -> None:
    rows = {row.label: (row.a, row.b) for row in figure_rows(*rounds)}
    assert rows["From"] == ("base", "round-1")
    assert rows["Lineage"] == ("base", "round-1 ← base")
    assert rows["Pairs"] == ("40", "–")
    assert rows["SHA-256 of the pairs"] == ("abababababab", "–")
    assert rows["loss, held out"] == ("0.500", "–")
    assert rows["Win rate against the policy before"] == ("not enough yet: 20 more, n = 0", "–")


def test_the_page_takes_any_two_rounds(rounds: tuple[Round, Round], admin_client: Client) -> None:
    page = admin_client.get("/rounds/compare/?a=2&b=1").content.decode()
    assert page.index("/rounds/2/") < page.index("/rounds/1/")
    assert page.count('<span class="tag alarm">differs</span>') == 3
    same = "All settings are the same."
    assert same not in page
    assert same in admin_client.get("/rounds/compare/?a=2&b=2").content.decode()


@pytest.mark.parametrize("query", ["?a=1&b=9", "?a=x&b=%00", "?a=1"])
def test_a_round_that_is_not_there_is_said(rounds: tuple[Round, Round], admin_client: Client, query: str) -> None:
    response = admin_client.get(f"/rounds/compare/{query}")
    assert response.status_code == 200
    assert "There is no such round." in response.content.decode()


def test_without_a_choice_it_shows_the_last_two_and_without_rounds_it_says_so(admin_client: Client) -> None:
    assert "There are no two rounds yet." in admin_client.get("/rounds/compare/").content.decode()
    base = make_policy()
    for number in (1, 2, 3):
        make_round(number=number, policy=base, state=State.FAILED, message="no")
    assert [admin_client.get("/rounds/compare/").context[name].number for name in "ab"] == [2, 3]


def test_the_list_says_which_policy_came_from_which_and_of_what_data(
    rounds: tuple[Round, Round], admin_client: Client
) -> None:
    page = admin_client.get("/rounds/").content.decode()
    assert "<td>round-1</td>" in page
    assert "<code>abababab</code>" in page
