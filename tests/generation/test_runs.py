"""The life of a writing run: begun or joined, its prompts shared, reported on, ended."""

import threading
import time
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.utils import timezone

from generation.models import EmptyPlace, Policy, Redraw, RunState, Story, WritingRun
from generation.plan import MAX_DRAWS
from generation.runs import (
    QUIET,
    CannotWrite,
    RunEnded,
    at_it,
    begin_or_join,
    cancel,
    cancel_of_policy,
    end_run,
    fail,
    fail_if_alone,
    give_up,
    incomplete_prompts,
    join,
    kept_alive,
    missing_count,
    open_places,
    progress,
    report,
    summary,
    worked_on,
    workers,
)
from tests.factories import make_policy, make_prompt, make_run, make_story
from tests.generation.pens import tale
from tests.threads import at_once

pytestmark = pytest.mark.django_db


@pytest.fixture
def policy() -> Policy:
    return make_policy()


@pytest.fixture
def run(policy: Policy) -> WritingRun:
    return make_run(policy, wanted=12)


def begin(policy: Policy, count: int = 3, engine: str = "transformers", **by: User) -> WritingRun:
    return begin_or_join(policy=policy, count=count, engine=engine, **by)


def seen(run: WritingRun, ago: timedelta) -> None:
    WritingRun.objects.filter(pk=run.pk).update(seen_at=timezone.now() - ago)
    run.refresh_from_db()


def state(run: WritingRun) -> str:
    return WritingRun.objects.get(pk=run.pk).state


# --- begun or joined ---------------------------------------------------------------------------------------


def test_a_run_begins_with_what_is_missing(policy, admin_user):
    prompt, _ = make_prompt(), make_prompt()
    make_story(policy, prompt, 1)
    run = begin(policy, by=admin_user)
    assert (run.wanted, run.count, run.engine, run.launched_by) == (5, 3, "transformers", admin_user)
    assert run.state == RunState.RUNNING


def test_who_comes_later_joins_the_run(policy):
    make_prompt()
    assert begin(policy) == begin(policy)


def test_who_joins_says_which_engine_writes_now(policy):
    make_prompt()
    begin(policy)
    assert begin(policy, engine="vllm").engine == "vllm"


def test_a_worker_that_joins_makes_the_run_worked_on(policy):
    """Its engine may need minutes until the first report."""
    make_prompt()
    seen(begin(policy), 2 * QUIET)
    assert worked_on(begin(policy))


def test_another_number_of_stories_cannot_join(policy):
    make_prompt()
    begin(policy, 3)
    with pytest.raises(CannotWrite, match=f"{policy.name} is writing 3 stories a prompt: wait for that run to end"):
        begin(policy, 4)


def test_after_a_run_has_ended_another_one_begins(policy):
    make_prompt()
    first = begin(policy, 3)
    end_run(first, RunState.DONE)
    assert begin(policy, 4) != first


def test_two_policies_write_side_by_side(policy):
    make_prompt()
    assert begin(policy) != begin(make_policy())


def test_without_prompts_there_is_no_run(policy):
    with pytest.raises(CannotWrite, match="Import some first: manage.py import_prompts FILE"):
        begin(policy)
    assert not WritingRun.objects.exists()


def test_joining_calls_no_cancel_off(run):
    """An admin who has just cancelled does not know that another worker is about to start."""
    cancel(run)
    with pytest.raises(CannotWrite, match="ended"):
        join(run, engine="transformers")
    assert state(run) == RunState.CANCELLED


def test_a_run_whose_worker_is_silent_but_there_is_worked_on(run):
    """A long story, or a server that does not answer: it has its lock."""
    seen(run, 2 * QUIET)
    with at_it(run):
        assert (workers(run), worked_on(run)) == (1, True)
    assert (workers(run), worked_on(run)) == (0, False)


@pytest.mark.django_db(transaction=True)
def test_what_fails_for_one_worker_does_not_end_the_run_of_another(run):
    begun, over = threading.Event(), threading.Event()

    def other() -> None:
        with at_it(run):
            begun.set()
            over.wait(20)
        connection.close()

    thread = threading.Thread(target=other)
    thread.start()
    begun.wait(20)
    fail_if_alone(run, "There is no vLLM on this machine.")
    assert state(run) == RunState.RUNNING
    over.set()
    thread.join()
    fail_if_alone(run, "There is no vLLM on this machine.")
    assert state(run) == RunState.FAILED


def test_a_run_that_somebody_left_behind_gives_way_to_one_with_another_number_of_stories(policy):
    make_prompt()
    left = begin(policy, 3)
    seen(left, 2 * QUIET)
    assert begin(policy, 4) != left
    assert state(left) == RunState.CANCELLED


@pytest.mark.django_db(transaction=True)
def test_a_worker_whose_model_is_loading_is_at_it(run, monkeypatch):
    monkeypatch.setattr("generation.runs.QUIET", timedelta(seconds=0.3))
    with kept_alive(run):
        time.sleep(0.6)
        run.refresh_from_db()
        assert worked_on(run)


@pytest.mark.django_db(transaction=True)
def test_of_two_that_begin_at_once_one_joins_the_other(policy):
    make_prompt()
    assert len({run.pk for run in at_once(4, lambda _: begin(policy))}) == 1


# --- what is missing ---------------------------------------------------------------------------------------


def test_what_is_missing_is_counted_for_this_policy_and_so_many_places(policy):
    one, _ = make_prompt(), make_prompt()
    make_story(policy, one, 0)
    make_story(policy, one, 4)
    make_story(make_policy(), one, 1)
    assert [missing_count(policy, count) for count in (3, 5)] == [5, 8]


def test_a_prompt_is_incomplete_until_each_place_is_written_or_given_up(run):
    first, second, third = (make_prompt() for _ in range(3))
    for index in (0, 1):
        for prompt in (first, second):
            make_story(run.policy, prompt, index)
    give_up(run, first, 2, "empty")
    make_story(run.policy, second, 4)  # of a run with more places
    assert incomplete_prompts(run, after=0, window=9) == ([second, third], None)


def test_what_another_run_gave_up_is_missing(run):
    prompt = make_prompt()
    other = make_run(run.policy, state=RunState.DONE)
    for index in range(3):
        give_up(other, prompt, index, "same")
    assert incomplete_prompts(run, after=0, window=9)[0] == [prompt]


def test_incomplete_prompts_are_read_in_windows(run, django_assert_num_queries):
    prompts = [make_prompt() for _ in range(5)]
    make_story(run.policy, prompts[2], 0)
    cursor, windows = 0, []
    while cursor is not None:
        with django_assert_num_queries(3):
            found, cursor = incomplete_prompts(run, after=cursor, window=2)
        windows.append(found)
    assert windows == [prompts[:2], prompts[2:4], prompts[4:]]


def test_a_last_window_that_is_full_is_followed_by_an_empty_one(run):
    prompts = [make_prompt() for _ in range(2)]
    assert incomplete_prompts(run, after=0, window=2) == (prompts, prompts[-1].pk)
    assert incomplete_prompts(run, after=prompts[-1].pk, window=2) == ([], None)


def test_open_places_come_with_the_texts_of_all_sisters(run):
    prompt = make_prompt()
    for index, text in ((1, "One."), (4, "Four.")):
        make_story(run.policy, prompt, index, text)
    make_story(make_policy(), prompt, 0, "Of another policy.")
    give_up(run, prompt, 0, "cut_off")
    assert open_places(run, prompt) == ({2: 0}, ["One.", "Four."])


def test_a_place_that_earlier_runs_gave_up_is_drawn_with_seeds_of_its_own(run):
    prompt = make_prompt()
    for _ in range(2):
        give_up(make_run(run.policy, state=RunState.DONE), prompt, 1, "same")
    assert open_places(run, prompt)[0] == {0: 0, 1: 2 * MAX_DRAWS, 2: 0}


# --- reported on -------------------------------------------------------------------------------------------


def test_a_report_counts_the_runs_stories_whoever_wrote_them(run):
    make_story(run.policy, make_prompt(), 0, run=run)
    make_story(run.policy, make_prompt(), 0, "Not whole", run=run, finish_reason="length")
    make_story(run.policy, make_prompt(), 0)
    report(run)
    run.refresh_from_db()
    assert (run.stored, run.cut_off) == (2, 1)


def test_reports_of_faults_add_up(run):
    report(run, {"same": 2})
    report(run, {"same": 1, "empty": 1})
    assert dict(Redraw.objects.values_list("fault", "draws")) == {"same": 3, "empty": 1}


def test_a_report_says_that_a_worker_is_there(run):
    seen(run, 2 * QUIET)
    assert not worked_on(run)
    report(run)
    run.refresh_from_db()
    assert worked_on(run)


@pytest.mark.django_db(transaction=True)
def test_reports_of_many_workers_at_once_add_up(run):
    at_once(4, lambda _: [report(run, {"same": 1}) for _ in range(5)])
    assert Redraw.objects.get().draws == 20


@pytest.mark.parametrize("ended", [RunState.CANCELLED, RunState.FAILED])
def test_who_reports_to_a_run_that_was_ended_is_told(run, ended):
    end_run(run, ended)
    with pytest.raises(RunEnded):
        report(run)


def test_who_reports_last_to_a_run_that_is_done_is_not_disturbed(run):
    end_run(run, RunState.DONE)
    report(run)
    assert state(run) == RunState.DONE


def test_what_was_done_until_the_end_is_counted(run):
    make_story(run.policy, make_prompt(), 0, run=run)
    end_run(run, RunState.CANCELLED)
    assert WritingRun.objects.get().stored == 1


def test_a_place_is_given_up_once(run):
    prompt = make_prompt()
    give_up(run, prompt, 1, "empty")
    give_up(run, prompt, 1, "same")
    assert EmptyPlace.objects.get().fault == "empty"


# --- ended -------------------------------------------------------------------------------------------------


def test_a_run_ends_once(run):
    assert end_run(run, RunState.DONE, "12 stories written.")
    assert not end_run(run, RunState.CANCELLED, "Too late.")
    run.refresh_from_db()
    assert (run.state, run.message) == (RunState.DONE, "12 stories written.")
    assert run.ended_at >= run.started_at


def test_a_run_that_failed_says_why(run):
    fail(run, "The disk is full.")
    run.refresh_from_db()
    assert (run.state, run.message) == (RunState.FAILED, "The disk is full.")


def test_a_run_is_cancelled_at_once_and_its_workers_hear_of_it_at_their_next_report(run):
    cancel(run)
    assert state(run) == RunState.CANCELLED
    with pytest.raises(RunEnded, match="The stories that are written are kept"):
        report(run)


def test_a_run_that_is_done_is_not_cancelled_any_more(run):
    end_run(run, RunState.DONE)
    cancel(run)
    assert state(run) == RunState.DONE
    report(run)


def test_what_a_policy_is_writing_can_be_cancelled(run):
    other = make_run()
    cancel_of_policy(run.policy)
    assert (state(run), state(other)) == (RunState.CANCELLED, RunState.RUNNING)


def test_a_policy_that_writes_nothing_has_nothing_to_cancel(policy):
    make_run(policy, state=RunState.DONE)
    cancel_of_policy(policy)
    assert WritingRun.objects.get().state == RunState.DONE


# --- for a person ------------------------------------------------------------------------------------------


def test_progress_counts_stories_and_places_that_stay_empty(run):
    WritingRun.objects.update(stored=5)
    give_up(run, make_prompt(), 0, "same")
    now = progress(run := WritingRun.objects.get())
    assert (now.done, now.wanted, now.share, now.worked_on) == (6, 12, 0.5, True)


def test_the_time_left_is_what_is_missing_at_the_rate_of_the_last_minutes(run):
    stories_at(run, [timedelta(seconds=s) for s in (30, 60, 90, 120)])
    WritingRun.objects.update(started_at=timezone.now() - timedelta(minutes=2), stored=4)
    now = progress(WritingRun.objects.get())
    assert now.per_minute == pytest.approx(2.0, rel=0.02)
    assert now.seconds_left == pytest.approx(60 * 8 / 2, rel=0.02)


def test_what_was_written_long_ago_says_nothing_of_the_rate(run):
    stories_at(run, [timedelta(minutes=1), timedelta(hours=2), timedelta(hours=2)])
    WritingRun.objects.update(started_at=timezone.now() - timedelta(hours=3))
    assert progress(WritingRun.objects.get()).per_minute == pytest.approx(1, rel=0.05)


def stories_at(run: WritingRun, ago: list[timedelta]) -> None:
    for number, before in enumerate(ago):
        story = make_story(run.policy, make_prompt(), 0, tale(number), run=run)
        Story.objects.filter(pk=story.pk).update(created_at=timezone.now() - before)


def test_nothing_is_said_of_the_time_left_before_the_first_story(run):
    now = progress(run)
    assert (now.per_minute, now.seconds_left, now.share) == (0, None, 0)


def test_a_run_that_has_ended_has_no_time_left(run):
    stories_at(run, [timedelta(seconds=1)])
    end_run(run, RunState.CANCELLED)
    now = progress(WritingRun.objects.get())
    assert (now.seconds_left, now.worked_on) == (None, False)


@pytest.mark.parametrize(("wanted", "stored"), [(0, 0), (3, 5)])
def test_a_share_is_never_more_than_all(run, wanted, stored):
    WritingRun.objects.update(wanted=wanted, stored=stored)
    assert progress(WritingRun.objects.get()).share == 1


def test_the_summary_says_what_all_workers_did_and_what_to_do(run):
    make_story(run.policy, make_prompt(), 0, "Not whole", run=run, finish_reason="length")
    report(run, {"same": 5, "too_long": 1})
    give_up(run, make_prompt(), 1, "same")
    give_up(run, make_prompt(), 1, "too_long")
    said = summary(run)
    assert "Stories written: 1; drawn again: 4." in said
    assert "Raise STORYLOOP_MAX_STORY_TOKENS" in said
    assert "Shorten the prompt" in said
    assert "wrote 4 times a story that is empty" in said


def test_runs_at_work_are_those_that_have_not_ended(run):
    for ended in (RunState.DONE, RunState.CANCELLED, RunState.FAILED):
        make_run(state=ended)
    assert list(WritingRun.objects.at_work()) == [run]
