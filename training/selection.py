"""Which preference pairs a round is trained on. It is kept on the round, so that the record says so.

The preview, launching, freezing and the command all ask here.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Self

from django.db import models
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from annotate.models import Audience, Criterion, JudgementQuerySet, Origin, OriginQuerySet
from annotate.pairs import OVERALL, Edited, PreferencePair, preference_judgements, preference_pairs, story_of
from generation.models import Language, Policy, Prompt, Story


class Rounds(models.TextChoices):
    THIS = "this", gettext_lazy("this round: stories of the policy in use")
    ALL = "all", gettext_lazy("all rounds: stories of all policies of the same base model")
    MIX = "mix", gettext_lazy("a mix: all rounds, older ones count less")


class Which(models.TextChoices):
    ALL = "all", gettext_lazy("all pairs of an order")
    ADJACENT = "adjacent", gettext_lazy("adjacent pairs: no story ranked between the two")
    EXTREMES = "extremes", gettext_lazy("best against worst only")


CRITERIA = {OVERALL: gettext_lazy("the ranking itself"), **dict(Criterion.choices)}
OLDER_WEIGHT = (0.05, 1.0)  # lowest and highest
IMPORTED_WEIGHT = (0.05, 1.0)
MIN_AGREEMENT = (0.5, 1.0)  # a majority is more than half: 0.5 leaves nothing out


class BadSelection(ValueError):
    """A part of the selection cannot be meant; `part` is its name, the message says what can."""

    def __init__(self, part: str, message: str) -> None:
        super().__init__(message)
        self.part = part


@dataclass(frozen=True)
class Selection:
    """What of the judgements a round is trained on. Empty languages, themes or audiences mean all of them.

    older_weight: in a mix, what a pair's weight is multiplied with for each round of training between its policy
    and the one in use. min_agreement: share of the experts with a preference that must share it. criteria: by what
    the pairs are judged; "overall" is the ranking itself. simulated: whether simulated experts count.

    origins: names of those whose imported pairs are trained on beside the experts'. imported_weight: what the weight
    of such a pair, 1, is multiplied with. They are pairs by "overall"; of the rest of the selection only the languages
    narrow them: they have no theme, audience, round or votes.
    """

    rounds: str = Rounds.THIS.value
    older_weight: float = 0.5
    languages: tuple[str, ...] = ()
    themes: tuple[str, ...] = ()
    audiences: tuple[str, ...] = ()
    criteria: tuple[str, ...] = (OVERALL,)
    min_agreement: float = MIN_AGREEMENT[0]
    which: str = Which.ALL.value
    simulated: bool = False
    origins: tuple[str, ...] = ()
    imported_weight: float = 1.0

    @classmethod
    def of(cls, values: "Mapping[str, Any] | Selection | None", *, simulated: bool = False) -> Self:
        """From what `as_json` gave, or from nothing. Raises BadSelection."""
        if isinstance(values, Selection):
            return cls(**{**_shallow(values), "simulated": simulated})
        values = {} if values is None else values
        if not isinstance(values, Mapping):
            raise BadSelection("selection", _("The selection must be an object of names and values."))
        known = {field.name: field for field in fields(cls) if field.name != "simulated"}
        for name in values:
            if name not in known:
                raise BadSelection(name, _("“%(name)s” is no part of a selection.") % {"name": name})
        lists = {name for name, field in known.items() if type(field.default) is tuple}
        for name in lists & set(values):
            if not isinstance(values[name], list | tuple):
                raise BadSelection(name, _("“%(name)s” must be a list.") % {"name": name})
        read: dict[str, Any] = {name: tuple(value) if name in lists else value for name, value in values.items()}
        return cls(**read, simulated=simulated).check()

    def as_json(self) -> dict[str, Any]:
        """As a round keeps it: without `simulated`, which is its column include_simulated."""
        found = asdict(self)
        del found["simulated"]
        return {name: list(value) if isinstance(value, tuple) else value for name, value in found.items()}

    def check(self) -> Self:
        """Raise BadSelection for the first part that cannot be meant; return self."""
        _one_of("rounds", (self.rounds,), Rounds.values)
        _one_of("which", (self.which,), Which.values)
        _one_of("languages", self.languages, Language.values)
        _one_of("audiences", self.audiences, Audience.values)
        _one_of("criteria", self.criteria, list(CRITERIA))
        _one_of("themes", self.themes, None)
        _one_of("origins", self.origins, None)
        if not self.criteria:
            raise BadSelection("criteria", _("Name what the pairs are judged by: at least one."))
        _within("older_weight", self.older_weight, OLDER_WEIGHT)
        _within("imported_weight", self.imported_weight, IMPORTED_WEIGHT)
        _within("min_agreement", self.min_agreement, MIN_AGREEMENT)
        return self

    def check_themes(self) -> Self:
        """Raise BadSelection for a theme that no training prompt has."""
        _one_of("themes", self.themes, known_themes()) if self.themes else None
        return self

    def check_origins(self) -> Self:
        """Raise BadSelection for an origin without imported pairs here, and where no criterion takes imported pairs.

        A round keeps the names of origins that are withdrawn after it: its record is read without this.
        """
        there = [origin.name for origin in known_origins()] if self.origins else []
        for name in self.origins:
            if name not in there:
                raise BadSelection(
                    "origins",
                    _("Imported pairs of “%(name)s” are not here, or not any more. There are: %(known)s.")
                    % {"name": name, "known": ", ".join(there) or _("none")},
                )
        if self.origins and OVERALL not in self.criteria:
            raise BadSelection(
                "origins",
                _(
                    "Imported pairs say which story is better on the whole, and nothing of other criteria: "
                    "train on the ranking itself too, or choose no imported pairs."
                ),
            )
        return self


def known_themes() -> list[str]:
    """Of the training prompts, in order."""
    return list(Prompt.objects.filter(split="train").order_by("theme").values_list("theme", flat=True).distinct())


def known_origins() -> OriginQuerySet:
    """Those whose pairs are still here, the last imported first."""
    return Origin.objects.in_use()


def _shallow(selection: Selection) -> dict[str, Any]:
    return {field.name: getattr(selection, field.name) for field in fields(selection)}


def _one_of(part: str, values: Iterable[Any], known: Iterable[str] | None) -> None:
    listed = None if known is None else list(known)
    for value in values:
        if not isinstance(value, str) or (listed is not None and value not in listed):
            raise BadSelection(
                part,
                _("%(part)s: “%(value)s” is not known. There are: %(known)s.")
                % {"part": part, "value": value, "known": ", ".join(listed or [])},
            )


def _within(part: str, value: Any, limits: tuple[float, float]) -> None:
    low, high = limits
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise BadSelection(
            part,
            _("%(part)s is %(value)s: give %(low)g to %(high)g.")
            % {"part": part, "value": value, "low": low, "high": high},
        )


def distances(policy: Policy) -> dict[int, int]:
    """How many rounds of training lie between `policy` and each policy of the same base model, by id.

    Others' stories are in no selection: their token ids mean other tokens.
    """
    near: dict[int, list[int]] = defaultdict(list)
    for pk, parent in Policy.objects.exclude(parent=None).values_list("pk", "parent_id"):
        near[pk].append(parent)
        near[parent].append(pk)
    found, reached = {policy.pk: 0}, [policy.pk]
    for pk in reached:  # grows as it is gone through
        for other in near[pk]:
            if other not in found:
                found[other] = found[pk] + 1
                reached.append(other)
    return found


def judgements(selection: Selection, policy: Policy) -> JudgementQuerySet:
    """The judgements that the selection's pairs are made of. policy: the one in use."""
    this = selection.rounds == Rounds.THIS
    found = preference_judgements(policy=policy if this else None, include_simulated=selection.simulated)
    if not this:
        found = found.filter(assignment__comparison__policy__in=distances(policy))
    if selection.languages:
        found = found.filter(assignment__comparison__prompt__language__in=selection.languages)
    if selection.themes:
        found = found.filter(assignment__comparison__prompt__theme__in=selection.themes)
    if selection.audiences:
        found = found.filter(assignment__expert__audience__in=selection.audiences)
    return found


def pairs(selection: Selection, policy: Policy) -> list[PreferencePair]:
    """The pairs that a round from `policy` is trained on, in a fixed order."""
    return narrowed(selection, _judged_pairs(selection, policy), distances(policy))


def _judged_pairs(selection: Selection, policy: Policy) -> list[PreferencePair]:
    by_criterion = selection.criteria != (OVERALL,)
    return preference_pairs(judgements(selection, policy), by_criterion=by_criterion)


def narrowed(
    selection: Selection, found: Iterable[PreferencePair], distance: Mapping[int, int]
) -> list[PreferencePair]:
    """What the selection keeps of pairs, wherever they come from, with the weight that it gives them.

    distance: of policies, by id (see distances). The agreement floor comes last: it removes no story from the
    order that decides which pairs are adjacent.
    """
    wanted = [pair for pair in found if pair.criterion in selection.criteria]
    kept = [pair for pair in _which(selection.which, wanted) if agreement_of(pair) >= selection.min_agreement]
    if selection.rounds != Rounds.MIX:
        return kept
    return [_faded(pair, selection.older_weight ** distance[story_of(pair.chosen).policy_id]) for pair in kept]


def _faded(pair: PreferencePair, factor: float) -> PreferencePair:
    return pair if factor == 1 else replace(pair, factor=pair.factor * factor)


def agreement_of(pair: PreferencePair) -> float:
    """Share of the experts who prefer one of the two stories that prefer the chosen one; above 0.5."""
    return pair.judgements_for / (pair.judgements_for + pair.judgements_against)


def _which(which: str, found: list[PreferencePair]) -> list[PreferencePair]:
    """Of each prompt's pairs by each criterion: all, those with no story between the two, or those of a story that
    none beats and one that beats none. After the votes are counted: it is the experts' common order."""
    if which == Which.ALL:
        return found
    beaten: dict[Any, set[Story | Edited]] = defaultdict(set)  # by (criterion, story): the stories below it
    beating: dict[Any, set[Story | Edited]] = defaultdict(set)  # and those above
    for pair in found:
        beaten[pair.criterion, pair.chosen].add(pair.rejected)
        beating[pair.criterion, pair.rejected].add(pair.chosen)
    if which == Which.ADJACENT:
        return [p for p in found if not beaten[p.criterion, p.chosen] & beating[p.criterion, p.rejected]]
    return [p for p in found if not beating[p.criterion, p.chosen] and not beaten[p.criterion, p.rejected]]
