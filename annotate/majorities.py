"""What most experts prefer, counted by the database: each look at the next round counts all judgements there are."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from django.core.exceptions import EmptyResultSet
from django.db import connection

from annotate.models import Judgement, JudgementQuerySet, Verdict

OVERALL = "overall"

REPORTS = ", ".join(f"'{verdict}'" for verdict in (Verdict.CANNOT_RANK, Verdict.UNSAFE))

# A winner by a criterion is preferred to every other story that was read beside it. Withdrawn stories are left out
# last, when few rows are left, and those of the same text: only of two policies, for one never writes a prompt the
# same story twice (story_no_duplicates), and one by one, so that texts are in no join. {judged} is a queryset.
RANKED = f"""
    SELECT '{OVERALL}' AS criterion, better.story_id AS winner, worse.story_id AS loser, judged.simulated
    FROM judged
    JOIN annotate_rank better ON better.judgement_id = judged.id
    JOIN annotate_rank worse ON worse.judgement_id = judged.id AND worse.rank > better.rank
"""  # noqa: S608  our own words
NAMED = f"""
    UNION ALL
    SELECT won.criterion, won.story_id, other.story_id, judged.simulated
    FROM judged
    JOIN annotate_criterionwinner won ON won.judgement_id = judged.id AND judged.verdict NOT IN ({REPORTS})
    JOIN annotate_rank other ON other.judgement_id = judged.id AND other.story_id <> won.story_id
"""  # noqa: S608
MAJORITIES = """
    WITH judged (id, simulated, verdict) AS MATERIALIZED ({judged}),
    votes AS ({votes}),
    counted AS (
        SELECT criterion, least(winner, loser) AS one, greatest(winner, loser) AS two,
               count(*) FILTER (WHERE winner < loser) AS for_one, count(*) FILTER (WHERE winner > loser) AS for_two,
               count(*) FILTER (WHERE simulated) AS simulated
        FROM votes GROUP BY 1, 2, 3
    )
    SELECT {columns}
    FROM counted
    JOIN generation_story one ON one.id = counted.one AND one.withdrawn_at IS NULL
    JOIN generation_story two ON two.id = counted.two AND two.withdrawn_at IS NULL
    WHERE for_one <> for_two AND (one.policy_id = two.policy_id OR
          (SELECT text FROM generation_story WHERE id = counted.one)
          <> (SELECT text FROM generation_story WHERE id = counted.two))
"""
COLUMNS = """criterion, CASE WHEN for_one > for_two THEN one.id ELSE two.id END,
             CASE WHEN for_one > for_two THEN two.id ELSE one.id END,
             greatest(for_one, for_two), least(for_one, for_two), simulated"""


class Majority(NamedTuple):
    """Most experts who prefer one of two stories prefer `chosen` to `rejected` (ids), by this criterion."""

    criterion: str
    chosen: int
    rejected: int
    judgements_for: int
    judgements_against: int
    simulated: int


def majorities(judgements: JudgementQuerySet, *, by_criterion: bool) -> Iterator[Majority]:
    """One for each two stories, in no order. Equal votes make none, and neither do stories of the same text."""
    return (Majority(*row) for row in _ask(judgements, COLUMNS, by_criterion=by_criterion))


def count_majorities(judgements: JudgementQuerySet, *, by_criterion: bool) -> int:
    """How many `majorities` would give."""
    rows = _ask(judgements, "count(*)", by_criterion=by_criterion)
    return int(rows[0][0]) if rows else 0


def _ask(judgements: JudgementQuerySet, columns: str, *, by_criterion: bool) -> list[tuple[Any, ...]]:
    each = Judgement.objects.filter(pk__in=judgements.order_by().values("pk")).order_by()
    try:
        judged, values = each.values_list("pk", "assignment__expert__simulated", "verdict").query.sql_with_params()
    except EmptyResultSet:  # the selection can hold nothing
        return []
    votes = RANKED + NAMED if by_criterion else RANKED
    with connection.cursor() as cursor:
        cursor.execute(MAJORITIES.format(judged=judged, votes=votes, columns=columns), values)
        return cursor.fetchall()
