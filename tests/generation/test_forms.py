"""The admins' form about the sampling plan."""

import threading

import pytest
from django.db import connection

from generation.forms import PlanForm, SamplingRowForm
from generation.models import SamplingRow
from generation.plan import default_plan, reset_plan, sampling_plan
from generation.report import plan_warnings

SETTINGS = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "seed")
ROW = {"temperature": "0.7", "top_p": "0.9", "top_k": "40", "min_p": "0.05", "repetition_penalty": "1.1", "seed": "7"}


def posted(**changes: str) -> dict[str, str]:
    """Five equal rows as a browser sends them; story_2_seed="9" changes one field."""
    data = {f"story-{n}-{name}": value for n in range(1, 6) for name, value in ROW.items()}
    for name, value in changes.items():
        _, number, field = name.split("_", maxsplit=2)
        data[f"story-{number}-{field}"] = value
    return data


def row(index: int = 0, **fields: float) -> SamplingRow:
    return SamplingRow(sample_index=index, **{"temperature": 1.0, **fields})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", "0"), ("temperature", "2"), ("top_p", "0.001"), ("top_p", "1"), ("top_k", "0"),
        ("top_k", "1000000"), ("min_p", "0"), ("min_p", "0.999"), ("repetition_penalty", "1"),
        ("repetition_penalty", "2"), ("seed", "0"), ("seed", "999999"),
    ],
)  # fmt: skip
def test_a_value_at_its_limit_is_taken(field: str, value: str) -> None:
    assert SamplingRowForm({**ROW, field: value}).is_valid()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", "-0.1"), ("temperature", "2.1"), ("temperature", "nan"), ("temperature", ""), ("top_p", "0"),
        ("top_p", "1.1"), ("top_k", "-1"), ("top_k", "1.5"), ("min_p", "-0.1"), ("min_p", "1"),
        ("repetition_penalty", "0.9"), ("repetition_penalty", "inf"), ("seed", "-1"), ("seed", "1000000"),
        ("seed", "x"),
    ],
)  # fmt: skip
def test_a_value_beyond_its_limit_is_refused(field: str, value: str) -> None:
    assert list(SamplingRowForm({**ROW, field: value}).errors) == [field]


@pytest.mark.parametrize("field", SETTINGS)
def test_a_refusal_names_the_limits(field: str) -> None:
    (said,) = set(SamplingRowForm({**ROW, field: "-1"}).errors[field])
    assert any(digit in said for digit in "01")


@pytest.mark.django_db
class TestPlanForm:
    def test_it_shows_the_stored_plan(self) -> None:
        SamplingRow.objects.create(sample_index=2, temperature=0.3)
        shown = PlanForm(sampling_plan()).forms[2]
        assert shown["temperature"].value() == 0.3

    def test_saving_stores_every_field_of_every_row(self) -> None:
        form = PlanForm(sampling_plan(), posted(story_5_seed="9"))
        assert form.is_valid()
        form.save()
        stored = list(SamplingRow.objects.values_list(*SETTINGS))
        assert stored == [(0.7, 0.9, 40, 0.05, 1.1, 7)] * 4 + [(0.7, 0.9, 40, 0.05, 1.1, 9)]

    def test_a_fault_in_two_rows_is_shown_in_both(self) -> None:
        form = PlanForm(sampling_plan(), posted(story_1_seed="x", story_4_min_p="1"))
        assert not form.is_valid()
        assert [list(row.errors) for row in form.forms] == [["seed"], [], [], ["min_p"], []]

    def test_back_to_the_defaults(self) -> None:
        SamplingRow.objects.create(sample_index=2, temperature=0.3)
        reset_plan()
        assert [row.temperature for row in sampling_plan()] == [row.temperature for row in default_plan()]


@pytest.mark.django_db(transaction=True)
def test_of_two_admins_who_save_at_once_the_last_one_wins_and_nobody_gets_an_error() -> None:
    faults: list[Exception] = []

    def save(seed: int) -> None:
        form = PlanForm(sampling_plan(), posted(**{f"story_{n}_seed": str(seed) for n in range(1, 6)}))
        try:
            assert form.is_valid()
            form.save()
        except Exception as error:
            faults.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=save, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert len(set(SamplingRow.objects.values_list("seed", flat=True))) == 1  # one admin's plan, whole


class TestWarnings:
    def test_the_default_plan_has_none(self) -> None:
        assert plan_warnings(default_plan()) == []

    def test_rows_that_are_the_same_are_named(self) -> None:
        (said,) = plan_warnings([row(0), row(1, temperature=0.5), row(2)])
        assert said.startswith("Stories 1, 3 are drawn in the same way")

    def test_another_seed_makes_them_no_less_alike(self) -> None:
        assert len(plan_warnings([row(0, seed=1), row(1, seed=2)])) == 1

    def test_one_differing_setting_is_enough(self) -> None:
        assert plan_warnings([row(0), row(1, repetition_penalty=1.1)]) == []

    def test_without_chance_what_cuts_it_makes_no_difference(self) -> None:
        (said,) = plan_warnings([row(0, temperature=0.0, top_k=1), row(1, temperature=0.0, top_p=0.5)])
        assert "only one of them can be kept" in said
