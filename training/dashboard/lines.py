"""The policies of the dashboard, in the order in which they were made."""

from dataclasses import dataclass
from functools import cached_property

from django.urls import reverse
from django.utils.translation import gettext as _

from annotate.listening import ChildRate, child_win_rate
from annotate.winrates import WinRate, win_rate
from generation.models import Policy
from generation.summaries import PolicySummary, summarise
from training.models import Round


@dataclass
class Line:
    """A policy on the dashboard: the base, or what a round has made."""

    policy: Policy
    round: Round | None = None

    @property
    def label(self) -> str:
        return _("Round %(number)d") % {"number": self.round.number} if self.round else str(self.policy)

    @property
    def link(self) -> str:
        return reverse("show_round", args=[self.round.number]) if self.round else ""

    def judgements(self, baseline: Policy | None) -> str:
        """The address of the judgements of this policy against `baseline`."""
        if not self.round or not baseline:
            return ""
        return reverse("round_judgements", args=[self.round.number]) + f"?against={baseline.pk}"

    @cached_property
    def baselines(self) -> tuple[Policy | None, Policy | None]:
        """(the policy before, the base if that is another)"""
        found = self.round.baselines() if self.round else []
        return (found[0] if found else None, found[1] if len(found) > 1 else None)

    @cached_property
    def rates(self) -> tuple[WinRate | None, WinRate | None]:
        """Against the policy before, and against the base (in the first round they are the same)."""
        previous, base = (self._rate(baseline) for baseline in self.baselines)
        return previous, base or previous

    @cached_property
    def children(self) -> ChildRate | None:
        previous, _base = self.baselines
        return child_win_rate(self.policy, previous) if previous else None

    @cached_property
    def summary(self) -> PolicySummary | None:
        return summarise(self.policy)

    def _rate(self, baseline: Policy | None) -> WinRate | None:
        if not self.round or not baseline:
            return None
        return win_rate(self.policy, baseline, people=not self.round.include_simulated)


def lines() -> list[Line]:
    """The bases, then the rounds that made a policy, oldest first."""
    rounds = Round.objects.exclude(result=None).select_related("policy", "result").order_by("number")
    made = [Line(one.result, one) for one in rounds if one.result]
    bases = Policy.objects.filter(parent=None, made_by=None).order_by("pk")
    return [*map(Line, bases), *made]
