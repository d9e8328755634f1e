"""How far an expert's answers can be leaned on: speed, steadiness, known answers, agreement, position bias.

Each figure comes from the database in one query for all experts: a hundred thousand judgements are
read there and never here. None of them is a verdict on a person. Taste differs, and experts who
disagree are mostly not wrong.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.db import connection
from django.db.models import Aggregate, Count, FloatField, Q
from django.utils.functional import Promise

from annotate.models import Expert, Judgement, Verdict
from annotate.newest import ENOUGH, NEWEST, RECENT
from annotate.position import NO_BIAS, PositionBias, biases, who_leans

# two story ids are a pair, the smaller first; sign() is -1 if that one is better, 0 for a tie
REPEATS = f"""
    SELECT again.expert_id, count(DISTINCT again.id), count(*),
           count(*) FILTER (WHERE sign(once_1.rank - once_2.rank) = sign(again_1.rank - again_2.rank))
    FROM annotate_assignment again
    JOIN annotate_assignment once ON once.expert_id = again.expert_id
         AND once.comparison_id = again.comparison_id AND once.kind = 'ordinary'
    JOIN annotate_judgement once_j ON once_j.assignment_id = once.id
    JOIN annotate_judgement j ON j.assignment_id = again.id
    JOIN annotate_rank once_1 ON once_1.judgement_id = once_j.id
    JOIN annotate_rank once_2 ON once_2.judgement_id = once_j.id AND once_2.story_id > once_1.story_id
    JOIN annotate_rank again_1 ON again_1.judgement_id = j.id AND again_1.story_id = once_1.story_id
    JOIN annotate_rank again_2 ON again_2.judgement_id = j.id AND again_2.story_id = once_2.story_id
    WHERE again.kind = 'repeat' AND again.expert_id = ANY(%(experts)s) AND {RECENT}
    GROUP BY again.expert_id
"""  # noqa: S608  our own words
# a gold that was retired may have been wrong: it is not held against anybody
GOLD = """
    SELECT a.expert_id, count(*), count(*) FILTER (WHERE EXISTS (
        SELECT FROM annotate_rank best
        WHERE best.judgement_id = j.id AND best.story_id = g.best_id AND NOT EXISTS (
            SELECT FROM annotate_rank other
            WHERE other.judgement_id = j.id AND other.story_id <> best.story_id AND other.rank <= best.rank)))
    FROM annotate_judgement j
    JOIN annotate_assignment a ON a.id = j.assignment_id AND a.kind = 'gold'
    JOIN annotate_gold g ON g.comparison_id = a.comparison_id AND g.retired_at IS NULL
    WHERE a.expert_id = ANY(%(experts)s)
    GROUP BY a.expert_id
"""
# the votes on each two stories, counted by direction; people are measured by people alone
AGREEMENT = f"""
    WITH vote AS (
        SELECT a.expert_id, count(*) OVER direction - 1 AS same, count(*) OVER pair - 1 AS others
        FROM annotate_rank one
        JOIN annotate_rank two ON two.judgement_id = one.judgement_id
             AND two.story_id > one.story_id AND two.rank <> one.rank
        JOIN annotate_judgement j ON j.id = one.judgement_id
        JOIN annotate_assignment a ON a.id = j.assignment_id AND a.kind = 'ordinary'
        JOIN annotate_expert e ON e.id = a.expert_id
        WHERE a.comparison_id IN (SELECT comparison_id FROM annotate_assignment WHERE expert_id = ANY(%(experts)s))
          AND {RECENT}
        WINDOW pair AS (PARTITION BY e.simulated, a.comparison_id, one.story_id, two.story_id),
               direction AS (
                   PARTITION BY e.simulated, a.comparison_id, one.story_id, two.story_id, one.rank < two.rank)
    )
    SELECT expert_id, sum(others)::bigint, sum(same)::bigint
    FROM vote WHERE expert_id = ANY(%(experts)s) GROUP BY expert_id
"""  # noqa: S608  our own words


class Median(Aggregate):
    function = "PERCENTILE_CONT"
    template = "%(function)s(0.5) WITHIN GROUP (ORDER BY %(expressions)s)"
    output_field = FloatField()


@dataclass(frozen=True)
class Share:
    """`hits` of `n`, which is a percentage only if n is enough for one."""

    hits: int = 0
    n: int = 0

    @property
    def enough(self) -> bool:
        return self.n >= ENOUGH

    @property
    def percent(self) -> int:
        return round(100 * self.hits / self.n) if self.n else 0


@dataclass(frozen=True)
class ExpertRecord:
    """What one expert's answers look like. Silent checks count in `consistency` and `gold` alone."""

    expert: Expert
    verdicts: dict[str, int]
    median_seconds: float | None  # of the time that the page was open and in view
    hurried: Share
    repeats: int
    consistency: Share  # story pairs of silent repeats that were put in the same order again
    gold: Share
    agreement: Share  # votes of others on the same two stories that go the same way
    places: PositionBias  # where the single best stories had stood on the screen
    leans: bool  # to a place, beyond chance for one of so many experts

    @property
    def judgements(self) -> int:
        return sum(self.verdicts.values())

    @property
    def minutes(self) -> int:
        """The median in whole minutes; 0 is less than one."""
        return round(self.median_seconds / 60) if self.median_seconds and self.median_seconds >= 60 else 0

    @property
    def first_shown(self) -> Share:
        """Single best stories that had been shown first."""
        return Share(self.places.counts[0], self.places.n)

    @property
    def percent_by_chance(self) -> int:
        return round(100 * self.places.first_by_chance)

    @property
    def answers(self) -> list[tuple[str | Promise, int]]:
        """How often each verdict was given, those never given left out."""
        return [(verdict.label, self.verdicts[verdict]) for verdict in Verdict if self.verdicts.get(verdict)]


def expert_records(experts: Iterable[Expert] | None = None) -> list[ExpertRecord]:
    """The records of `experts` (all, people first, if none are named), in their order."""
    if experts is None:
        experts = Expert.objects.select_related("user").order_by("simulated", "user__username")
    found = list(experts)
    ids = [expert.pk for expert in found]
    verdicts, times = _verdicts(ids), _times(ids)
    repeats, gold, agreement = (_figures(sql, ids) for sql in (REPEATS, GOLD, AGREEMENT))
    places = biases(ids)
    leaning = who_leans(places)
    records = []
    for expert in found:
        timed, hurried, median = times.get(expert.pk, (0, 0, None))
        came_again, pairs, same = repeats.get(expert.pk, (0, 0, 0))
        known, right = gold.get(expert.pk, (0, 0))
        votes, alike = agreement.get(expert.pk, (0, 0))
        records.append(
            ExpertRecord(
                expert=expert,
                verdicts=verdicts.get(expert.pk, {}),
                median_seconds=median,
                hurried=Share(hurried, timed),
                repeats=came_again,
                consistency=Share(same, pairs),
                gold=Share(right, known),
                agreement=Share(alike, votes),
                places=places.get(expert.pk, NO_BIAS),
                leans=expert.pk in leaning,
            )
        )
    return records


def record_of(expert: Expert) -> ExpertRecord:
    return expert_records([expert])[0]


def _verdicts(ids: list[int]) -> dict[int, dict[str, int]]:
    judgements = Judgement.objects.counted().filter(assignment__expert__in=ids).order_by()
    found: dict[int, dict[str, int]] = {}
    for expert, verdict, n in judgements.values_list("assignment__expert", "verdict").annotate(n=Count("pk")):
        found.setdefault(expert, {})[verdict] = n
    return found


def _times(ids: list[int]) -> dict[int, tuple[int, int, float | None]]:
    """{expert: (judgements whose time is known, hurried ones, median seconds)}"""
    judgements = Judgement.objects.counted().filter(assignment__expert__in=ids, seconds__isnull=False).order_by()
    rows = judgements.values_list("assignment__expert").annotate(
        timed=Count("pk"), hurrying=Count("pk", filter=Q(hurried=True)), median=Median("seconds")
    )
    return {expert: (timed, hurrying, median) for expert, timed, hurrying, median in rows}


def _figures(sql: str, ids: list[int]) -> dict[int, tuple[Any, ...]]:
    """{expert: the other columns}"""
    with connection.cursor() as cursor:
        cursor.execute(sql, {"experts": ids, "newest": NEWEST} if RECENT in sql else {"experts": ids})
        return {row[0]: row[1:] for row in cursor.fetchall()}
