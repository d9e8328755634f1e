"""The admins' pages about writing."""

from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from generation import locks, report, runs
from generation.models import EngineCheck, Fault, Policy, Redraw, RunState, SamplingRow, WritingRun
from tests.factories import make_policy, make_prompt, make_story
from tests.generation.test_forms import posted

pytestmark = pytest.mark.django_db
HTMX = {"HX-Request": "true"}


@pytest.fixture
def boss(django_user_model):
    return django_user_model.objects.create_user("boss", is_staff=True)


@pytest.fixture
def admin(client: Client, boss) -> Client:
    client.force_login(boss)
    return client


@pytest.fixture
def policy() -> Policy:
    return make_policy("base", current=True)


@pytest.fixture
def sent(monkeypatch) -> list[object]:
    """What was put into the queue: the ids of runs, and "check"."""
    from generation import tasks

    found: list[object] = []
    monkeypatch.setattr(tasks.write_run, "delay", found.append)
    monkeypatch.setattr(tasks.check_engine, "delay", lambda: found.append("check"))
    return found


def make_run(policy: Policy, state: str = RunState.RUNNING, **fields: object) -> WritingRun:
    ended = None if state == RunState.RUNNING else timezone.now()
    values = {"count": 4, "engine": "transformers", "wanted": 400, "state": state, "ended_at": ended, **fields}
    return WritingRun.objects.create(policy=policy, **values)


def lonely(run: WritingRun) -> WritingRun:
    """Without a worker for an hour."""
    WritingRun.objects.filter(pk=run.pk).update(seen_at=timezone.now() - timedelta(hours=1))
    run.refresh_from_db()
    return run


def text(response) -> str:
    return response.content.decode()


def said(response) -> str:
    return " ".join(str(message) for message in response.context["messages"])


class TestEngine:
    def test_it_shows_what_this_installation_writes_with(self, admin: Client, settings) -> None:
        settings.ENGINE = "vllm"
        assert "<dd>vllm</dd>" in text(admin.get("/writing/"))

    def test_servers_are_named_without_their_passwords(self, admin: Client, settings) -> None:
        settings.ENGINE, settings.VLLM_URLS = "vllm-server", ["http://me:secret@gpu:8100/?key=guarded"]
        page = text(admin.get("/writing/"))
        assert "http://gpu:8100/" in page
        assert "secret" not in page
        assert "guarded" not in page

    def test_without_a_check_it_says_so(self, admin: Client) -> None:
        assert "It has not been checked yet." in text(admin.get("/writing/"))

    def test_the_latest_check_of_this_engine_counts(self, admin: Client) -> None:
        EngineCheck.objects.create(engine="transformers", well=False, message="It was ill.")
        EngineCheck.objects.create(engine="transformers", version="5.19", well=True, message="A fox.", start_seconds=2)
        EngineCheck.objects.create(engine="vllm", well=False, message="Not this one.")
        page = text(admin.get("/writing/"))
        assert "A fox." in page
        assert "2.0 s" in page
        assert "ill" not in page
        assert "Not this one." not in page

    def test_what_is_wrong_is_shown(self, admin: Client) -> None:
        EngineCheck.objects.create(engine="transformers", well=False, message="The folder is gone.")
        page = text(admin.get("/writing/"))
        assert "not well" in page
        assert "The folder is gone." in page

    def test_a_check_is_sent_when_it_is_committed(
        self, admin: Client, sent: list[object], django_capture_on_commit_callbacks
    ) -> None:
        with django_capture_on_commit_callbacks(execute=True):
            admin.post("/writing/engine/check/")
        assert sent == ["check"]

    def test_who_asked_for_a_check_sees_that_it_waits(self, admin: Client) -> None:
        page = text(admin.post("/writing/engine/check/", follow=True))
        assert "The check waits for a worker." in page
        assert 'hx-trigger="every 2s"' in page

    def test_everybody_sees_one_that_is_under_way(self, admin: Client) -> None:
        with locks.held(locks.CHECK):
            assert "The engine is being checked" in text(admin.get("/writing/engine/", headers=HTMX))

    def test_its_result_ends_the_waiting(self, admin: Client) -> None:
        admin.post("/writing/engine/check/")
        EngineCheck.objects.create(engine="transformers", well=True, message="A fox.")
        page = text(admin.get("/writing/engine/", headers=HTMX))
        assert page.strip().startswith("<section")
        assert "Check the engine" in page
        assert "every 2s" not in page

    def test_after_a_minute_without_a_worker_it_says_so(self, admin: Client) -> None:
        asked = {"after": 0, "at": (timezone.now() - timedelta(minutes=2)).isoformat()}
        session = admin.session
        session["engine_check"] = asked
        session.save()
        assert "No worker has begun the check" in text(admin.get("/writing/"))

    def test_a_check_that_nobody_ever_began_is_forgotten(self) -> None:
        asked = report.AskedCheck(after=0, at=timezone.now() - timedelta(hours=1))
        assert not report.engine_state(asked).under_way


class TestAuthors:
    def test_nothing_yet(self, admin: Client) -> None:
        assert "Nothing is written yet." in text(admin.get("/writing/"))

    def test_stories_are_counted_by_policy_and_engine(self, policy: Policy) -> None:
        prompt, other = make_prompt(), make_policy("round-1", parent=policy)
        make_story(policy, prompt, 0, engine="transformers 5.19")
        make_story(policy, prompt, 1, engine="transformers 5.19", finish_reason="length")
        make_story(policy, prompt, 2, engine="vllm 0.32.0")
        make_story(other, prompt, 0)
        found = [(row.policy.name, row.engine, row.stories, row.cut_off) for row in report.authorship()]
        assert found == [("round-1", "", 1, 0), ("base", "transformers 5.19", 2, 1), ("base", "vllm 0.32.0", 1, 0)]

    def test_a_share_stands_with_its_n(self, admin: Client, policy: Policy) -> None:
        prompt = make_prompt()
        for index, reason in enumerate(("stop", "stop", "length")):
            make_story(policy, prompt, index, finish_reason=reason)
        assert "33.3 %<small>1 of 3 stories</small>" in text(admin.get("/writing/"))

    def test_stories_from_before_engines_were_kept_are_not_hidden(self, admin: Client, policy: Policy) -> None:
        make_story(policy, make_prompt())
        assert "not recorded" in text(admin.get("/writing/"))


class TestRuns:
    def test_a_run_at_work_asks_again_by_itself(self, admin: Client, policy: Policy) -> None:
        run = make_run(policy, stored=100)
        page = text(admin.get("/writing/"))
        assert f'hx-get="/writing/runs/{run.pk}/?stage=running-worked-on&amp;list=1" hx-trigger="every 2s"' in page
        assert "100 of 400 stories" in page

    def test_a_run_that_has_ended_does_not(self, admin: Client, policy: Policy) -> None:
        make_run(policy, RunState.DONE, stored=400, message="400 stories written.")
        page = text(admin.get("/writing/"))
        assert "every 2s" not in page
        assert "400 stories written." in page

    def test_a_run_that_has_ended_shows_the_rate_of_all_of_it(self, policy: Policy) -> None:
        run = make_run(policy, RunState.DONE, stored=90)
        WritingRun.objects.update(started_at=run.ended_at - timedelta(minutes=3))
        assert report.run_card(run.pk).progress.per_minute == pytest.approx(30, rel=0.01)

    def test_it_says_why_draws_were_not_kept(self, admin: Client, policy: Policy) -> None:
        run = make_run(policy)
        Redraw.objects.create(run=run, fault=Fault.SAME, draws=5)
        Redraw.objects.create(run=run, fault=Fault.EMPTY, draws=7)
        assert "Draws that were not kept: 12 (empty: 7; the same as a sister: 5)" in text(admin.get("/writing/"))

    def test_without_a_worker_it_says_since_when_and_offers_to_go_on(self, admin: Client, policy: Policy) -> None:
        run = lonely(make_run(policy))
        page = text(admin.get("/writing/"))
        assert f"No worker since {run.seen_at:%Y-%m-%d %H:%M}." in page
        assert f'action="/writing/runs/{run.pk}/continue/"' in page

    def test_twenty_stand_on_a_page(self, admin: Client, policy: Policy) -> None:
        made = [make_run(policy, RunState.DONE) for _ in range(21)]
        assert [card.run for card in admin.get("/writing/?page=2").context["cards"]] == made[:1]

    def test_a_page_that_is_not_there_is_the_last_one(self, admin: Client, policy: Policy) -> None:
        make_run(policy, RunState.DONE)
        assert len(admin.get("/writing/?page=99").context["cards"]) == 1

    def test_its_queries_do_not_grow_with_the_runs(
        self, admin: Client, policy: Policy, django_assert_max_num_queries
    ) -> None:
        for _ in range(20):
            Redraw.objects.create(run=make_run(policy, RunState.DONE), fault=Fault.SAME, draws=1)
        with django_assert_max_num_queries(16):
            admin.get("/writing/")


class TestShowRun:
    def test_an_unknown_run_is_not_found(self, admin: Client) -> None:
        assert admin.get("/writing/runs/7/").status_code == 404

    def test_it_lists_the_places_that_stay_empty_with_their_reason(self, admin: Client, policy: Policy) -> None:
        run, prompt = make_run(policy, RunState.DONE), make_prompt("写一个故事。", language="zh")
        runs.give_up(run, prompt, 2, Fault.LANGUAGE)
        page = text(admin.get(f"/writing/runs/{run.pk}/"))
        assert '<td class="prose" lang="zh">写一个故事。</td><td class="number">3</td>' in page
        assert "in the wrong language" in page

    def test_htmx_gets_only_what_moves(self, admin: Client, policy: Policy) -> None:
        run = make_run(policy, stored=7)
        response = admin.get(f"/writing/runs/{run.pk}/?stage=running-worked-on&list=1", headers=HTMX)
        assert text(response).strip().startswith(f'<div id="run-{run.pk}-live"')
        assert "HX-Retarget" not in response.headers

    def test_when_its_stage_has_changed_the_list_comes_with_the_right_buttons(
        self, admin: Client, policy: Policy
    ) -> None:
        run = make_run(policy, RunState.DONE)
        response = admin.get(f"/writing/runs/{run.pk}/?stage=running-worked-on&list=1", headers=HTMX)
        assert response.headers["HX-Retarget"] == "#runs"
        assert text(response).strip().startswith('<section id="runs"')
        assert "every 2s" not in text(response)

    def test_on_its_own_page_a_new_stage_shows_the_page_anew(self, admin: Client, policy: Policy) -> None:
        run = make_run(policy, RunState.DONE)
        response = admin.get(f"/writing/runs/{run.pk}/?stage=running-worked-on", headers=HTMX)
        assert response.headers["HX-Refresh"] == "true"


class TestWriteMissing:
    def test_it_says_how_many_are_missing(self, admin: Client, policy: Policy) -> None:
        make_story(policy, make_prompt(), 0)
        assert "has 3 stories still to write" in text(admin.get("/writing/"))

    def test_it_begins_a_run_and_sends_it_when_it_is_committed(
        self, admin: Client, policy: Policy, boss, sent: list[object], django_capture_on_commit_callbacks
    ) -> None:
        make_prompt()
        with django_capture_on_commit_callbacks(execute=True):
            admin.post("/writing/missing/")
        run = WritingRun.objects.get()
        assert (run.policy, run.count, run.engine, run.wanted, run.launched_by) == (policy, 4, "transformers", 4, boss)
        assert sent == [run.pk]

    def test_twice_is_one_run(self, admin: Client, policy: Policy) -> None:
        make_prompt()
        admin.post("/writing/missing/")
        admin.post("/writing/missing/")
        assert WritingRun.objects.count() == 1

    def test_if_nothing_is_missing_it_begins_none(self, admin: Client, policy: Policy) -> None:
        prompt = make_prompt()
        for index in range(4):
            make_story(policy, prompt, index)
        assert "base has written all its stories." in said(admin.post("/writing/missing/", follow=True))
        assert not WritingRun.objects.exists()

    def test_without_a_policy_it_says_what_to_do(self, admin: Client) -> None:
        assert "There is no policy yet" in said(admin.post("/writing/missing/", follow=True))

    def test_without_prompts_it_says_what_to_do(self, admin: Client, policy: Policy) -> None:
        assert "import_prompts" in said(admin.post("/writing/missing/", follow=True))

    def test_while_it_writes_there_is_no_button(self, admin: Client, policy: Policy) -> None:
        make_prompt()
        make_run(policy)
        assert "Write the missing stories" not in text(admin.get("/writing/"))

    def test_what_the_last_run_gave_up_is_told_apart(self, admin: Client, policy: Policy) -> None:
        make_run(policy, RunState.DONE)
        run = make_run(policy, RunState.DONE)
        runs.give_up(run, make_prompt(), 0, Fault.SAME)
        assert "Of them 1 was given up by its last run" in text(admin.get("/writing/"))

    def test_what_was_written_since_is_not_given_up(self, policy: Policy) -> None:
        run, prompt = make_run(policy, RunState.DONE), make_prompt()
        for index in (0, 1):
            runs.give_up(run, prompt, index, Fault.SAME)
        make_story(policy, prompt, 1)
        assert report.missing().given_up == 1


class TestCancelAndContinue:
    def test_cancel_ends_the_run(self, admin: Client, policy: Policy) -> None:
        run = make_run(policy)
        admin.post(f"/writing/runs/{run.pk}/cancel/")
        run.refresh_from_db()
        assert run.state == RunState.CANCELLED

    def test_continue_sends_it_when_it_is_committed(
        self, admin: Client, policy: Policy, sent: list[object], django_capture_on_commit_callbacks
    ) -> None:
        run = lonely(make_run(policy))
        with django_capture_on_commit_callbacks(execute=True):
            admin.post(f"/writing/runs/{run.pk}/continue/")
        assert sent == [run.pk]

    @pytest.mark.parametrize("act", ["cancel", "continue"])
    def test_a_run_that_has_ended_stays_so(self, admin: Client, policy: Policy, sent: list[object], act: str) -> None:
        run = make_run(policy, RunState.DONE)
        response = admin.post(f"/writing/runs/{run.pk}/{act}/", follow=True)
        assert "This run has ended before." in said(response)
        run.refresh_from_db()
        assert (run.state, sent) == (RunState.DONE, [])


class TestPlan:
    def test_rows_beyond_the_stories_of_a_prompt_are_marked(self, admin: Client, settings) -> None:
        settings.STORIES_PER_PROMPT = 3
        assert text(admin.get("/writing/plan/")).count("not used now") == 2

    def test_an_admin_changes_it(self, admin: Client) -> None:
        assert "Saved." in said(admin.post("/writing/plan/save/", posted(story_1_temperature="1.5"), follow=True))
        assert SamplingRow.objects.get(sample_index=0).temperature == 1.5

    def test_a_fault_stands_beside_its_field_and_nothing_is_lost_or_stored(self, admin: Client) -> None:
        response = admin.post("/writing/plan/save/", posted(story_1_temperature="3", story_2_seed="77"))
        page = text(response)
        assert response.status_code == 422
        assert 'aria-describedby="id_story-1-temperature_error"' in page
        assert "0 to 2." in page
        assert 'value="77"' in page
        assert not SamplingRow.objects.exists()

    def test_rows_that_are_alike_are_saved_with_a_warning(self, admin: Client) -> None:
        page = text(admin.post("/writing/plan/save/", posted(), follow=True))
        assert "Stories 1, 2, 3, 4, 5 are drawn in the same way" in page

    def test_back_to_the_defaults(self, admin: Client) -> None:
        SamplingRow.objects.create(sample_index=2, temperature=0.3)
        admin.post("/writing/plan/reset/")
        assert not SamplingRow.objects.exists()


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "less than a minute left"), (59, "less than a minute left"), (60, "about 1 minute left"),
        (170, "about 3 minutes left"), (3599, "about 1 hour left"), (2 * 3600, "about 2 hours left"),
        (47 * 3600, "about 47 hours left"), (50 * 3600, "about 2 days left"),
    ],
)  # fmt: skip
def test_the_time_left_in_words(seconds: float, words: str) -> None:
    assert report.time_left(seconds) == words


@pytest.mark.parametrize("name", ["start_check", "write_missing", "save_sampling_plan", "reset_sampling_plan"])
def test_nothing_changes_by_get(admin: Client, name: str) -> None:
    from django.urls import reverse

    assert admin.get(reverse(name)).status_code == 405
