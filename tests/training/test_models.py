"""What must always hold is a database constraint: each is broken here once."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from tests.factories import make_policy
from training.limits import SETTING_LIMITS
from training.models import (
    LIMITS,
    Alarm,
    AlarmLimits,
    Delivery,
    Destination,
    PromotionRule,
    Proposal,
    Round,
    RoundMetric,
    Schedule,
    State,
    Watched,
)
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
        ("round_refusal_says_why", {"refused_at": timezone.now()}),
        ("round_goes_on_with_its_checkpoint", {"state": State.TRAINING, "checkpoint_deleted_at": timezone.now()}),
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


@pytest.mark.parametrize(
    ("constraint", "fields"),
    [
        ("schedule_wants_pairs", {"min_new_pairs": 0}),
        ("schedule_every_minute_at_most", {"every_minutes": 0}),
        ("schedule_when_known", {"when": "never"}),
        ("schedule_act_known", {"act": "sing"}),
        ("schedule_weekly_says_when", {"when": "weekly", "weekdays": [7]}),
        ("schedule_weekly_says_when", {"when": "weekly", "at": "02:00"}),
        ("schedule_weekdays_of_a_week", {"weekdays": [8]}),
        ("schedule_agreement_has_a_floor", {"agreement_by": "alpha"}),
        ("schedule_agreement_has_a_floor", {"agreement_by": "alpha", "agreement_floor": 1.5}),
        ("schedule_agreement_has_a_floor", {"agreement_by": "share", "agreement_floor": float("nan")}),
        ("schedule_agreement_has_a_floor", {"agreement_floor": 0.5}),
        ("schedule_settings_of_something", {"settings_of": "round"}),
    ],
)
def test_the_database_refuses_a_schedule_that_means_nothing(constraint: str, fields: dict[str, Any]) -> None:
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        Schedule.objects.create(**fields)


def test_the_database_refuses_a_second_promotion_rule_and_a_second_open_proposal() -> None:
    PromotionRule.objects.create()
    with pytest.raises(IntegrityError, match="promotion_rule_only_one"), transaction.atomic():
        PromotionRule.objects.create()
    values = {"policy": make_policy(), "round_settings": {}, "pairs": 3}
    Proposal.objects.create(**values)
    with pytest.raises(IntegrityError, match="proposal_one_open"), transaction.atomic():
        Proposal.objects.create(**values)


HOOK = {"channel": "webhook", "url": "https://example.org", "secret": "x"}


@pytest.mark.parametrize(
    ("constraint", "fields"),
    [
        ("destination_is_one_or_the_other", {"channel": "email"}),
        ("destination_is_one_or_the_other", {**HOOK, "url": "ftp://example.org"}),
        ("destination_is_one_or_the_other", {**HOOK, "secret": ""}),
        ("destination_is_one_or_the_other", {**HOOK, "channel": "pigeon"}),
        ("destination_events_known", {**HOOK, "events": ["noise"]}),
    ],
)
def test_the_database_refuses_a_destination_that_is_none(constraint: str, fields: dict[str, Any]) -> None:
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        Destination.objects.create(**fields)


def test_the_database_refuses_a_webhook_twice() -> None:
    Destination.objects.create(**HOOK)
    with pytest.raises(IntegrityError, match="destination_url_once"), transaction.atomic():
        Destination.objects.create(**HOOK)


@pytest.mark.parametrize(
    ("constraint", "fields"),
    [
        ("delivery_once_an_event", {}),
        ("delivery_event_known", {"event": "noise"}),
        ("delivery_of_what_it_tells", {"event": "test"}),
        ("delivery_of_what_it_tells", {"event": "proposed"}),
        ("delivery_of_what_it_tells", {"round": None}),
        ("delivery_sent_when", {"event": "ended", "state": "sent"}),
        ("delivery_sent_when", {"event": "ended", "state": "lost"}),
    ],
)
def test_the_database_refuses_a_delivery_that_breaks(constraint: str, fields: dict[str, Any]) -> None:
    found = make_round()
    values = {"destination": Destination.objects.create(**HOOK), "round": found, "event": "failed"}
    values["happened_at"] = found.created_at
    Delivery.objects.create(**values)
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        Delivery.objects.create(**{**values, **fields})


def test_the_database_refuses_to_tell_of_a_proposal_twice() -> None:
    proposal = Proposal.objects.create(policy=make_policy(), round_settings={}, pairs=3)
    values = {"destination": Destination.objects.create(**HOOK), "proposal": proposal, "event": "proposed"}
    Delivery.objects.create(**values)
    with pytest.raises(IntegrityError, match="delivery_once_a_proposal"), transaction.atomic():
        Delivery.objects.create(**values, happened_at=proposal.created_at)


def test_a_round_remembers_since_when_it_is_in_its_state() -> None:
    found = make_round()
    Round.objects.update(state_since=found.created_at - timedelta(hours=1))
    Round.objects.filter(pk=found.pk).update(state=State.QUEUED, done=1)
    assert Round.objects.get().state_since == found.created_at - timedelta(hours=1)
    Round.objects.filter(pk=found.pk).update(state=State.TRAINING)
    assert Round.objects.get().state_since >= found.created_at
