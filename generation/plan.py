"""The sampling plan: how each of a prompt's stories is drawn, from careful to bold, so that sisters differ."""

from collections.abc import Sequence

from django.db import transaction

from generation.engines.values import SamplingParams
from generation.models import Prompt, SamplingRow

PLACES = 5
MAX_DRAWS = 4
SEED_STEP = 5  # at least the stories of a prompt: an engine asked for n stories with seed s uses s ... s+n-1
# min_p cuts off torn words, which top_p lets through or cuts together with what is merely rare
DEFAULTS = (
    {"temperature": 0.9, "min_p": 0.02},
    {"temperature": 1.0, "min_p": 0.02},
    {"temperature": 1.1, "min_p": 0.02},
    {"temperature": 1.2, "min_p": 0.03},
    {"temperature": 0.8, "min_p": 0.02},
)


def default_plan() -> list[SamplingRow]:
    """The plan until an admin has stored another; not stored itself."""
    return [SamplingRow(sample_index=index, **values) for index, values in enumerate(DEFAULTS)]


def sampling_plan() -> list[SamplingRow]:
    """A row for each sample_index, 0 to 4."""
    stored = {row.sample_index: row for row in SamplingRow.objects.all()}
    return [stored.get(row.sample_index, row) for row in default_plan()]


@transaction.atomic
def save_plan(*, rows: Sequence[SamplingRow]) -> None:
    """Store `rows` as the plan for what is written from now on; stories keep what they were drawn with."""
    values = [f.name for f in SamplingRow._meta.concrete_fields if f.name not in ("id", "sample_index")]
    SamplingRow.objects.bulk_create(
        (SamplingRow(sample_index=row.sample_index, **{n: getattr(row, n) for n in values}) for row in rows),
        update_conflicts=True,
        unique_fields=["sample_index"],
        update_fields=values,
    )


@transaction.atomic
def reset_plan() -> None:
    """Back to the defaults."""
    SamplingRow.objects.all().delete()


def seed_for(prompt: Prompt, sample_index: int, draw: int, plan_seed: int = 0) -> int:
    """The seed of a story's `draw`-th draw; two places or draws are SEED_STEP apart or more.

    Below 2**63 for plan seeds below a million and prompt ids below two thousand million. After twenty draws
    (five runs that gave the place up) they begin again.
    """
    return plan_seed * 10**12 + (prompt.pk * PLACES + sample_index) * 100 + SEED_STEP * ((draw - 1) % 20) + 1


def sampling_for(prompt: Prompt, row: SamplingRow, draw: int, *, max_tokens: int) -> SamplingParams:
    """How the story of `row` is drawn for `prompt` the `draw`-th time."""
    return SamplingParams(
        temperature=row.temperature,
        top_p=row.top_p,
        min_p=row.min_p,
        top_k=row.top_k,
        repetition_penalty=row.repetition_penalty,
        seed=seed_for(prompt, row.sample_index, draw, row.seed),
        max_tokens=max_tokens,
    )
