"""What an export is made of: a value that is kept as JSON, read again, and run again."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from typing import Any, Self

from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext as _

from annotate.models import Criterion, JudgementQuerySet
from annotate.pairs import OVERALL, PreferencePair, preference_judgements, preference_pairs
from generation.models import Language, Policy

CRITERIA = (OVERALL, *Criterion.values)


class BadSelection(ValueError):
    """The selection cannot be run; the message says why."""


@dataclass(frozen=True)
class Selection:
    """Which pairs, and what is told of them.

    policies: names of those whose stories are compared; empty: all. languages: of the prompts; empty: all.
    criteria: OVERALL, the ranking's, and the winners' by one of Criterion. until: of judgements first given
    at that time (ISO 8601) or before; empty: all. reasons and experts add each vote to its pair: with the reasons,
    with a pseudonym and the audience of who gave it. No account's name or address is ever among them.
    """

    policies: tuple[str, ...] = ()
    include_simulated: bool = True
    criteria: tuple[str, ...] = (OVERALL,)
    languages: tuple[str, ...] = ()
    until: str = ""
    reasons: bool = False
    experts: bool = False

    @classmethod
    def read(cls, kept: Any) -> Self:
        """The selection that `to_json` made. Raises BadSelection."""
        known = {field.name: field.default for field in fields(cls)}
        if not isinstance(kept, dict):
            raise BadSelection(_("The selection is no object of names and values."))
        found: dict[str, Any] = {}
        for name, value in kept.items():
            found[name] = tuple(value) if isinstance(value, list) else value
            if name not in known or type(found[name]) is not type(known[name]):
                raise BadSelection(
                    _("The selection holds what this version does not know: %(names)s.")
                    % {"names": f"{name} {value!r}"}
                )
        selection = cls(**found)
        selection.check()
        return selection

    def to_json(self) -> dict[str, Any]:
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    def check(self) -> None:
        """Raise BadSelection if it cannot be run."""
        if not self.criteria:
            raise BadSelection(_("Choose one criterion or more."))
        _known(self.criteria, CRITERIA, _("criterion"))
        _known(self.languages, Language.values, _("language"))
        if self.policies:
            _known(self.policies, list(Policy.objects.values_list("name", flat=True)), _("policy"))
        if self.until:
            self._until()

    def judgements(self) -> JudgementQuerySet:
        """Those that the pairs come from."""
        found = preference_judgements(include_simulated=self.include_simulated)
        if self.policies:
            found = found.filter(assignment__comparison__policy__name__in=self.policies)
        if self.languages:
            found = found.filter(assignment__comparison__prompt__language__in=self.languages)
        return found.filter(created_at__lte=self._until()) if self.until else found

    def pairs(self) -> list[PreferencePair]:
        """The pairs as judgements and stories stand now, in a fixed order."""
        by_criterion = any(criterion != OVERALL for criterion in self.criteria)
        found = preference_pairs(self.judgements(), by_criterion=by_criterion)
        return [pair for pair in found if pair.criterion in self.criteria]

    def _until(self) -> datetime:
        try:
            found = parse_datetime(self.until)
        except ValueError:
            found = None
        if found is None or found.tzinfo is None:
            raise BadSelection(
                _("“%(given)s” is no time: write it as 2026-11-23T14:35:00+00:00, with its zone.")
                % {"given": self.until}
            )
        return found


def _known(given: Sequence[str], known: Sequence[str], what: str) -> None:
    unknown = [one for one in given if one not in known]
    if unknown:
        raise BadSelection(
            _("There is no %(what)s %(name)s; there are: %(known)s.")
            % {"what": what, "name": ", ".join(map(str, unknown)), "known": ", ".join(known)}
        )
