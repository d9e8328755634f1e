"""What is checked before a round is launched, and before it is only tried (a dry run)."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext as _

from annotate.imports import NoTemplate, template_of
from annotate.pairs import OVERALL, PreferencePair
from generation.models import Policy
from training import imported
from training import selection as selections
from training.dpo.settings import BadSettings, DPOSettings
from training.limits import REFERENCES, SETTING_LIMITS, limits_of
from training.models import Round
from training.selection import CRITERIA, BadSelection, Selection
from training.templatetags.figures import plain

TRAINER_SETTINGS = (
    "method", "loss", "beta", "sft_weight", "label_smoothing", "learning_rate", "epochs", "batch_pairs", "eval_share",
    "seed", "objectives", "lora_rank", "lora_alpha",
)  # fmt: skip
MOST_STAGES = 3


class CannotLaunch(ValueError):
    """A round cannot be launched now; the message says why and what to do. part: the setting that is wrong, if one
    is."""

    def __init__(self, message: str, part: str = "") -> None:
        super().__init__(message)
        self.part = part


@dataclass(frozen=True)
class Launch:
    """A round that could begin now. settings: columns of Round, without the selection."""

    policy: Policy
    selection: Selection
    settings: dict[str, Any]
    pairs: list[PreferencePair]


def settings_of(launched: Round) -> dict[str, Any]:
    """What `launch_round` was given for that round, but for who launched it."""
    names = (*TRAINER_SETTINGS, "stages", "reference", "selection", "include_simulated")
    return {name: getattr(launched, name) for name in names}


def criteria_of(objectives: str, stages: list[dict[str, Any]]) -> tuple[str, ...]:
    """By what the pairs must be judged that these train on. Raises BadSettings."""
    if stages:
        return tuple(dict.fromkeys(str(stage["criterion"]) for stage in stages))
    return tuple(DPOSettings(objectives=objectives).objective_weights()) or (OVERALL,)


def check_settings(
    *, include_simulated: bool = False, selection: Mapping[str, Any] | Selection | None = None, **settings: Any
) -> tuple[Selection, dict[str, Any]]:
    """The selection, by the criteria that the settings train on, and the settings. Raises CannotLaunch.

    It asks nothing of the judgements: that is `prepare`'s part.
    """
    stages = settings.get("stages", [])
    try:
        _check_names(settings)
        _check_limits(settings)
        _check_stages(settings, stages)
        DPOSettings(**_of_trainer(settings)).check()
        for stage in trainer_stages(stages):
            DPOSettings(**{**_of_trainer(settings), "objectives": stage["objectives"]}).check()
        chosen = Selection.of(selection, simulated=include_simulated)
        criteria = criteria_of(settings.get("objectives", ""), stages)
        chosen = Selection.of({**chosen.as_json(), "criteria": criteria}, simulated=include_simulated)
        return chosen.check_themes().check_origins(), settings
    except BadSelection as error:
        raise CannotLaunch(str(error), error.part) from error
    except (BadSettings, TypeError) as error:
        raise CannotLaunch(str(error), str(error).split(" ", 1)[0]) from error


def prepare(**settings: Any) -> Launch:
    """All that a round from the policy in use needs, or CannotLaunch. Nothing is written.

    settings: as `launch_round` takes them.
    """
    policy = Policy.objects.current()
    if policy is None:
        raise CannotLaunch(_("There is no policy yet: run “make demo”, or register a base model first."))
    if other := Round.objects.undecided().first():
        raise not_over(other)
    selection, checked = check_settings(**settings)
    pairs = selections.pairs(selection, policy)
    check_pairs(selection, policy, {pair.criterion for pair in pairs})
    return Launch(policy, selection, checked, pairs)


def not_over(other: Round) -> CannotLaunch:
    return CannotLaunch(
        _("Round %(number)d is not over: wait for it, or promote, reject or cancel it first.")
        % {"number": other.number}
    )


def check_pairs(selection: Selection, policy: Policy, there: Collection[str]) -> None:
    """Raise CannotLaunch, with what to do, if the selection has no pair by one of its criteria, or if its imported
    pairs cannot be trained on. there: criteria that it has experts' pairs of."""
    missing = [criterion for criterion in selection.criteria if criterion not in there]
    if not missing:
        return _check_imported(selection, policy)
    if there or missing[0] != OVERALL:
        raise CannotLaunch(
            _(
                "No pairs are judged by “%(criterion)s” in this selection: have experts asked for it (Judging), "
                "train on the ranking itself, or widen the selection."
            )
            % {"criterion": CRITERIA[missing[0]]},
            "objectives",
        )
    everyone = Selection(simulated=selection.simulated)
    if selections.pairs(everyone, policy):
        raise CannotLaunch(
            _(
                "The selection leaves no pair over: choose more languages, themes or audiences, a lower agreement, "
                "or all rounds."
            )
            + _alone(selection),
            "selection",
        )
    words = _("There are no preference pairs for %(policy)s yet: experts have to rank stories first.")
    if not selection.simulated and selections.pairs(Selection(simulated=True), policy):
        words += " " + _("Simulated experts have ranked some: they count only if you say so.")
    raise CannotLaunch(words % {"policy": policy.name} + _alone(selection))


def _alone(selection: Selection) -> str:
    """To whom imported pairs seemed enough."""
    words = _("Imported pairs alone make no round: it is the experts' taste that a policy learns here.")
    return f" {words}" if selection.origins else ""


def _check_imported(selection: Selection, policy: Policy) -> None:
    """Raise CannotLaunch if the origins have no pair to train on, or if it is not known how `policy` is asked."""
    if not selection.origins:
        return
    if not imported.counts(selection):
        raise CannotLaunch(
            _(
                "The imported pairs that are chosen leave none to train on: they are of other languages than the "
                "selection, or of several turns. Choose others, or none."
            ),
            "origins",
        )
    try:
        if imported.chosen(selection).filter(rendered=False).exists():
            template_of(policy)
    except NoTemplate as error:
        raise CannotLaunch(str(error), "origins") from error


def trainer_stages(stages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """As the trainer's --config takes them."""
    return [{"name": one["criterion"], "objectives": f"{one['criterion']}=1", "beta": one["beta"]} for one in stages]


def _of_trainer(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: settings[name] for name in TRAINER_SETTINGS if name in settings}


def _check_names(settings: Mapping[str, Any]) -> None:
    known = {*TRAINER_SETTINGS, "stages", "reference"}
    for name in settings:
        if name not in known:
            raise CannotLaunch(_("“%(name)s” is no setting of a round.") % {"name": name}, name)
    if settings.get("reference", "policy") not in REFERENCES:
        raise CannotLaunch(_("reference must be “policy” or “base”."), "reference")


def _check_limits(settings: Mapping[str, Any]) -> None:
    loss = str(settings.get("loss", "sigmoid"))
    for name in SETTING_LIMITS.keys() & settings.keys():
        check_limit(name, settings[name], loss)


def check_limit(name: str, value: Any, loss: str, part: str = "") -> None:
    low, high = limits_of(name, loss)
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        words = _("%(name)s is %(value)s: give %(low)s to %(high)s.")
        said = {"name": name, "value": value, "low": plain(low), "high": plain(high)}
        raise CannotLaunch(words % said, part or name)


def _check_stages(settings: Mapping[str, Any], stages: Any) -> None:
    if not isinstance(stages, list) or len(stages) > MOST_STAGES:
        raise CannotLaunch(_("Stages must be a list of %(most)d at most.") % {"most": MOST_STAGES}, "stages")
    for stage in stages:
        if not isinstance(stage, dict) or set(stage) != {"criterion", "beta"} or stage["criterion"] not in CRITERIA:
            raise CannotLaunch(
                _("A stage has a criterion and a beta; the criteria are %(known)s.") % {"known": ", ".join(CRITERIA)},
                "stages",
            )
        check_limit("beta", stage["beta"], str(settings.get("loss", "sigmoid")), "stages")
    if len({stage["criterion"] for stage in stages}) < len(stages):
        raise CannotLaunch(_("Each stage needs a criterion of its own."), "stages")
    if stages and settings.get("objectives"):
        raise CannotLaunch(_("Give weights of criteria or stages, not both: a stage has one criterion."), "stages")
    if stages and settings.get("reference", "policy") != "policy":
        raise CannotLaunch(
            _("In stages each one's reference is the policy that it begins with: choose that reference."), "reference"
        )
