"""The admins' forms."""

from collections.abc import Mapping
from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from annotate.models import Audience, Origin
from annotate.pairs import OVERALL
from generation.models import Language
from training.dpo.settings import DPOSettings
from training.launching import MOST_STAGES, CannotLaunch, check_settings
from training.limits import HIGHEST_BETA, SETTING_LIMITS
from training.models import LIMITS, REFERENCES, AlarmLimits, Round
from training.selection import (
    CRITERIA,
    IMPORTED_WEIGHT,
    MIN_AGREEMENT,
    OLDER_WEIGHT,
    Rounds,
    Selection,
    Which,
    known_origins,
    known_themes,
)
from training.templatetags.figures import plain


def _number(name: str, label: Any, help_text: Any = "", **options: Any) -> forms.FloatField:
    """A number within a round's limits; the widest, where they depend on the loss."""
    low, high = SETTING_LIMITS[name]
    high = max(high, *HIGHEST_BETA.values()) if name == "beta" else high
    widget = forms.NumberInput(attrs={"step": "any"})
    return forms.FloatField(
        label=label, min_value=low, max_value=high, help_text=help_text, widget=widget, **options
    )  # fmt: skip


def _whole(name: str, label: Any, help_text: Any = "", **options: Any) -> forms.IntegerField:
    low, high = (int(limit) for limit in SETTING_LIMITS[name])
    return forms.IntegerField(label=label, min_value=low, max_value=high, help_text=help_text, **options)


ALL = _("none chosen: all")


def _any_of(label: Any, choices: Any = (), help_text: Any = ALL) -> forms.MultipleChoiceField:
    widget = forms.CheckboxSelectMultiple
    return forms.MultipleChoiceField(
        label=label, choices=choices, required=False, widget=widget, help_text=help_text
    )  # fmt: skip


def _share(label: Any, limits: tuple[float, float], initial: float, help_text: Any) -> forms.FloatField:
    widget = forms.NumberInput(attrs={"step": "any"})
    low, high = limits
    return forms.FloatField(
        label=label, min_value=low, max_value=high, initial=initial, help_text=help_text, widget=widget, required=False
    )


def _of_origin(origin: Origin) -> str:
    said = ngettext("%(n)d pair", "%(n)d pairs", origin.count) % {"n": origin.count}
    return f"{origin.name} ({said}, {origin.get_language_display()}, {origin.licence})"


WEIGHTS = {criterion: f"weight_{criterion}" for criterion in CRITERIA}
STAGES = [(f"stage_{place}", f"stage_beta_{place}") for place in range(1, MOST_STAGES + 1)]
FIELD_OF = {"rounds": "data_rounds", "which": "which_pairs", "objectives": "objective", "stages": "objective"}


class LaunchForm(forms.ModelForm):
    """Settings of a round and the selection of its pairs, within limits that hold (training/launching.py).

    What is not sent is what the house ships: only the numbers of the training itself must be there.
    """

    data_rounds = forms.ChoiceField(label=_("judgements of"), choices=Rounds.choices, required=False)
    older_weight = _share(
        _("weight of older rounds"), OLDER_WEIGHT, 0.5,
        _("in a mix: 0.5 makes the pairs of one round before count half, those of two rounds before a quarter"),
    )  # fmt: skip
    languages = _any_of(_("Languages"), Language.choices)
    audiences = _any_of(_("Experts who are"), Audience.choices)
    themes = _any_of(_("Themes"))
    min_agreement = _share(
        _("share of experts who must agree on a pair"), MIN_AGREEMENT, MIN_AGREEMENT[0],
        _("0.5 is any majority, 1 all of those who prefer one; a single expert always agrees"),
    )  # fmt: skip
    origins = _any_of(_("Imported pairs, beside the experts'"), help_text=_("none chosen: none"))
    imported_weight = _share(
        _("weight of imported pairs"), IMPORTED_WEIGHT, IMPORTED_WEIGHT[1],
        _("1 counts one as much as a pair on which all experts agree, 0.5 half as much"),
    )  # fmt: skip
    which_pairs = forms.ChoiceField(label=_("pairs of an order"), choices=Which.choices, required=False)
    objective = forms.ChoiceField(
        label=_("train on"), required=False,
        choices=[
            ("overall", _("the ranking itself")),
            ("weights", _("several criteria at once, each with a weight")),
            ("stages", _("one criterion after the other, in stages")),
        ],
    )  # fmt: skip
    beta = _number(
        "beta", "beta", _("0.1 to 0.5 (averaged over the length: to 10): higher stays closer to the reference")
    )
    learning_rate = _number(
        "learning_rate", _("learning rate"),
        _("0.000001 to 0.00005 for a real model, about ten times that for LoRA, 0.00008 for the demo writer"),
    )  # fmt: skip
    sft_weight = _number(
        "sft_weight", _("weight of the SFT term"), _("keeps the text from decaying; 0 is plain DPO")
    )  # fmt: skip
    label_smoothing = forms.FloatField(
        label=_("share of pairs judged the wrong way round"), min_value=0, max_value=0.49, initial=0,
        help_text=_("0 takes each judgement at its word; 0.1 where experts often disagree; for DPO and robust DPO"),
        widget=forms.NumberInput(attrs={"step": "any", "list": "smoothing"}),
    )  # fmt: skip
    eval_share = forms.FloatField(
        label=_("share of prompts held out of training"), min_value=0, max_value=0.5, initial=0.1,
        help_text=_("the alarms measure on them how far the policy goes; with 0 two of them cannot be measured"),
        widget=forms.NumberInput(attrs={"step": "any"}),
    )  # fmt: skip
    epochs = _whole("epochs", _("epochs"), _("1 to 3"))
    batch_pairs = _whole("batch_pairs", _("pairs in a batch"))
    reference = forms.ChoiceField(
        label=_("reference"), choices=REFERENCES, required=False,
        help_text=_("what beta holds the policy to; stages always take the first"),
    )  # fmt: skip
    lora_rank = _whole("lora_rank", _("LoRA rank"), required=False)
    lora_alpha = _whole("lora_alpha", _("LoRA alpha"), _("0: twice the rank"), required=False)

    class Meta:
        model = Round
        fields = (
            "include_simulated", "method", "lora_rank", "lora_alpha", "reference", "loss", "beta", "sft_weight",
            "label_smoothing", "learning_rate", "epochs", "batch_pairs", "eval_share", "seed",
        )  # fmt: skip

    def __init__(self, *args: Any, suggested_smoothing: float | None = None, **kwargs: Any) -> None:
        """suggested_smoothing: the share of wrong pairs that the experts' agreement suggests."""
        super().__init__(*args, **kwargs)
        self.suggested_smoothing = suggested_smoothing
        self.fields["themes"].choices = [(theme, theme) for theme in known_themes()]  # type: ignore[attr-defined]
        self._offer_origins()
        for criterion, name in WEIGHTS.items():
            self.fields[name] = _share(CRITERIA[criterion], (0, 10), 1 if criterion == OVERALL else 0, "")
        for number, (stage, beta) in enumerate(STAGES, start=1):
            said = {"number": number}
            choices = [("", _("none")), *CRITERIA.items()]
            self.fields[stage] = forms.ChoiceField(label=_("stage %(number)d") % said, choices=choices, required=False)
            self.fields[beta] = _number(
                "beta", _("beta of stage %(number)d") % said, _("empty: the round's"), required=False
            )
        if suggested_smoothing is not None:
            smoothing = self.fields["label_smoothing"]
            suggests = _("experts' agreement suggests %(share)s") % {"share": f"{suggested_smoothing:.2f}"}
            smoothing.help_text = f"{smoothing.help_text}; {suggests}"

    def _offer_origins(self) -> None:
        field = self.fields["origins"]
        field.choices = [(one.name, _of_origin(one)) for one in known_origins()]  # type: ignore[attr-defined]
        field.error_messages["invalid_choice"] = _(
            "Imported pairs of “%(value)s” are not here, or not any more: choose anew."
        )

    @property
    def about_imported(self) -> tuple[str, ...]:
        """Fields to draw: none where there is no origin, unless one was asked for that is not here."""
        there = self.fields["origins"].choices or self["origins"].errors  # type: ignore[attr-defined]
        return ("origins", "imported_weight") if there else ()

    def clean(self) -> dict[str, Any]:
        found = super().clean() or {}
        for name, value in SHIPPED.items():
            if found.get(name) in (None, ""):
                found[name] = value
        self.cleaned_data = found
        if found.get("label_smoothing") and found.get("loss") not in (None, "sigmoid", "robust"):
            self.add_error("label_smoothing", _("Only “DPO” and “robust DPO” know this: choose one of them, or 0."))
        if not self.errors:
            self._check()
        return found

    def _check(self) -> None:
        settings = self.settings()
        objective = self.cleaned_data["objective"]
        if objective == "weights" and not self._weights():
            return self.add_error("objective", _("Give a weight above 0 to one criterion or more."))
        if objective == "stages" and not settings["stages"]:
            return self.add_error("objective", _("Choose a criterion for one stage or more."))
        try:
            check_settings(**settings)
        except CannotLaunch as error:
            name = FIELD_OF.get(error.part, error.part)
            self.add_error(name if name in self.fields else None, str(error))

    def settings(self) -> dict[str, Any]:
        """What `launch_round` takes. Only of a form without errors."""
        found = self.cleaned_data
        stages = self._stages() if found["objective"] == "stages" else []
        weights = self._weights() if found["objective"] == "weights" else {}
        alike = weights == {OVERALL: 1}
        return {
            **{name: found[name] for name in self._meta.fields or ()},
            "objectives": "" if alike else ",".join(f"{name}={weight:g}" for name, weight in weights.items()),
            "stages": stages,
            "selection": {
                "rounds": found["data_rounds"],
                "older_weight": found["older_weight"],
                "languages": found["languages"],
                "themes": found["themes"],
                "audiences": found["audiences"],
                "min_agreement": found["min_agreement"],
                "which": found["which_pairs"],
                "origins": found["origins"],
                "imported_weight": found["imported_weight"],
            },
        }

    def _weights(self) -> dict[str, float]:
        found = {criterion: self.cleaned_data.get(name) for criterion, name in WEIGHTS.items()}
        return {criterion: weight for criterion, weight in found.items() if weight}

    def _stages(self) -> list[dict[str, Any]]:
        found = self.cleaned_data
        return [
            {"criterion": found[stage], "beta": found.get(beta) or found["beta"]}
            for stage, beta in STAGES
            if found.get(stage)
        ]


SHIPPED = {
    "data_rounds": Rounds.THIS.value, "older_weight": 0.5, "min_agreement": MIN_AGREEMENT[0], "lora_alpha": 0,
    "which_pairs": Which.ALL.value, "objective": "overall", "reference": "policy", "lora_rank": 16,
    "imported_weight": IMPORTED_WEIGHT[1],
}  # fmt: skip


def filled(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What a fresh LaunchForm shows for what `launch_round` takes."""
    selection = Selection.of(settings.get("selection"))
    stages, objectives = settings.get("stages") or [], settings.get("objectives") or ""
    weights = DPOSettings(objectives=objectives).objective_weights()
    found = {name: settings[name] for name in LaunchForm.Meta.fields if name in settings}
    found |= {"objective": "stages" if stages else "weights" if weights else "overall"}
    if weights:
        found |= {name: weights.get(criterion, 0) for criterion, name in WEIGHTS.items()}
    for (stage, beta), value in zip(STAGES, stages, strict=False):
        found |= {stage: value["criterion"], beta: value["beta"]}
    return {
        **found,
        "learning_rate": plain(settings["learning_rate"]),
        "data_rounds": selection.rounds,
        "older_weight": selection.older_weight,
        "languages": list(selection.languages),
        "themes": list(selection.themes),
        "audiences": list(selection.audiences),
        "min_agreement": selection.min_agreement,
        "which_pairs": selection.which,
        "origins": list(selection.origins),
        "imported_weight": selection.imported_weight,
    }


class AlarmLimitsForm(forms.ModelForm):
    """Where alarms begin; an empty field is not watched."""

    class Meta:
        model = AlarmLimits
        fields = tuple(LIMITS)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name, highest in LIMITS.items():
            self.fields[name].widget.attrs |= {"step": "any", "min": "0", "max": str(highest)}

    def clean(self) -> dict[str, Any]:
        found = super().clean() or {}
        for name, highest in LIMITS.items():
            value = found.get(name)
            if value is not None and not 0 < value <= highest:
                self.add_error(
                    name,
                    _("Give a number above 0 and up to %(highest)d, or nothing: then it is not watched.")
                    % {"highest": highest},
                )
        return found
