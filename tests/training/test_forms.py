"""What admins may set."""

import pytest

from training.forms import LaunchForm
from training.schedule import DEFAULTS

pytestmark = pytest.mark.django_db


def test_label_smoothing_is_refused_for_a_loss_that_does_not_know_it() -> None:
    assert LaunchForm({**DEFAULTS, "label_smoothing": 0.1}).is_valid()
    assert "label_smoothing" in LaunchForm({**DEFAULTS, "label_smoothing": 0.1, "loss": "sigmoid_norm"}).errors
    assert LaunchForm({**DEFAULTS, "label_smoothing": 0, "loss": "sigmoid_norm"}).is_valid()


def test_what_the_experts_agreement_suggests_stands_beside_the_field_and_is_not_entered() -> None:
    form = LaunchForm(initial=DEFAULTS, suggested_smoothing=0.084)
    assert "experts' agreement suggests 0.08" in str(form)
    assert form["label_smoothing"].value() == 0
    assert "suggests" not in str(LaunchForm(initial=DEFAULTS))
