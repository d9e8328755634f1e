"""How often experts prefer one policy's stories to another's, with an honest interval."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from django.conf import settings
from django.db.models import F, QuerySet
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from annotate.intervals import interval
from annotate.models import Audience, Comparison, Criterion, CriterionWinner, Judgement, Rank
from generation.models import Language, Policy

WIN, TIE, LOSS = 1.0, 0.5, 0.0
SHARE_OF_MORE = 20  # more judgements than so many times those that are there are not called a plan


@dataclass(frozen=True)
class Outcome:
    """One judgement of an evaluation comparison: score 1 if the new policy won, 0.5 for a tie, else 0."""

    prompt: int
    expert: int
    score: float
    simulated: bool
    judgement: int = 0
    language: str = ""
    theme: str = ""
    story_type: str = ""
    age_band: str = ""
    audience: str = ""


@dataclass(frozen=True)
class WinRate:
    """(wins + ties/2) / n, 0-1, with a 95 % interval; None without any judgement.

    judges: whose judgements they are: experts, or sessions of children who listened.
    """

    n: int
    simulated: int
    judges: int
    rate: float | None
    low: float | None
    high: float | None

    @property
    def enough(self) -> bool:
        """Judgements above the floor, of two judges or more: one alone shows nothing of how they differ."""
        return self.n >= settings.MIN_JUDGEMENTS_FOR_WIN_RATE and self.judges > 1

    @property
    def missing(self) -> int:
        """Judgements still wanted before the figure is shown."""
        return max(settings.MIN_JUDGEMENTS_FOR_WIN_RATE - self.n, 0)

    @property
    def decided(self) -> bool:
        """The interval leaves out a half: one of the two is better."""
        return self.enough and self.low is not None and self.high is not None and not self.low <= 0.5 <= self.high

    @property
    def more_to_decide(self) -> int | None:
        """About how many more judgements, on more prompts and by more experts, would leave a half outside the
        interval if the rate stayed what it is (its width falls with the root of n). 0: decided; None: too many
        to plan with, or nothing to reckon from. Below the floor, at least what is missing. After as many the odds
        are about even that it is decided: the rate will not stay what it is."""
        if self.decided:
            return 0
        planned = self._planned()
        return planned if self.enough else max(self.missing, planned or 0) or None

    def _planned(self) -> int | None:
        if self.judges < 2 or self.rate is None or self.low is None or self.high is None:
            return None
        reach = self.rate - self.low if self.rate > 0.5 else self.high - self.rate
        lead = abs(self.rate - 0.5)
        if not lead or (reach / lead) ** 2 > SHARE_OF_MORE:
            return None
        return max(math.ceil(self.n * ((reach / lead) ** 2 - 1)), 1)

    @property
    def percent(self) -> int:
        return round(100 * (self.rate or 0))

    @property
    def percent_low(self) -> int:
        return round(100 * (self.low or 0))

    @property
    def percent_high(self) -> int:
        return round(100 * (self.high or 0))

    def as_dict(self) -> dict[str, float | int | None]:
        return {"rate": self.rate, "low": self.low, "high": self.high, "n": self.n}


@dataclass(frozen=True)
class Part:
    """The win rate of one part of the judgements. `filters` name the part in the address of its judgements."""

    label: str | Promise
    filters: dict[str, str]
    rate: WinRate


@dataclass(frozen=True)
class Dimension:
    """The judgements, parted by what they are about or by whom they are."""

    name: str
    label: str | Promise
    parts: list[Part]


class Contest:
    """All judgements of `policy` against `baseline`, read once."""

    def __init__(self, policy: Policy, baseline: Policy) -> None:
        self.policy, self.baseline = policy, baseline

    @cached_property
    def overall(self) -> list[Outcome]:
        return outcomes(self.policy, self.baseline)

    @cached_property
    def by_criterion(self) -> dict[str, list[Outcome]]:
        return criterion_outcomes(self.policy, self.baseline, self.overall)

    def rate(self, *, people: bool = False) -> WinRate:
        """The win rate; by people alone, without simulated experts, if `people`."""
        return rate_of([vote for vote in self.overall if not (people and vote.simulated)])

    def dimensions(self, *, people: bool = False) -> list[Dimension]:
        """The win rate by people and simulated experts, audience, language, age band, theme, story type and
        criterion."""
        found = [vote for vote in self.overall if not (people and vote.simulated)]
        parted = [
            Dimension(name, label, [_part(name, value, votes, show) for value, votes in _by(name, found)])
            for name, label, show in DIMENSIONS
        ]
        criteria = {
            name: [vote for vote in votes if not (people and vote.simulated)]
            for name, votes in self.by_criterion.items()
        }
        by_criterion = [_part("criterion", name, votes, criterion_label) for name, votes in criteria.items() if votes]
        return [*parted, Dimension("criterion", _("criterion"), by_criterion)]


def win_rate(policy: Policy, baseline: Policy, *, people: bool = False) -> WinRate:
    """The win rate of `policy` against `baseline` from their evaluation comparisons; by people alone if `people`."""
    return Contest(policy, baseline).rate(people=people)


def breakdown(policy: Policy, baseline: Policy, *, people: bool = False) -> dict[str, list[Part]]:
    """{dimension: its parts with their win rates}"""
    return {found.name: found.parts for found in Contest(policy, baseline).dimensions(people=people)}


def rate_of(found: Sequence[Outcome]) -> WinRate:
    """The win rate that the votes show."""
    simulated = sum(vote.simulated for vote in found)
    if not found:
        return WinRate(0, 0, 0, None, None, None)
    rate = sum(vote.score for vote in found) / len(found)
    low, high = interval(found)
    return WinRate(len(found), simulated, len({vote.expert for vote in found}), rate, low, high)


def judgements_of(policy: Policy, baseline: Policy) -> QuerySet[Judgement]:
    """The judgements that count in the win rate of `policy` against `baseline`."""
    comparisons = Comparison.objects.evaluation_of(policy, baseline)
    return Judgement.objects.counted().filter(assignment__comparison__in=comparisons)


ABOUT = {
    "prompt": F("judgement__assignment__comparison__prompt"),
    "language": F("judgement__assignment__comparison__prompt__language"),
    "theme": F("judgement__assignment__comparison__prompt__theme"),
    "story_type": F("judgement__assignment__comparison__prompt__story_type"),
    "age_band": F("judgement__assignment__comparison__prompt__age_band"),
    "expert": F("judgement__assignment__expert"),
    "audience": F("judgement__assignment__expert__audience"),
    "simulated": F("judgement__assignment__expert__simulated"),
}


def outcomes(policy: Policy, baseline: Policy) -> list[Outcome]:
    """One vote for each judgement of `policy` against `baseline`; none where a story was withdrawn since."""
    ranks = Rank.objects.filter(judgement__in=judgements_of(policy, baseline), story__withdrawn_at=None)
    rows = ranks.order_by("judgement_id").values(
        "judgement_id", "rank", **{f"its_{name}": path for name, path in ABOUT.items()}, by=F("story__policy")
    )
    sides: dict[int, dict[int, Any]] = {}
    for row in rows:
        sides.setdefault(row["judgement_id"], {})[row["by"]] = row
    return [_outcome(both[policy.pk], both[baseline.pk]) for both in sides.values() if len(both) == 2]


def criterion_outcomes(policy: Policy, baseline: Policy, found: Iterable[Outcome]) -> dict[str, list[Outcome]]:
    """{criterion: votes by it} of the judgements in `found`; no difference is a tie."""
    votes = {vote.judgement: vote for vote in found}
    winners = CriterionWinner.objects.filter(judgement__in=judgements_of(policy, baseline))
    rows = winners.order_by("criterion", "judgement_id").values_list("criterion", "judgement_id", "story__policy")
    by_criterion: dict[str, list[Outcome]] = {}
    for criterion, judgement, winner in rows:
        if judgement in votes:
            score = {None: TIE, policy.pk: WIN}.get(winner, LOSS)
            vote = votes[judgement]
            by_criterion.setdefault(criterion, []).append(Outcome(**{**vars(vote), "score": score}))
    return by_criterion


def _outcome(ours: dict[str, Any], theirs: dict[str, Any]) -> Outcome:
    score = TIE if ours["rank"] == theirs["rank"] else WIN if ours["rank"] < theirs["rank"] else LOSS
    return Outcome(score=score, judgement=ours["judgement_id"], **{name: ours[f"its_{name}"] for name in ABOUT})


def _by(name: str, found: Iterable[Outcome]) -> list[tuple[Any, list[Outcome]]]:
    parts: dict[Any, list[Outcome]] = {}
    for vote in found:
        parts.setdefault(getattr(vote, name), []).append(vote)
    return sorted(parts.items(), key=lambda part: str(part[0]))


def _part(name: str, value: Any, votes: Sequence[Outcome], show: Callable[[Any], str | Promise]) -> Part:
    return Part(show(value), {name: str(value)}, rate_of(votes))


def criterion_label(name: str) -> str | Promise:
    return Criterion(name).label


def _written(value: str) -> str | Promise:
    return value or _("not stated")


DIMENSIONS: list[tuple[str, str | Promise, Callable[[Any], str | Promise]]] = [
    ("simulated", _("by whom"), lambda value: _("simulated experts") if value else _("people")),
    ("audience", _("audience"), lambda value: Audience(value).label),
    ("language", _("language"), lambda value: Language(value).label),
    ("age_band", _("age band"), _written),
    ("theme", _("theme"), _written),
    ("story_type", _("story type"), _written),
]
