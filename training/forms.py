"""The admins' forms."""

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from training.models import Round, Schedule


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
            "learning_rate",
            "epochs",
            "batch_pairs",
            "seed",
        )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in ("beta", "learning_rate", "sft_weight"):
            self.fields[name].widget.attrs["step"] = "any"


class ScheduleForm(forms.ModelForm):
    class Meta:
        model = Schedule
        fields = ("enabled", "min_new_pairs", "every_minutes", "include_simulated")
