"""Strong disagreements, and the expert who is chosen to decide one.

The adjudicator judges blind like everybody: their page shows nobody else's answer, and does not say
that it is an adjudication.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from django.contrib.auth.models import User
from django.db import connection, transaction
from django.utils.translation import gettext as _

from annotate.models import Assignment, Comparison, Expert, Kind, Purpose
from annotate.newest import NEWEST, RECENT
from annotate.queue import assign
from generation.permissions import is_adjudicator, is_expert

# agreement: of all two judgements of a comparison and all two stories that both put in a strict order,
# the share put in the same one. opposed: somebody's only best story is somebody else's only worst.
# No part joins another part to itself: the planner knows nothing of their sizes, and may loop for hours.
DISAGREEMENTS = f"""
    WITH wanted AS (
        SELECT j.id AS judgement_id, a.comparison_id
        FROM annotate_judgement j
        JOIN annotate_assignment a ON a.id = j.assignment_id AND a.kind = 'ordinary'
        JOIN annotate_comparison c ON c.id = a.comparison_id AND c.purpose = 'preference'
        WHERE a.comparison_id NOT IN (
            SELECT comparison_id FROM annotate_assignment WHERE kind = 'adjudication' AND skipped_at IS NULL)
          AND {RECENT}
    ), pair AS (
        SELECT w.comparison_id, count(*) FILTER (WHERE one.rank < two.rank) AS won,
               count(*) FILTER (WHERE one.rank > two.rank) AS lost
        FROM wanted w
        JOIN annotate_rank one ON one.judgement_id = w.judgement_id
        JOIN annotate_rank two ON two.judgement_id = w.judgement_id AND two.story_id > one.story_id
        WHERE one.rank <> two.rank
          AND one.story_id NOT IN (SELECT id FROM generation_story WHERE withdrawn_at IS NOT NULL)
          AND two.story_id NOT IN (SELECT id FROM generation_story WHERE withdrawn_at IS NOT NULL)
        GROUP BY w.comparison_id, one.story_id, two.story_id
    ), agreement AS (
        SELECT comparison_id,
               (sum(won * (won - 1) + lost * (lost - 1)) / nullif(sum((won + lost) * (won + lost - 1)), 0))::float
               AS agreement
        FROM pair GROUP BY comparison_id
    ), place AS (
        SELECT w.comparison_id, r.story_id, r.rank, min(r.rank) OVER mine AS top, max(r.rank) OVER mine AS bottom,
               count(*) OVER (PARTITION BY r.judgement_id, r.rank) = 1 AS alone
        FROM wanted w
        JOIN annotate_rank r ON r.judgement_id = w.judgement_id
        WHERE r.story_id NOT IN (SELECT id FROM generation_story WHERE withdrawn_at IS NOT NULL)
        WINDOW mine AS (PARTITION BY r.judgement_id)
    ), loved_and_hated AS (
        SELECT comparison_id FROM place WHERE alone AND top < bottom
        GROUP BY comparison_id, story_id
        HAVING bool_or(rank = top) AND bool_or(rank = bottom)
    )
    SELECT comparison_id, agreement, opposed
    FROM (SELECT *, comparison_id IN (SELECT comparison_id FROM loved_and_hated) AS opposed FROM agreement) found
    WHERE agreement < %(strong)s OR opposed
    ORDER BY agreement, opposed DESC, comparison_id
    LIMIT %(limit)s
"""  # noqa: S608  our own words
STRONG = 0.4


class CannotAdjudicate(ValueError):
    """This expert cannot decide this comparison; the message says to the admin why."""


@dataclass(frozen=True)
class Disagreement:
    """Two experts or more who ranked the same stories in strongly different orders."""

    comparison: int
    agreement: float  # 0-1
    opposed: bool  # somebody's only best is another's only worst

    @property
    def percent(self) -> int:
        return round(100 * self.agreement)


def disagreements(limit: int | None = 50) -> list[Disagreement]:
    """Preference comparisons, open or closed, on which experts disagree strongly; the worst first.

    Those that an adjudicator has are left out; one that the adjudicator skipped is back.
    """
    with connection.cursor() as cursor:
        cursor.execute(DISAGREEMENTS, {"strong": STRONG, "limit": limit, "newest": NEWEST})
        return [Disagreement(*row) for row in cursor.fetchall()]


def adjudicators(comparisons: Iterable[Comparison], *, by: User) -> dict[int, list[Expert]]:
    """{comparison: people who may decide it}: they read its language and were never shown it, and are not `by`,
    who has seen the others' answers."""
    wanted = list(comparisons)
    people = Expert.objects.filter(simulated=False, adjudicates=True, user__is_active=True).exclude(user=by.pk)
    experts = list(people.select_related("user").order_by("user__username"))
    seen = defaultdict(set)
    shown = Assignment.objects.filter(comparison__in=[c.pk for c in wanted]).values_list("comparison_id", "expert_id")
    for comparison, expert in shown:
        seen[comparison].add(expert)
    return {c.pk: [e for e in experts if c.prompt.language in e.languages and e.pk not in seen[c.pk]] for c in wanted}


@transaction.atomic
def adjudicate(*, comparison: Comparison, expert: Expert, by: User) -> Assignment:
    """Give `comparison` to `expert`, who gets it as their next. Raises CannotAdjudicate."""
    expert = Expert.objects.select_for_update(no_key=True, of=("self",)).select_related("user").get(pk=expert.pk)
    # two admins at once: the second waits here, and finds the first one's assignment
    comparison = Comparison.objects.select_for_update(no_key=True).get(pk=comparison.pk)
    _check(comparison, expert, by)
    if comparison.stories.filter(withdrawn_at=None).count() < 2:
        raise CannotAdjudicate(_("Fewer than two stories of this comparison are left."))
    return assign(comparison, expert, None, Kind.ADJUDICATION)


def _check(comparison: Comparison, expert: Expert, by: User) -> None:
    shown = Assignment.objects.filter(comparison=comparison)
    if comparison.purpose != Purpose.PREFERENCE:
        raise CannotAdjudicate(_("Only comparisons of one policy's stories are adjudicated."))
    if shown.filter(kind=Kind.ADJUDICATION, skipped_at=None).exists():
        raise CannotAdjudicate(_("This comparison has an adjudicator already."))
    if not is_expert(expert.user):
        raise CannotAdjudicate(_("Choose a person whose account is active: a simulated expert cannot decide."))
    if not is_adjudicator(expert.user):
        raise CannotAdjudicate(_("%(expert)s is no adjudicator: change that under People.") % {"expert": expert})
    if expert.user_id == by.pk:
        raise CannotAdjudicate(_("You have seen the others' answers. Choose somebody who has not."))
    if comparison.prompt.language not in expert.languages:
        raise CannotAdjudicate(_("%(expert)s does not read the language of these stories.") % {"expert": expert})
    if shown.filter(expert=expert).exists():
        raise CannotAdjudicate(_("%(expert)s has been shown these stories before.") % {"expert": expert})
