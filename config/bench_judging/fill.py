"""Making a database with as many past judgements as asked, as the loop itself would have left it."""

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.hashers import make_password
from django.db import connection, models, transaction
from django.db.models import Max
from django.utils import timezone
from psycopg import ClientCursor

from annotate.models import Assignment, Audience, Comparison, Expert, Gold, Judgement, Place
from config.bench_judging import rows
from generation.demo_writer.corpus import draw_brief, write_story
from generation.models import Policy, Prompt, Story

POLICY = "bench-judging"
BATCH = 20_000  # comparisons in one transaction
GOLDS = 40  # added with each filling
EACH = 3_300  # judgements of a past expert, about
BEGAN = timedelta(days=600)  # ago


class NotOurs(RuntimeError):
    """The database holds somebody's work; the message says what to do."""


@dataclass(frozen=True)
class Plan:
    """What is written, and after which rows: the parameters of every statement."""

    seed: int
    policy: int
    admin: int
    experts: list[int]
    answers: int  # of the new comparisons
    comparisons: int
    places: int
    began: datetime
    prompt: int  # the first id of each
    story: int
    comparison: int
    assignment: int
    judgement: int


def fill(
    *, judgements: int, queue: int, judges: list[Expert], seed: int, jobs: int, tick: Callable[[int], object]
) -> None:
    """Bring the database to exactly `judgements` judgements, and `queue` comparisons that nobody has seen.

    `judges` have their share in the past answers. `tick` hears of every comparison written.
    """
    missing = judgements - Judgement.objects.count()
    untouched = Place.objects.wanted().filter(number=1, assignment=None).count()
    past = max(missing, 0)
    repeats = past // rows.REPEAT_EVERY
    experts = [*_past_experts(max(past // EACH, 12)), *(judge.pk for judge in judges)]
    plan = _plan(past - repeats, max(queue - untouched, 0), experts, seed)
    starts = range(0, plan.comparisons, BATCH)
    if jobs == 1:
        for low in starts:
            tick(_write(plan, low))
    else:
        with ThreadPoolExecutor(jobs) as pool:
            for written in pool.map(lambda low: _write_alone(plan, low), starts):
                tick(written)
    _finish(plan, repeats)


def wanted_comparisons(*, judgements: int, queue: int) -> int:
    """How many comparisons `fill` will write, about: for a progress bar."""
    missing = max(judgements - Judgement.objects.count(), 0)
    return (missing - missing // rows.REPEAT_EVERY) // settings.PLACES_PER_COMPARISON + queue


def make_judges(count: int, password: str) -> list[Expert]:
    """The experts of the load, who can log in."""
    hashed = make_password(password)
    judges = []
    for number in range(1, count + 1):
        user, _ = get_user_model().objects.update_or_create(username=f"bench-{number}", defaults={"password": hashed})
        judges.append(_expert(user.pk))
    return judges


def check_ours() -> None:
    """Raise NotOurs unless the database is empty or this benchmark's own."""
    if Policy.objects.exclude(name=POLICY).exists() or Prompt.objects.exclude(stories__policy__name=POLICY).exists():
        raise NotOurs("This database is in use. Run `make bench-judging`, which makes one of its own.")


def settle() -> None:
    """Leave nothing to do in the background of a measurement: dead rows, statistics, unwritten pages."""
    with connection.cursor() as cursor:
        cursor.execute("VACUUM (ANALYZE)")
        cursor.execute("CHECKPOINT")


def _past_experts(count: int) -> list[int]:
    users = get_user_model()
    names = [f"past-{number}" for number in range(1, count + 1)]
    users.objects.bulk_create(
        (users(username=name, password=make_password(None)) for name in names), ignore_conflicts=True
    )
    return [
        _expert(pk).pk for pk in users.objects.filter(username__in=names).order_by("pk").values_list("pk", flat=True)
    ]


def _expert(user: int) -> Expert:
    audience = Audience.values[user % len(Audience.values)]
    fields = {"audience": audience, "practised_at": timezone.now() - BEGAN}
    return Expert.objects.get_or_create(user_id=user, defaults=fields)[0]


def _plan(answers: int, queue: int, experts: list[int], seed: int) -> Plan:
    policy, _ = Policy.objects.get_or_create(
        name=POLICY, defaults={"path": "/nowhere", "weights_hash": "0" * 64, "is_current": True}
    )
    admin, _ = get_user_model().objects.get_or_create(username="bench-admin", defaults={"is_staff": True})
    places = settings.PLACES_PER_COMPARISON
    return Plan(
        seed=seed,
        policy=policy.pk,
        admin=admin.pk,
        experts=experts,
        answers=answers,
        comparisons=-(-answers // places) + queue,
        places=places,
        began=policy.created_at - BEGAN,
        prompt=_next(Prompt),
        story=_next(Story),
        comparison=_next(Comparison),
        assignment=_next(Assignment),
        judgement=_next(Judgement),
    )


def _next(model: type[models.Model]) -> int:
    return (model._default_manager.aggregate(last=Max("pk"))["last"] or 0) + 1


def _write_alone(plan: Plan, low: int) -> int:
    """In a thread, with a connection of its own."""
    try:
        return _write(plan, low)
    finally:
        connection.close()


@transaction.atomic
def _write(plan: Plan, low: int) -> int:
    """The comparisons from number `low` on, with all that belongs to them. Returns how many."""
    high = min(low + BATCH, plan.comparisons)
    connection.ensure_connection()
    # bound here and not by the server, which takes a small number for a smallint, and 4 times it too
    with ClientCursor(connection.connection) as cursor:
        cursor.execute(rows.FASTER)
        cursor.execute(rows.TALE_TABLE)
        cursor.executemany(rows.TALE, _tales(plan.seed))
        cursor.execute("ANALYZE bench_tale")
        for statement in rows.BATCH:
            cursor.execute(statement, {**asdict(plan), "low": low, "high": high})
    return high - low


def _tales(seed: int) -> list[tuple[str, int, str, list[int]]]:
    """Language, number, text and token ids of the pieces that stories are made of."""
    chance = random.Random(seed)
    tales = []
    for language, characters in (("en", 4), ("zh", 1.5)):  # a token, about
        for number in range(rows.TALES):
            text = write_story(chance, draw_brief(chance, language))
            tokens = [chance.randrange(150_000) for _ in range(int(len(text) / characters))]
            tales.append((language, number, text, tokens))
    return tales


@transaction.atomic
def _finish(plan: Plan, repeats: int) -> None:
    """Silent checks, counters and sequences."""
    golds = min(GOLDS, plan.answers // plan.places)
    more = {"repeats": repeats, "golds": golds, "last": _next(Assignment) - 1}
    connection.ensure_connection()
    # bound here and not by the server, which takes a small number for a smallint, and 4 times it too
    with ClientCursor(connection.connection) as cursor:
        cursor.execute(rows.FASTER)
        _continue_sequences(cursor)
        for statement in (*(rows.REPEATS if repeats else ()), rows.GOLDS, rows.JUDGED):
            cursor.execute(statement, {**asdict(plan), **more})


def _continue_sequences(cursor: object) -> None:
    for model in (Prompt, Story, Comparison, Assignment, Judgement, Gold):
        table = model._meta.db_table
        cursor.execute(  # type: ignore[attr-defined]
            f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), greatest((SELECT max(id) FROM {table}), 1))"  # noqa: S608  ours
        )
