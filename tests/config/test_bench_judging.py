"""`make bench-judging`: the database that it makes is one that the loop could have left, and its figures are true."""

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs

import pytest
from django.db import transaction
from django.db.models import Count

from annotate.models import Assignment, Comparison, Expert, Gold, Judgement, Kind, Place, Rank, Revision
from annotate.queue import next_assignment
from config.bench_judging import figures, fill
from config.bench_judging.experts import Page, Times, Unexpected
from generation.models import Prompt, Story
from tests.environment import ROOT
from tests.factories import make_expert, make_policy

PAGE = """
<form id="other" action="/elsewhere/"><input type="hidden" name="no" value="x"></form>
<form class="f" id="judgement" method="post" action="/judge/1234/submit/?a=1&amp;b=2">
  <input type="hidden" name="csrfmiddlewaretoken" value="token"><input type="hidden" value="7" name="version">
  <input type="radio" name="best" value="1"><input type="radio" name="best" value="2">
  <input type="radio" name="best" value="3"><input type="radio" name="worst" value="1">
</form>
"""


@pytest.fixture
def filled(db: None) -> Callable[[int], list[Expert]]:
    def fill_up(judgements: int) -> list[Expert]:
        judges = fill.make_judges(2, "a long password")
        fill.fill(judgements=judgements, queue=5, judges=judges, seed=3, jobs=1, tick=lambda written: None)
        return judges

    return fill_up


def test_the_fill_makes_exactly_as_many_judgements_as_asked(filled: Callable[[int], list[Expert]]) -> None:
    filled(100)
    assert Judgement.objects.count() == 100
    filled(331)
    assert Judgement.objects.count() == 331
    filled(331)
    assert Judgement.objects.count() == 331


def test_what_was_judged_is_as_the_loop_leaves_it(filled: Callable[[int], list[Expert]]) -> None:
    filled(200)
    answered = Assignment.objects.exclude(answered_at=None)
    assert answered.count() == 200 == Judgement.objects.filter(assignment__in=answered).count()
    ordinary = answered.filter(kind=Kind.ORDINARY)
    assert Place.objects.filter(wanted=False, held_until=None, assignment__in=ordinary).count() == ordinary.count()
    assert not Place.objects.filter(wanted=True).exclude(assignment=None).exists()
    assert not Assignment.objects.exclude(place=None).exclude(kind=Kind.ORDINARY).exists()
    for expert in Expert.objects.annotate(answers=Count("assignments__answered_at")):
        assert expert.judged == expert.answers
        assert expert.practised_at
    for revision in Revision.objects.select_related("assignment"):
        assert (revision.number, revision.key) == (revision.assignment.version, revision.assignment.page)
    for place in Place.objects.select_related("comparison__prompt"):
        assert (place.draw_order, place.language) == (place.comparison.draw_order, place.comparison.prompt.language)


def test_the_ranks_are_those_of_the_stories_shown(filled: Callable[[int], list[Expert]]) -> None:
    filled(200)
    assert Rank.objects.count() == 4 * 200
    for judgement in Judgement.objects.select_related("assignment").prefetch_related("ranks"):
        ranks = {rank.shown_position: rank for rank in judgement.ranks.all()}
        shown = judgement.assignment.shown
        assert [ranks[position].story_id for position in (1, 2, 3, 4)] == shown
        assert set(shown) == set(judgement.assignment.comparison.stories.values_list("pk", flat=True))
        found = sorted(rank.rank for rank in ranks.values())
        assert found == ([1, 2, 2, 3] if judgement.verdict == "ranked" else [1, 1, 1, 1])
    assert Judgement.objects.filter(verdict="ranked").count() > 150


def test_stories_are_as_long_as_real_ones_and_differ(filled: Callable[[int], list[Expert]]) -> None:
    filled(200)
    texts = Story.objects.filter(prompt__language="en").values_list("text", flat=True)
    assert 1_200 < sum(map(len, texts)) / len(texts) < 2_200
    assert len(set(texts)) == len(texts)
    assert {prompt.language for prompt in Prompt.objects.all()} == {"en", "zh"}


def test_silent_repeats_show_every_story_in_another_place(filled: Callable[[int], list[Expert]]) -> None:
    filled(200)
    repeats = Assignment.objects.filter(kind=Kind.REPEAT)
    assert repeats.count() == 200 // 16
    for repeat in repeats:
        first = Assignment.objects.get(kind=Kind.ORDINARY, expert=repeat.expert, comparison=repeat.comparison)
        assert all(old != new for old, new in zip(first.shown, repeat.shown, strict=True))
    assert Gold.objects.exists()


def test_the_load_finds_a_queue_that_nobody_has_seen(filled: Callable[[int], list[Expert]]) -> None:
    judges = filled(60)
    untouched = Comparison.objects.filter(assignments=None)
    assert untouched.count() == 5
    assert Place.objects.wanted().filter(comparison__in=untouched).count() == 15
    for judge in judges:
        assert judge.user.check_password("a long password")
        given = next_assignment(expert=judge)
        assert given
        assert given.answered_at is None
    filled(60)
    assert Comparison.objects.filter(assignments=None, places__wanted=True).distinct().count() >= 5


def test_the_same_seed_gives_the_same_rows(filled: Callable[[int], list[Expert]]) -> None:
    def rows() -> list[object]:
        with transaction.atomic():
            filled(100)
            found = [*Judgement.objects.values_list("verdict", "seconds", "reason"), *Story.objects.values_list("text")]
            transaction.set_rollback(True)
        return found

    first = rows()
    assert len(set(first)) > 100
    assert rows() == first


def test_somebodys_database_is_refused(db: None) -> None:
    fill.check_ours()
    make_policy("base")
    with pytest.raises(fill.NotOurs):
        fill.check_ours()


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [
        ([], 0.5, None),
        ([7.0], 0.95, 7.0),
        ([3.0, 1.0, 2.0], 0.5, 2.0),
        ([1.0, 2.0], 0.5, 1.5),
        ([float(n) for n in range(101)], 0.95, 95.0),
        ([0.0, 10.0], 0.95, 9.5),
    ],
)
def test_percentiles_by_hand(values: list[float], share: float, expected: float | None) -> None:
    assert figures.percentile(values, share) == expected


def test_a_summary_adds_the_experts_up() -> None:
    times = [
        Times([1.0, 3.0], [5.0], acknowledged=1, seconds=2.0, cpu_seconds=0.01, page_bytes=10),
        Times([2.0], [7.0, 9.0], acknowledged=3, errors=1, said=["a word"], seconds=1.0, cpu_seconds=0.03),
    ]
    found = figures.summary(times, stored=4, web_cpu=0.08, postgres_cpu=0.04)
    assert (found["next_ms"]["p50"], found["submit_ms"]["p50"]) == (2.0, 7.0)
    assert (found["acknowledged"], found["stored"], found["errors"]) == (4, 4, 1)
    assert found["judgements_per_second"] == 2.0
    assert found["cpu_ms_per_judgement"] == {"web": 20.0, "postgres": 10.0, "load": 10.0}


def test_a_page_is_answered_with_all_that_it_hides() -> None:
    page = Page.read(PAGE)
    assert page.action == "/judge/1234/submit/?a=1&b=2"
    sent = parse_qs(page.answered(random.Random(0)), keep_blank_values=True)
    assert (sent["csrfmiddlewaretoken"], sent["version"], sent["verdict"]) == (["token"], ["7"], ["ranked"])
    assert {sent["best"][0], sent["worst"][0]} < {"1", "2", "3"}
    assert "no" not in sent


def test_a_page_without_a_comparison_says_what_stands_on_it() -> None:
    with pytest.raises(Unexpected, match="Nothing to judge"):
        Page.read("<h1>Nothing to judge</h1>")


def test_the_cpu_of_children_counts() -> None:
    burn = "import time\nwhile time.process_time() < 0.3: pass\nprint(flush=True)\ninput()"
    before = figures.cpu_seconds(os.getpid())
    with subprocess.Popen([sys.executable, "-c", burn], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as p:
        assert p.stdout
        p.stdout.readline()
        assert 0.2 < figures.cpu_seconds(p.pid) <= figures.cpu_seconds(os.getpid()) - before + 0.05
        p.communicate("\n")


def test_more_judgements_than_places_are_found(filled: Callable[[int], list[Expert]]) -> None:
    filled(30)
    assert figures.over_booked() == 0
    full = Comparison.objects.exclude(places__wanted=True)[0]
    more = Assignment.objects.create(comparison=full, expert=make_expert(), shown=[])
    Judgement.objects.create(assignment=more, verdict="tie", extra=True)
    assert figures.over_booked() == 1


@pytest.mark.slow
def test_a_small_run_loses_nothing(tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("STORYLOOP_")}
    environment |= {"STORYLOOP_VAR": str(tmp_path / "var"), "DATABASE_URL": "", "CELERY_BROKER_URL": ""}
    options = ["--experts", "2", "--judgements", "50", "--seconds", "2", "--json"]
    done = subprocess.run(
        [sys.executable, "manage.py", "bench_judging", *options, str(tmp_path / "figures.json")],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "figures.json").read_text())
    (run,) = found["runs"]
    assert (run["experts"], run["judgements_in_database"], run["over_booked"]) == (2, 50, 0)
    for mode in (run, run["htmx"]):
        assert mode["errors"] == 0
        assert mode["acknowledged"] == mode["stored"] > 0
        assert 0 < mode["submit_ms"]["p50"] <= mode["submit_ms"]["p95"]
    assert 0 < run["next_ms"]["p50"] <= run["next_ms"]["p95"]
    assert run["cpu_ms_per_judgement"]["web"] > 0
    assert {"seed", "command", "commit", "versions"} < set(found)
