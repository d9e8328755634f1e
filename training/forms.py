"""The admins' forms."""

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from training.dpo.settings import BadSettings, DPOSettings
from training.models import LIMITS, AlarmLimits, Round


class LaunchForm(forms.ModelForm):
    """Settings of a round, within limits that hold. LoRA wants a higher learning rate than full weights."""

    beta = forms.FloatField(
        min_value=0.1, max_value=0.5, help_text=_("0.1 to 0.5: higher stays closer to the policy before")
    )
    learning_rate = forms.FloatField(
        label=_("learning rate"), min_value=1e-7, max_value=1e-2,
        help_text=_("0.000001 to 0.00005 for a real model, about ten times that for LoRA, 0.00008 for the demo writer"),
    )  # fmt: skip
    sft_weight = forms.FloatField(
        label=_("weight of the SFT term"), min_value=0, max_value=10,
        help_text=_("keeps the text from decaying; 0 is plain DPO"),
    )  # fmt: skip
    label_smoothing = forms.FloatField(
        label=_("share of pairs judged the wrong way round"), min_value=0, max_value=0.49, initial=0,
        help_text=_("0 takes each judgement at its word; 0.1 where experts often contradict each other; DPO only"),
    )  # fmt: skip
    eval_share = forms.FloatField(
        label=_("share of prompts held out of training"), min_value=0, max_value=0.5, initial=0.1,
        help_text=_("the alarms measure on them how far the policy goes; with 0 two of them cannot be measured"),
    )  # fmt: skip
    epochs = forms.IntegerField(label=_("epochs"), min_value=1, max_value=3)
    batch_pairs = forms.IntegerField(label=_("pairs in a batch"), min_value=1, max_value=512)

    class Meta:
        model = Round
        fields = (
            "include_simulated",
            "method",
            "loss",
            "beta",
            "sft_weight",
            "label_smoothing",
            "learning_rate",
            "epochs",
            "batch_pairs",
            "eval_share",
            "seed",
        )

    def __init__(self, *args: Any, suggested_smoothing: float | None = None, **kwargs: Any) -> None:
        """suggested_smoothing: the share of wrong pairs that the experts' agreement suggests."""
        super().__init__(*args, **kwargs)
        for name in ("beta", "learning_rate", "sft_weight", "label_smoothing", "eval_share"):
            self.fields[name].widget.attrs["step"] = "any"
        if suggested_smoothing is not None:
            smoothing = self.fields["label_smoothing"]
            said = _("experts' agreement suggests %(share)s") % {"share": f"{suggested_smoothing:.2f}"}
            smoothing.help_text = f"{smoothing.help_text}; {said}"

    def clean(self) -> dict[str, Any]:
        found = super().clean() or {}
        smoothing, loss = found.get("label_smoothing"), found.get("loss")
        if smoothing and loss:
            try:
                DPOSettings(loss=loss, label_smoothing=smoothing).check()
            except BadSettings:
                self.add_error("label_smoothing", _("Only the loss “DPO” knows this: choose that loss, or 0."))
        return found


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
