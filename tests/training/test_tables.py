"""Tables of figures, and their CSV."""

import csv
import io

import pytest

from annotate.winrates import WinRate
from generation.spreadsheets import csv_lines, harmless
from training import tables
from training.tables import Cell, Chart, Column, Series, Table

CLEAR = WinRate(214, 0, 6, 0.634, 0.553, 0.706)
OPEN = WinRate(60, 4, 6, 0.55, 0.43, 0.66)


def make_table(*rows: list[Cell]) -> Table:
    columns = [Column("policy", ("policy",), number=False), Column("win rate", tables.rate_fields("win_rate"))]
    return Table("win-rates", "Win rates", "", columns, rows)


def read(table: Table) -> list[list[str]]:
    text = "".join(csv_lines(table.csv_rows()))
    return list(csv.reader(io.StringIO(text.removeprefix("\ufeff"))))


def test_the_csv_has_a_column_for_each_figure_and_nothing_is_rounded() -> None:
    head, row = read(make_table([tables.text("round-1"), tables.win_rate(CLEAR)]))
    assert head == ["policy", "win_rate", "win_rate_low", "win_rate_high", "win_rate_n", "win_rate_simulated"]
    assert row == ["round-1", "0.634", "0.553", "0.706", "214", "0"]


def test_what_is_not_known_is_an_empty_cell() -> None:
    assert read(make_table([tables.text("round-1"), tables.win_rate(None)]))[1] == ["round-1", "", "", "", "", ""]


def test_a_cell_without_values_leaves_its_columns_empty() -> None:
    assert read(make_table([tables.text("round-1"), Cell("–")]))[1][1:] == [""] * 5


def test_a_spreadsheet_takes_the_file_for_unicode() -> None:
    assert next(csv_lines([["故事"]])) == "\ufeff"


@pytest.mark.parametrize("bad", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_a_formula_is_defused(bad: str) -> None:
    assert harmless(bad) == f"'{bad}"


@pytest.mark.parametrize("fine", ["round-1", "", -1.5, None, 3])
def test_numbers_and_plain_words_stay(fine: object) -> None:
    assert harmless(fine) == fine


def test_a_win_rate_shows_its_interval_and_says_its_n() -> None:
    cell = tables.win_rate(CLEAR, "/behind/")
    assert (cell.text, cell.note, cell.link) == ("63 % [55, 71]", "n = 214", "/behind/")


def test_below_the_floor_it_says_how_many_are_missing() -> None:
    assert tables.win_rate(WinRate(5, 0, 2, 0.8, 0.4, 1.0)).text == "not enough yet: 15 more"


def test_one_expert_alone_is_not_enough() -> None:
    assert "one expert more" in str(tables.win_rate(WinRate(40, 0, 1, 0.8, 0.6, 0.9)).text)


def test_an_open_question_says_how_many_more_would_decide_it() -> None:
    assert tables.win_rate(OPEN).note == f"n = 60, 4 simulated, about {OPEN.more_to_decide} more would decide"


def test_what_no_reasonable_number_would_decide_is_said_so() -> None:
    assert "too close to decide" in tables.win_rate(WinRate(60, 0, 6, 0.501, 0.4, 0.6)).note


def test_without_judgements_there_is_no_link() -> None:
    assert tables.win_rate(WinRate(0, 0, 0, None, None, None), "/behind/").link == ""


def test_a_chart_leaves_out_what_is_not_enough() -> None:
    assert tables.rate_point(WinRate(5, 0, 2, 0.8, 0.4, 1.0)) is None
    assert tables.rate_point(None) is None
    assert tables.rate_point(CLEAR)[:3] == pytest.approx((63.4, 55.3, 70.6))


def test_a_chart_is_plain_json() -> None:
    series = Series("against the base", [None, tables.rate_point(CLEAR)])
    found = Chart("Win rate", ["Round 1", "Round 2"], [series], reference=50).as_json()
    assert (found["labels"], found["series"][0]["points"][0], found["reference"]) == (["Round 1", "Round 2"], None, 50)
