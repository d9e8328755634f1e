"""The sampling plan: how each place is drawn, and from which seeds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from generation.models import Prompt, SamplingRow
from generation.plan import (
    MAX_DRAWS,
    PLACES,
    SEED_STEP,
    default_plan,
    reset_plan,
    sampling_for,
    sampling_plan,
    save_plan,
    seed_for,
)
from tests.threads import at_once

LARGEST_PROMPT, LARGEST_PLAN_SEED = 2 * 10**9 - 1, 10**6 - 1
PROMPT_IDS = st.integers(1, LARGEST_PROMPT)
DRAWINGS = st.tuples(
    PROMPT_IDS, st.integers(0, PLACES - 1), st.integers(1, MAX_DRAWS), st.integers(0, LARGEST_PLAN_SEED)
)


def of(drawing: tuple[int, int, int, int]) -> int:
    prompt, index, draw, plan_seed = drawing
    return seed_for(Prompt(pk=prompt), index, draw, plan_seed)


# --- seeds -------------------------------------------------------------------------------------------------


def test_no_two_places_draws_or_prompts_have_seeds_less_than_five_apart():
    seeds = sorted(
        seed_for(Prompt(pk=pk), index, draw)
        for pk in (1, 2, 3, 999)
        for index in range(PLACES)
        for draw in range(1, MAX_DRAWS + 1)
    )
    assert min(b - a for a, b in zip(seeds, seeds[1:], strict=False)) == SEED_STEP == 5


@given(one=DRAWINGS, other=DRAWINGS)
def test_what_is_drawn_elsewhere_is_drawn_from_seeds_of_its_own(one, other):
    assert one == other or abs(of(one) - of(other)) >= SEED_STEP


@given(prompt=PROMPT_IDS, index=st.integers(0, PLACES - 1), draw=st.integers(1, MAX_DRAWS))
def test_neighbours_are_five_apart_or_more(prompt, index, draw):
    here = of((prompt, index, draw, 0))
    beside = [(prompt + 1, index, draw, 0), (prompt, index, draw + 1, 0), (prompt, index, draw, 1)]
    if index + 1 < PLACES:
        beside.append((prompt, index + 1, draw, 0))
    assert all(of(drawing) - here >= SEED_STEP for drawing in beside)


@given(DRAWINGS)
def test_a_seed_is_positive_and_fits_a_signed_64_bit_number(drawing):
    assert 0 < of(drawing) < 2**63


def test_the_largest_seed_fits():
    assert of((LARGEST_PROMPT, PLACES - 1, MAX_DRAWS, LARGEST_PLAN_SEED)) < 2**63


# --- the rows ----------------------------------------------------------------------------------------------


def test_the_default_plan_has_a_row_for_each_place_and_no_two_alike():
    rows = default_plan()
    assert [row.sample_index for row in rows] == list(range(PLACES))
    assert len({(row.temperature, row.top_p, row.top_k, row.min_p) for row in rows}) == PLACES
    assert {row.repetition_penalty for row in rows} == {1.0}


@pytest.mark.django_db
def test_the_default_plan_is_one_that_could_be_stored():
    save_plan(rows=default_plan())
    assert SamplingRow.objects.count() == PLACES


@pytest.mark.django_db
def test_without_stored_rows_the_plan_is_the_default():
    assert facts(sampling_plan()) == facts(default_plan())
    assert not SamplingRow.objects.exists()


@pytest.mark.django_db
def test_a_stored_row_stands_for_its_place_only():
    save_plan(rows=[SamplingRow(sample_index=2, temperature=0.3, top_p=0.9, top_k=5, min_p=0.0, seed=7)])
    plan = facts(sampling_plan())
    assert plan[2] == (2, 0.3, 0.9, 5, 0.0, 1.0, 7)
    assert plan[:2] + plan[3:] == facts(default_plan())[:2] + facts(default_plan())[3:]


@pytest.mark.django_db
def test_a_plan_takes_the_place_of_the_one_before():
    save_plan(rows=[SamplingRow(sample_index=0, temperature=0.3), SamplingRow(sample_index=1, temperature=0.4)])
    save_plan(rows=[SamplingRow(sample_index=1, temperature=0.5)])
    assert list(SamplingRow.objects.values_list("sample_index", "temperature")) == [(0, 0.3), (1, 0.5)]


@pytest.mark.django_db(transaction=True)
def test_of_two_plans_saved_at_once_one_stands():
    def save(number: int) -> None:
        save_plan(rows=[SamplingRow(sample_index=index, temperature=number / 10) for index in range(5)])

    at_once(4, save)
    assert len(set(SamplingRow.objects.values_list("temperature"))) == 1


@pytest.mark.django_db
def test_a_plan_that_was_read_can_be_changed_and_saved():
    rows = sampling_plan()
    save_plan(rows=rows)
    rows = sampling_plan()
    rows[3].temperature = 0.1
    save_plan(rows=rows)
    assert sampling_plan()[3].temperature == 0.1


@pytest.mark.django_db
def test_a_plan_that_is_refused_leaves_the_one_before():
    save_plan(rows=[SamplingRow(sample_index=0, temperature=0.3)])
    with pytest.raises(Exception, match="sampling_row_heat"):
        save_plan(rows=[SamplingRow(sample_index=0, temperature=9.0)])


@pytest.mark.django_db
def test_the_plan_can_be_set_back():
    save_plan(rows=[SamplingRow(sample_index=0, temperature=0.3)])
    reset_plan()
    assert facts(sampling_plan()) == facts(default_plan())


def test_a_story_is_drawn_as_its_row_says():
    row = SamplingRow(sample_index=3, temperature=0.7, top_p=0.8, top_k=9, min_p=0.1, repetition_penalty=1.2, seed=4)
    prompt = Prompt(pk=6)
    found = sampling_for(prompt, row, 2, max_tokens=55)
    assert (found.temperature, found.top_p, found.top_k, found.min_p) == (0.7, 0.8, 9, 0.1)
    assert (found.repetition_penalty, found.max_tokens) == (1.2, 55)
    assert found.seed == seed_for(prompt, 3, 2, 4)


def facts(rows: list[SamplingRow]) -> list[tuple]:
    names = ("sample_index", "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "seed")
    return [tuple(getattr(row, name) for name in names) for row in rows]
