"""Which stories are kept depends on prompt, policy and plan: not on the engine's order, nor on kills.

And stories are stored as they finish, with few prompts in hand, however many there are.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from random import Random

import pytest
from django.db import connection
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from generation.engines.values import Completion, Request, Take
from generation.models import EmptyPlace, Policy, Prompt, RunState, Story, WritingRun
from generation.plan import MAX_DRAWS
from generation.runs import NAMESPACE, begin_or_join, progress
from generation.stories import Written, write_stories
from tests.factories import make_policy, make_prompt, make_story
from tests.generation.pens import PenEngine, Said, draw_of, place_of, tale, whole

pytestmark = pytest.mark.django_db

Script = dict[tuple[int, int], Said]  # by place and draw
LONG = " ".join(f"{a}{b}" for a in "bcdfghjk" for b in "aeiou")
ANSWERS: list[Said] = [
    ("", "stop"),
    (tale(1), "length"),
    (tale(1), "stop"),
    (tale(2), "stop"),
    (LONG, "stop"),
    (LONG.replace("du", "moon"), "stop"),
    (LONG.replace("ba", "sun"), "length"),
    ("从前有一只小狐狸，它住在山上。", "stop"),
    ("WHOLE", "stop"),
]
SCRIPTS = st.fixed_dictionaries(
    {(place, draw): st.sampled_from(ANSWERS) for place in range(5) for draw in range(1, MAX_DRAWS + 1)}
)


@pytest.fixture
def policy() -> Policy:
    return make_policy()


@pytest.fixture
def prompt() -> Prompt:
    return make_prompt()


def scripted(script: Script, **options: object) -> PenEngine:
    def say(request: Request) -> Said:
        text, reason = script[place_of(request), draw_of(request)]
        return whole(request) if text == "WHOLE" else (text, reason)

    return PenEngine(say, **options)


def write(policy: Policy, engine: PenEngine, *, count: int = 5) -> Written:
    run = begin_or_join(policy=policy, count=count, engine="pen")
    return write_stories(run=run, engine=engine, accepted=frozenset({policy.weights_hash}))


def outcome() -> list[tuple]:
    """All that was kept and given up; forgotten then."""
    kept = list(Story.objects.order_by("sample_index").values_list("sample_index", "draws", "text", "finish_reason"))
    empty = sorted(set(EmptyPlace.objects.values_list("sample_index", "fault")))
    Story.objects.all().delete()
    WritingRun.objects.all().delete()
    return [*kept, *empty]


def killed_at(engine: PenEngine, number: int) -> PenEngine:
    """The same engine, whose process dies instead of answering for the `number`-th time."""
    say, answered = engine.say, count(1)

    def dying(request: Request) -> Said:
        if next(answered) == number:
            raise KeyboardInterrupt
        return say(request)

    engine.say = dying
    return engine


# --- any order ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "pick"), [(3, lambda n: 0), (99, lambda n: n - 1), (99, lambda n: n // 2)])
def test_the_same_stories_are_kept_whichever_the_engine_finishes_first(policy, prompt, size, pick):
    alike = {(place, draw): ANSWERS[(place + draw) % len(ANSWERS)] for place in range(5) for draw in range(1, 5)}
    write(policy, scripted(alike, size=1))
    one_by_one = outcome()
    write(policy, scripted(alike, size=size, pick=pick))
    assert outcome() == one_by_one


@given(script=SCRIPTS, size=st.integers(1, 8), order=st.integers(0, 2**32))
@example(script=dict.fromkeys([(p, d) for p in range(5) for d in range(1, 5)], (LONG, "stop")), size=5, order=1)
@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_no_order_of_the_engine_changes_what_is_kept(policy, prompt, script, size, order):
    write(policy, scripted(script, size=1))
    one_by_one = outcome()
    write(policy, scripted(script, size=size, pick=Random(order).randrange))
    assert outcome() == one_by_one


def test_draws_are_decided_in_order_also_across_prompts(policy):
    prompts = [make_prompt() for _ in range(6)]
    write(
        policy,
        PenEngine(
            lambda r: (tale(place_of(r) // 2), "stop") if draw_of(r) == 1 else whole(r), pick=Random(1).randrange
        ),
    )
    draws = {(s.prompt_id, s.sample_index): s.draws for s in Story.objects.all()}
    assert draws == {(p.pk, i): (1, 2, 1, 2, 1)[i] for p in prompts for i in range(5)}


# --- killed, and continued ---------------------------------------------------------------------------------


@given(script=SCRIPTS, number=st.integers(1, 12), order=st.integers(0, 2**32))
@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_a_run_that_was_killed_ends_with_the_stories_of_an_unbroken_one(policy, prompt, script, number, order):
    write(policy, scripted(script, size=1))
    unbroken = outcome()
    with suppress(KeyboardInterrupt):  # or it is over before
        write(policy, killed_at(scripted(script, size=3, pick=Random(order).randrange), number))
    write(policy, scripted(script, size=4, pick=Random(order).randrange))
    assert outcome() == unbroken


def test_a_killed_run_goes_on_and_writes_no_story_twice(policy, prompt):
    make_prompt()
    with pytest.raises(KeyboardInterrupt):
        write(policy, killed_at(PenEngine(), 8))
    kept = set(Story.objects.values_list("pk", flat=True))
    assert len(kept) == 7
    engine = PenEngine()
    assert write(policy, engine).stored == len(engine.asked) == 3
    assert kept < set(Story.objects.values_list("pk", flat=True))
    assert WritingRun.objects.get().state == RunState.DONE


def test_what_was_stored_just_before_a_kill_counts_as_progress(policy, prompt):
    make_prompt()
    with pytest.raises(KeyboardInterrupt):
        write(policy, killed_at(PenEngine(), 8))
    write(policy, PenEngine())
    assert progress(WritingRun.objects.get()).done == Story.objects.count() == 10


def test_a_story_that_another_worker_has_stored_meanwhile_is_not_stored_again(policy, prompt):
    def say(request: Request) -> Said:
        if request.key == 0:  # as after a lost database session, which gives the claims back
            make_story(policy, prompt, 0, tale(7))
        return whole(request)

    written = write(policy, PenEngine(say))
    assert (written.stored, Story.objects.get(sample_index=0).text) == (4, tale(7))


# --- as they finish, with few in hand ----------------------------------------------------------------------


def test_a_story_is_in_the_database_before_the_others_are_written(policy):
    for _ in range(3):
        make_prompt()
    stored: list[int] = []

    def say(request: Request) -> Said:
        stored.append(Story.objects.count())
        return whole(request)

    write(policy, PenEngine(say))
    assert stored == list(range(15))


class Enough(Exception):
    """The test has seen what it came for."""


class Watched(PenEngine):
    """Looks at each take what the worker has in hand, until `enough` stories were asked for."""

    def __init__(self, enough: int, look: Callable[[Take], int], **options: object) -> None:
        super().__init__(**options)
        self.enough, self.look, self.most = enough, look, 0

    def write(self, take: Take) -> Iterator[Completion]:
        def watched(count: int) -> list[Request]:
            taken = take(count)
            self.most = max(self.most, self.look(take))
            if len(self.asked) >= self.enough:
                raise Enough
            return taken

        return super().write(watched)


def claims(take: Take) -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = %s", [NAMESPACE])
        return cursor.fetchone()[0]


def benches(take: Take) -> int:
    return len(take.__self__._benches)


@pytest.mark.parametrize("look", [claims, benches])
def test_of_thousands_of_prompts_a_few_are_in_hand(policy, look):
    make = {"language": "en", "theme": "courage", "story_type": "fable", "age_band": "5-6"}
    Prompt.objects.bulk_create(Prompt(text=f"Write about fox {number}.", **make) for number in range(2000))
    engine = Watched(600, look, size=10)
    with pytest.raises(Enough):
        write(policy, engine, count=4)
    assert 2 <= engine.most <= 5
    assert Story.objects.count() >= 590


def test_prompts_are_read_a_window_at_a_time(policy, django_assert_max_num_queries):
    make = {"language": "en", "theme": "courage", "story_type": "fable", "age_band": "5-6"}
    Prompt.objects.bulk_create(Prompt(text=f"Write about fox {number}.", **make) for number in range(2000))
    run = begin_or_join(policy=policy, count=4, engine="pen")
    engine = Watched(0, lambda take: len(take.__self__._scanned), size=10)
    with django_assert_max_num_queries(20), pytest.raises(Enough):
        write_stories(run=run, engine=engine, accepted=frozenset({policy.weights_hash}))
    assert engine.most <= 256
