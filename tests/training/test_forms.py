"""What admins may set."""

import pytest

from tests.factories import make_prompt
from training.forms import LaunchForm, filled
from training.launching import check_settings
from training.schedule import DEFAULTS
from training.selection import Selection

pytestmark = pytest.mark.django_db


def given(**settings: object) -> dict:
    """What `launch_round` would be given, from a form that was filled with these settings and sent."""
    form = LaunchForm(filled({**DEFAULTS, **settings}))
    assert form.is_valid(), form.errors
    return form.settings()


def test_label_smoothing_is_refused_for_a_loss_that_does_not_know_it() -> None:
    assert LaunchForm({**DEFAULTS, "label_smoothing": 0.1}).is_valid()
    assert LaunchForm({**DEFAULTS, "label_smoothing": 0.1, "loss": "robust"}).is_valid()
    assert "label_smoothing" in LaunchForm({**DEFAULTS, "label_smoothing": 0.1, "loss": "sigmoid_norm"}).errors
    assert LaunchForm({**DEFAULTS, "label_smoothing": 0, "loss": "sigmoid_norm"}).is_valid()


def test_what_the_experts_agreement_suggests_stands_beside_the_field_and_is_not_entered() -> None:
    form = LaunchForm(initial=DEFAULTS, suggested_smoothing=0.084)
    assert "experts' agreement suggests 0.08" in str(form)
    assert form["label_smoothing"].value() == 0
    assert "suggests" not in str(LaunchForm(initial=DEFAULTS))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"objectives": "structure=1,creativity=0.5"},
        {"objectives": "overall=0.5,language_fit=0.123"},
        {"stages": [{"criterion": "structure", "beta": 0.2}, {"criterion": "educational_value", "beta": 0.15}]},
        {"method": "lora", "lora_rank": 32, "lora_alpha": 8, "reference": "base", "loss": "ipo", "seed": 7},
        {"loss": "sigmoid_norm", "beta": 4.0},
        {
            "selection": Selection(
                rounds="mix", older_weight=0.3, languages=("zh",), themes=("courage",), audiences=("parent",),
                min_agreement=0.7, which="extremes",
            ).as_json()
        },
    ],
)  # fmt: skip
def test_a_form_filled_with_settings_gives_them_back(settings: dict) -> None:
    make_prompt()
    wanted = check_settings(**{**DEFAULTS, **settings}, include_simulated=False)
    found = given(**settings)
    selection, values = check_settings(**found)
    assert selection == wanted[0]
    assert {name: values[name] for name in wanted[1]} == wanted[1]


def test_what_is_not_sent_is_as_shipped() -> None:
    numbers = {name: value for name, value in DEFAULTS.items() if name not in ("selection", "stages", "objectives")}
    for name in ("reference", "lora_rank", "lora_alpha"):
        del numbers[name]
    form = LaunchForm(numbers)
    assert form.is_valid(), form.errors
    assert form.settings() == given()


def test_the_ranking_alone_is_no_objective_of_several() -> None:
    form = LaunchForm({**filled(DEFAULTS), "objective": "weights", "weight_overall": 1})
    assert form.is_valid()
    assert form.settings()["objectives"] == ""


def test_a_stage_without_a_beta_has_the_rounds() -> None:
    form = LaunchForm({**filled(DEFAULTS), "objective": "stages", "stage_2": "engagement", "beta": 0.3})
    assert form.is_valid()
    assert form.settings()["stages"] == [{"criterion": "engagement", "beta": 0.3}]


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("objective", {"objective": "weights", "weight_overall": 0}),
        ("objective", {"objective": "stages"}),
        ("objective", {"objective": "stages", "stage_1": "structure", "stage_3": "structure"}),
        ("stage_beta_1", {"objective": "stages", "stage_1": "structure", "stage_beta_1": 0.01}),
        ("reference", {"objective": "stages", "stage_1": "structure", "reference": "base"}),
        ("weight_structure", {"objective": "weights", "weight_structure": 11}),
        ("beta", {"beta": 0.7}),
        ("learning_rate", {"learning_rate": 0.02}),
        ("themes", {"themes": ["corage"]}),
        ("older_weight", {"older_weight": 0}),
        ("min_agreement", {"min_agreement": 1.1}),
        ("lora_rank", {"lora_rank": 0}),
    ],
)
def test_a_fault_is_said_at_its_field(field: str, changes: dict) -> None:
    form = LaunchForm({**filled(DEFAULTS), **changes})
    assert not form.is_valid()
    assert list(form.errors) == [field]
