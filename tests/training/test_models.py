"""What must always hold is a database constraint: each is broken here once."""

from typing import Any

import pytest
from django.db import IntegrityError, transaction

from tests.factories import make_policy
from training.limits import SETTING_LIMITS
from training.models import LIMITS, Alarm, AlarmLimits, Round, RoundMetric, Schedule, State, Watched
from training.selection import Selection

pytestmark = pytest.mark.django_db
SHA = "a" * 64
STAGE = {"criterion": "structure", "beta": 0.2}
SELECTION = Selection().as_json()
FLOATS = ("beta", "learning_rate", "sft_weight")


def test_a_loss_that_averages_may_have_a_larger_beta() -> None:
    assert make_round(loss="sigmoid_norm", beta=5.0).beta == 5


def make_round(**fields: Any) -> Round:
    values = {"number": 1, "method": "full", "loss": "sigmoid", "learning_rate": 1e-4, **fields}
    return Round.objects.create(**{"policy": fields.get("policy") or make_policy(), **values})


@pytest.mark.parametrize(
    ("constraint", "fields"),
    [
        ("round_state_known", {"state": "dancing"}),
        ("round_numbered_from_one", {"number": 0}),
        ("round_export_whole", {"export_path": "/tmp/x"}),
        ("round_export_whole", {"export_sha256": SHA}),
        ("round_export_whole", {"export_path": "/tmp/x", "export_sha256": SHA, "pair_count": 0}),
        ("round_judged_only_with_result", {"state": State.JUDGING}),
        ("round_judged_only_with_result", {"state": State.PROMOTED}),
        ("round_end_says_why", {"state": State.FAILED}),
        ("round_end_says_why", {"state": State.CANCELLED}),
        ("round_smoothing_has_a_meaning", {"label_smoothing": 0.5}),
        ("round_smoothing_has_a_meaning", {"label_smoothing": -0.1}),
        ("round_smoothing_has_a_meaning", {"label_smoothing": 0.1, "loss": "sigmoid_norm"}),
        ("round_trains_on_half_or_more", {"eval_share": 0.6}),
        ("round_trains_on_half_or_more", {"eval_share": -0.1}),
        ("round_loss_known", {"loss": "magic"}),
        ("round_method_known", {"method": "magic"}),
        ("round_reference_known", {"reference": "magic"}),
        ("round_stages_alone", {"stages": [STAGE], "objectives": "structure=1"}),
        ("round_stages_alone", {"stages": [STAGE], "reference": "base"}),
        ("round_selection_rounds", {"selection": {**SELECTION, "rounds": "yesterday"}}),
        ("round_selection_which", {"selection": {**SELECTION, "which": "some"}}),
        ("round_selection_min_agreement", {"selection": {**SELECTION, "min_agreement": 0.4}}),
        ("round_selection_min_agreement", {"selection": {**SELECTION, "min_agreement": "0.6"}}),
        ("round_selection_older_weight", {"selection": {**SELECTION, "older_weight": 0}}),
        ("round_selection_older_weight", {"selection": {"rounds": "all", "which": "all", "min_agreement": 0.5}}),
        ("round_beta_within", {"beta": 10.5, "loss": "sigmoid_norm"}),
        *(
            (f"round_{name}_within", {name: wrong})
            for name, (low, high) in SETTING_LIMITS.items()
            for wrong in ((low - 1, high + 1, float("nan")) if name in FLOATS else (high + 1,))
        ),
    ],
)
def test_the_database_refuses_a_round_that_breaks(constraint: str, fields: dict[str, Any]) -> None:
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        make_round(**fields)


def test_the_database_refuses_a_second_undecided_round() -> None:
    make_round(number=1, state=State.QUEUED)
    with pytest.raises(IntegrityError, match="round_one_undecided"), transaction.atomic():
        make_round(number=2, state=State.TRAINING)


def test_a_decided_round_leaves_room_for_the_next() -> None:
    make_round(number=1, state=State.FAILED, message="no disk")
    assert make_round(number=2).number == 2


def test_the_database_refuses_two_rounds_of_one_number() -> None:
    make_round(number=1, state=State.FAILED, message="no disk")
    with pytest.raises(IntegrityError, match="number"), transaction.atomic():
        make_round(number=1)


def test_the_database_refuses_two_metrics_of_one_step() -> None:
    figures = dict.fromkeys(
        ("epoch", "loss", "rewards_chosen", "rewards_rejected", "rewards_margins", "rewards_accuracies", "kl"), 0.0
    )
    found = make_round()
    RoundMetric.objects.create(round=found, step=1, **figures)
    with pytest.raises(IntegrityError, match="metric_once_per_step"), transaction.atomic():
        RoundMetric.objects.create(round=found, step=1, **figures)
    RoundMetric.objects.create(round=found, step=1, held_out=True, **figures)


@pytest.mark.parametrize(
    ("constraint", "fields"),
    [
        ("alarm_once_a_kind", {"kind": Watched.LENGTH}),
        ("alarm_kind_known", {"kind": "noise"}),
        ("alarm_beyond_its_limit", {"value": 0.1}),
    ],
)
def test_the_database_refuses_an_alarm_that_breaks(constraint: str, fields: dict[str, Any]) -> None:
    found = make_round()
    values = {"kind": Watched.REPETITION, "value": 0.2, "limit": 0.1}
    Alarm.objects.create(round=found, **{**values, "kind": Watched.LENGTH})
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        Alarm.objects.create(round=found, **{**values, **fields})


@pytest.mark.parametrize("name", LIMITS)
def test_the_database_refuses_a_limit_of_nothing_or_beyond_all(name: str) -> None:
    for wrong in (0, LIMITS[name] + 1, float("nan")):
        with pytest.raises(IntegrityError, match=f"alarm_limit_{name}"), transaction.atomic():
            AlarmLimits.objects.create(**{name: wrong})
    AlarmLimits.objects.create(**{name: None})


def test_the_database_refuses_a_second_row_of_limits() -> None:
    AlarmLimits.objects.create()
    with pytest.raises(IntegrityError, match="alarm_limits_only_one"), transaction.atomic():
        AlarmLimits.objects.create()


def test_the_database_refuses_a_second_schedule() -> None:
    Schedule.objects.create()
    with pytest.raises(IntegrityError, match="schedule_only_one"), transaction.atomic():
        Schedule.objects.create()


@pytest.mark.parametrize(
    ("constraint", "field"),
    [("schedule_wants_pairs", "min_new_pairs"), ("schedule_every_minute_at_most", "every_minutes")],
)
def test_the_database_refuses_a_schedule_of_nothing(constraint: str, field: str) -> None:
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        Schedule.objects.create(**{field: 0})
