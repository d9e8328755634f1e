"""Gold: comparisons whose answer is known, because all who judged them said the same."""

from dataclasses import dataclass

from django.contrib.auth.models import User
from django.db import connection, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from annotate.models import Comparison, Gold
from annotate.newest import NEWEST, RECENT

# every ordinary answer ranks, and names one best and one worst story: the same for all
UNANIMOUS = """
    WITH answer AS (
        SELECT a.comparison_id, r.judgement_id, r.story_id, e.simulated,
               r.rank = min(r.rank) OVER mine AS best, r.rank = max(r.rank) OVER mine AS worst,
               count(*) OVER (PARTITION BY r.judgement_id, r.rank) = 1 AS alone
        FROM annotate_rank r
        JOIN annotate_judgement j ON j.id = r.judgement_id
        JOIN annotate_assignment a ON a.id = j.assignment_id AND a.kind = 'ordinary'
        JOIN annotate_expert e ON e.id = a.expert_id
        JOIN annotate_comparison c ON c.id = a.comparison_id AND c.purpose = 'preference'
        WHERE {which}
          AND NOT EXISTS (SELECT FROM annotate_gold g WHERE g.comparison_id = c.id AND
                          (%(comparison)s::bigint IS NULL OR g.retired_at IS NULL))
          AND NOT EXISTS (
              SELECT FROM annotate_comparison_stories cs
              JOIN generation_story s ON s.id = cs.story_id AND s.withdrawn_at IS NOT NULL
              WHERE cs.comparison_id = c.id)
          AND NOT EXISTS (
              SELECT FROM annotate_judgement oj
              JOIN annotate_assignment oa ON oa.id = oj.assignment_id AND oa.kind = 'ordinary'
              WHERE oa.comparison_id = c.id AND oj.verdict <> 'ranked')
        WINDOW mine AS (PARTITION BY r.judgement_id)
    )
    SELECT comparison_id, min(story_id) FILTER (WHERE best), min(story_id) FILTER (WHERE worst),
           count(DISTINCT judgement_id), count(DISTINCT judgement_id) FILTER (WHERE simulated)
    FROM answer
    GROUP BY comparison_id
    HAVING count(DISTINCT judgement_id) > 1
       AND bool_and(alone) FILTER (WHERE best OR worst)
       AND count(DISTINCT story_id) FILTER (WHERE best) = 1 AND count(DISTINCT story_id) FILTER (WHERE worst) = 1
    ORDER BY count(DISTINCT judgement_id) FILTER (WHERE NOT simulated) DESC, count(DISTINCT judgement_id) DESC,
             comparison_id
    LIMIT %(limit)s
"""


class NoGold(ValueError):
    """The comparison's answer is not known; the message says to the admin why."""


@dataclass(frozen=True)
class Candidate:
    """A comparison that all who judged it answered alike: ids of it and of its best and worst story."""

    comparison: int
    best: int
    worst: int
    judgements: int
    simulated: int


def gold_candidates(limit: int = 50) -> list[Candidate]:
    """Comparisons that could be gold, those with the most people's judgements first."""
    return _unanimous(limit=limit)


@transaction.atomic
def make_gold(*, comparison: Comparison, by: User) -> Gold:
    """From now on `comparison` comes up as a silent check. A retired gold is used again. Raises NoGold."""
    comparison = Comparison.objects.select_for_update(no_key=True).get(pk=comparison.pk)
    found = _unanimous(comparison=comparison.pk)
    if not found:
        raise NoGold(_("Not all who judged this comparison name the same best and the same worst story."))
    values = {"best_id": found[0].best, "worst_id": found[0].worst, "made_by": by, "retired_at": None}
    return Gold.objects.update_or_create(comparison=comparison, defaults=values)[0]


def retire_gold(gold: Gold) -> bool:
    """Use it no more, and count no answer to it. False if it was retired already."""
    return bool(Gold.objects.filter(pk=gold.pk, retired_at=None).update(retired_at=timezone.now()))


def _unanimous(*, comparison: int | None = None, limit: int = 1) -> list[Candidate]:
    with connection.cursor() as cursor:
        which = RECENT if comparison is None else "c.id = %(comparison)s"
        values = {"comparison": comparison, "limit": limit, "newest": NEWEST}
        cursor.execute(UNANIMOUS.replace("{which}", which), values)
        return [Candidate(*row) for row in cursor.fetchall()]
