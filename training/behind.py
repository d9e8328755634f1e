"""The judgements behind a number."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from annotate.chips import chip_labels
from annotate.models import Expert, Judgement
from annotate.orders import still_to_judge
from annotate.winrates import LOSS, TIE, WIN, Contest, Outcome
from generation.models import Policy, Story

FILTERS = ("audience", "language", "age_band", "theme", "story_type", "simulated", "prompt", "expert")
SAID: dict[float, str | Promise] = {WIN: _("the new one is better"), TIE: _("equal"), LOSS: _("the old one is better")}


@dataclass(frozen=True)
class Row:
    """One judgement, with what was compared. hidden: from an admin who is still to judge it."""

    judgement: Judgement
    outcome: Outcome
    new: Story
    old: Story
    hidden: bool

    @property
    def said(self) -> str | Promise:
        return SAID[self.outcome.score]

    @property
    def reasons(self) -> list[str | Promise]:
        return chip_labels([*self.judgement.reasons_for, *self.judgement.reasons_against])


def votes_behind(policy: Policy, baseline: Policy, wanted: Mapping[str, str], *, people: bool) -> list[Outcome]:
    """The votes that a win rate is made of, newest first. `wanted` holds names of FILTERS or "criterion"."""
    contest = Contest(policy, baseline)
    criterion = wanted.get("criterion")
    votes = contest.by_criterion.get(criterion, []) if criterion else contest.overall
    kept = [vote for vote in votes if not (people and vote.simulated) and _fits(vote, wanted)]
    return sorted(kept, key=lambda vote: -vote.judgement)


def rows(votes: Sequence[Outcome], policy: Policy, reader: Expert | None) -> list[Row]:
    """What the page shows of `votes`."""
    found = (
        Judgement.objects.filter(pk__in=[vote.judgement for vote in votes])
        .select_related("assignment__comparison__prompt", "assignment__expert__user")
        .prefetch_related("assignment__comparison__stories")
        .in_bulk()
    )
    hidden = still_to_judge(reader, {one.assignment.comparison_id for one in found.values()})
    return [_row(found[vote.judgement], vote, policy, hidden) for vote in votes if vote.judgement in found]


def _row(judgement: Judgement, vote: Outcome, policy: Policy, hidden: set[int]) -> Row:
    comparison = judgement.assignment.comparison
    sides = {story.policy_id == policy.pk: story for story in comparison.stories.all()}
    return Row(judgement, vote, sides[True], sides[False], comparison.pk in hidden)


def _fits(vote: Outcome, wanted: Mapping[str, str]) -> bool:
    return all(str(getattr(vote, name)) == value for name, value in wanted.items() if name in FILTERS)
