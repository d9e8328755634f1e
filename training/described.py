"""A round's settings in words, for people: one line each, the same for a form, a round and a command."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext as _

from annotate.models import Audience
from annotate.pairs import OVERALL
from generation.models import Language
from training.dpo.settings import BadSettings, DPOSettings
from training.launching import settings_of
from training.models import Round
from training.selection import CRITERIA, MIN_AGREEMENT, Rounds, Selection, Which
from training.templatetags.figures import plain


@dataclass(frozen=True)
class Line:
    """before: the other round's, "" if there is none."""

    name: str
    label: str
    value: str
    before: str = ""

    @property
    def differs(self) -> bool:
        return self.before not in ("", self.value)


def described(selection: Selection, settings: Mapping[str, Any]) -> list[Line]:
    """settings: columns of Round, all of them that decide the result."""
    return [*_data(selection), *_objective(settings), *_method(settings)]


def compared(ours: list[Line], others: list[Line]) -> list[Line]:
    """Our lines with the others' beside them."""
    before = {line.name: line.value for line in others}
    return [Line(line.name, line.label, line.value, before.get(line.name, "–")) for line in ours]


def lines_of(launched: Round) -> list[Line]:
    """Of a round, which may have settings that are refused today."""
    given = settings_of(launched)
    return described(Selection.of(given["selection"], simulated=given["include_simulated"]), given)


def lasting(seconds: float) -> str:
    """90 -> "1 min 30 s"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    words = _("%(hours)d h %(minutes)d min") if hours else _("%(minutes)d min %(seconds)d s")
    words = words if hours or minutes else _("%(seconds)d s")
    return words % {"hours": hours, "minutes": minutes, "seconds": rest}


def size(bytes_: float) -> str:
    """28000000 -> "28 MB"."""
    return f"{bytes_ / 1e9:.1f} GB" if bytes_ >= 1e8 else f"{math.ceil(bytes_ / 1e6)} MB"


def _data(selection: Selection) -> list[Line]:
    rounds = str(Rounds(selection.rounds).label)
    if selection.rounds == Rounds.MIX:
        rounds += f" (× {selection.older_weight:g})"
    everyone = _("people and simulated experts") if selection.simulated else _("people")
    floor = selection.min_agreement
    return [
        Line("rounds", _("judgements of"), rounds),
        Line("languages", _("languages"), _listed(selection.languages, Language)),
        Line("themes", _("themes"), ", ".join(selection.themes) or _("all")),
        Line("audiences", _("audiences"), _listed(selection.audiences, Audience)),
        Line("simulated", _("judged by"), everyone),
        Line("min_agreement", _("agreement"), f"≥ {100 * floor:g} %" if floor > MIN_AGREEMENT[0] else _("a majority")),
        Line("which", _("pairs of an order"), str(Which(selection.which).label)),
        Line("origins", _("imported pairs"), _imported(selection)),
    ]


def _imported(selection: Selection) -> str:
    if not selection.origins:
        return _("none")
    return f"{', '.join(selection.origins)} (× {selection.imported_weight:g})"


def _objective(settings: Mapping[str, Any]) -> list[Line]:
    stages = settings.get("stages") or []
    if stages:
        said = " → ".join(f"{CRITERIA[one['criterion']]} (beta {one['beta']:g})" for one in stages)
        return [Line("objective", _("trained on"), said)]
    try:
        weights = DPOSettings(objectives=settings.get("objectives", "")).objective_weights() or {OVERALL: 1.0}
    except BadSettings as error:
        return [Line("objective", _("trained on"), str(error))]
    parts = [
        f"{CRITERIA.get(name, name)}{f' × {weight:g}' if len(weights) > 1 else ''}" for name, weight in weights.items()
    ]
    return [Line("objective", _("trained on"), ", ".join(parts))]


def _method(settings: Mapping[str, Any]) -> list[Line]:
    lora = settings["method"] == "lora"
    method = str(_choice("method", settings["method"]))
    if lora:
        method += f" ({settings['lora_rank']}/{settings['lora_alpha'] or 2 * settings['lora_rank']})"
    label = {name: _label(name) for name in ("method", "loss", "reference", *NUMBERS)}
    return [
        Line("method", label["method"], method),
        Line("reference", label["reference"], str(_choice("reference", settings["reference"]))),
        Line("loss", label["loss"], str(_choice("loss", settings["loss"]))),
        *(Line(name, label[name], plain(settings[name])) for name in NUMBERS),
    ]


NUMBERS = ("beta", "sft_weight", "label_smoothing", "learning_rate", "epochs", "batch_pairs", "eval_share", "seed")


def _label(name: str) -> str:
    return str(Round._meta.get_field(name).verbose_name)  # type: ignore[union-attr]


def _choice(name: str, value: Any) -> Any:
    return dict(Round._meta.get_field(name).flatchoices).get(value, value)  # type: ignore[union-attr]


def _listed(values: tuple[str, ...], choices: Any) -> str:
    return ", ".join(str(choices(value).label) for value in values) or _("all")
