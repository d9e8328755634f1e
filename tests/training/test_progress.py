"""A round's page while it is at work: how far it is, its curves, its log, without loading it anew."""

import csv
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.db.models.functions import Now
from django.test import Client

from tests.factories import make_policy, make_prompt, make_run, make_story
from tests.training.stories import add_metric
from tests.training.test_models import make_round
from training import progress
from training.models import Alarm, Round, RoundMetric, State, Watched
from training.progress import curves, log_tail, progress_of, seconds_left

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


def done_at(*seconds: float) -> list[datetime]:
    """Newest first."""
    return [NOON + timedelta(seconds=second) for second in sorted(seconds, reverse=True)]


class TestTimeLeft:
    @pytest.mark.parametrize("steps", [0, 1, 3])
    def test_nothing_is_said_before_three_times_between_steps(self, steps: int) -> None:
        assert seconds_left(done_at(*range(steps)), 10, NOON) == (None, None)

    def test_it_is_the_median_time_of_the_steps_that_are_left(self) -> None:
        found = done_at(0, 10, 20, 500, 510, 520)  # a worker was killed in between
        assert seconds_left(found, 6, NOON + timedelta(seconds=520)) == (60.0, None)

    def test_what_has_gone_by_since_the_last_step_counts(self) -> None:
        assert seconds_left(done_at(0, 10, 20, 30), 6, NOON + timedelta(seconds=35)) == (55.0, None)

    def test_a_step_that_is_long_overdue_is_said_in_its_stead(self) -> None:
        assert seconds_left(done_at(0, 10, 20, 30), 6, NOON + timedelta(seconds=95)) == (None, 65.0)

    def test_at_the_end_nothing_is_left(self) -> None:
        assert seconds_left(done_at(0, 10, 20, 30), 0, NOON + timedelta(seconds=300)) == (None, None)


class TestLog:
    def test_its_end_is_shown_without_what_a_terminal_would_run(self, tmp_path: Path) -> None:
        path = tmp_path / "trainer.log"
        path.write_bytes(
            "".join(f"line {n}\n" for n in range(5000)).encode()
            + b"\x1b[31mred\x1b[0m\x07\n 1 %\r50 %\r99 %\n\n<b>\xe6\x95\x85\xff</b>\n"
        )
        lines = log_tail(path).split("\n")
        assert len(lines) == progress.LOG_LINES
        assert lines[-3:] == ["red", "99 %", "<b>故�</b>"]

    def test_however_long_a_line_is_little_is_read(self, tmp_path: Path) -> None:
        path = tmp_path / "trainer.log"
        path.write_text("x" * 1_000_000)
        assert len(log_tail(path)) <= progress.LOG_BYTES

    def test_without_a_file_there_is_none(self, tmp_path: Path) -> None:
        assert log_tail(tmp_path / "nothing") == ""


@pytest.mark.django_db
class TestCurves:
    def round_with(self, steps: int) -> Round:
        found = make_round(state=State.TRAINING, total=steps)
        values = {"rewards_chosen": 0.1, "rewards_rejected": 0, "rewards_margins": 0.1, "rewards_accuracies": 0.5}
        RoundMetric.objects.bulk_create(
            RoundMetric(round=found, step=step, epoch=step / steps, loss=step, kl=0, **values)
            for step in range(1, steps + 1)
        )
        return found

    def test_many_steps_become_means_and_the_file_has_each(self) -> None:
        found = self.round_with(90)
        add_metric(found, step=88)
        add_metric(found, step=90, loss=0.25)
        table = curves(found)
        assert len(table.rows) == 30
        assert [cell.text for cell in table.rows[0][:4]] == ["3", "0.03", "2.000", "–"]
        assert table.rows[-1][3].text == "0.250"  # the last of the two
        assert len(curves(found, most=0).rows) == 90
        loss = table.charts[0]
        assert [one.label for one in loss.series] == ["trained on", "held out"]
        assert loss.series[0].points[0] == (2.0, None, None, "2.000")
        assert loss.series[1].points[:29] == [None] * 29

    def test_without_held_out_pairs_there_is_one_line(self) -> None:
        assert [len(chart.series) for chart in curves(self.round_with(2)).charts] == [1, 1, 2, 1]


@pytest.mark.django_db
class TestPage:
    @pytest.fixture
    def training(self, settings, tmp_path: Path) -> Round:
        settings.MODEL_DIR = tmp_path
        found = make_round(state=State.TRAINING, done=5, total=20)
        found.folder.mkdir()
        (found.folder / "trainer.log").write_text("18 pairs of 6 prompts\n<script>alert(1)</script>\n")
        rates = {"pairs_per_second": 3.5, "tokens_per_second": 1234.0, "memory_resident": 2_500_000_000}
        for step in range(1, 6):
            add_metric(found, step=step, held_out=False, **rates)
        for step in range(1, 6):
            RoundMetric.objects.filter(step=step).update(at=Now() - timedelta(seconds=120 * (5 - step)))
        add_metric(found, step=5, loss=0.61)
        return found

    def ask(self, client: Client, stage: str) -> "tuple[str, dict[str, str]]":
        response = client.get(f"/rounds/1/progress/?stage={stage}", headers={"HX-Request": "true"})
        return response.content.decode(), dict(response.headers)

    def test_it_can_be_read_whole_without_javascript(self, admin_client: Client, training: Round) -> None:
        Alarm.objects.create(round=training, kind=Watched.KL_TOKEN, value=0.3, limit=0.1)
        page = admin_client.get("/rounds/1/").content.decode()
        for said in (
            "step 5 of 20", "25 percent", "about 30 minutes left", "3.5", "1,234", "2.50 GB", "0.610 held out",
            "18 pairs of 6 prompts", "&lt;script&gt;alert(1)", "0.300 nats a token, the limit is 0.100",
        ):  # fmt: skip
            assert said in page
        assert "<script>alert" not in page

    def test_htmx_gets_only_the_parts_that_change(self, admin_client: Client, training: Round) -> None:
        stage = progress_of(training).stage
        assert f"?stage={stage}" in admin_client.get("/rounds/1/").content.decode()
        parts, headers = self.ask(admin_client, stage)
        assert "<main" not in parts
        assert "HX-Reswap" not in headers
        # each part takes the place of one that is on the page
        page = admin_client.get("/rounds/1/").content.decode()
        ids = [part.partition('"')[0] for part in parts.split(' id="')[1:]]
        assert {"live-now", "live-log", "curves-table", "chart-curves-1", "chart-curves-4"} <= set(ids)
        assert all(f'id="{one}"' in page for one in ids)

    def test_a_new_stage_brings_the_page_anew_and_says_so_and_the_asking_ends(
        self, admin_client: Client, training: Round
    ) -> None:
        stage = progress_of(training).stage
        Round.objects.filter(pk=training.pk).update(state=State.FAILED, message="The disk is full.")
        page, headers = self.ask(admin_client, stage)
        assert (headers["HX-Reselect"], headers["HX-Retarget"], headers["HX-Reswap"]) == (
            "#round",
            "#round",
            "outerHTML",
        )
        assert 'hx-swap-oob="innerHTML">Round 1: failed<' in page
        assert "The disk is full." in page
        assert "hx-trigger" not in page

    def test_the_first_figures_bring_the_curves_and_are_no_news_to_a_screen_reader(
        self, admin_client: Client, training: Round
    ) -> None:
        page, headers = self.ask(admin_client, "training..")
        assert headers["HX-Reselect"] == "#round"
        assert 'hx-swap-oob="innerHTML"></p>' in page

    def test_every_step_can_be_downloaded(self, admin_client: Client, training: Round) -> None:
        text = b"".join(admin_client.get("/rounds/1/curves.csv").streaming_content).decode().removeprefix("\ufeff")
        rows = list(csv.DictReader(text.splitlines()))
        assert [row["step"] for row in rows] == ["1", "2", "3", "4", "5"]
        assert (rows[4]["loss"], rows[4]["eval_loss"], rows[4]["memory_resident"]) == ("0.63", "0.61", "2500000000")

    def test_while_stories_are_written_the_time_left_is_the_writing_runs(self, admin_client: Client) -> None:
        policy = make_policy()
        make_round(policy=policy, state=State.WRITING, done=2, total=4)
        run = make_run(policy, wanted=4, stored=2, seen_at=Now())
        for _ in range(2):
            make_story(policy, make_prompt(), run=run)
        page = admin_client.get("/rounds/1/").content.decode()
        assert "2 of 4 stories" in page
        assert "less than a minute left" in page

    def test_before_anything_is_known_nothing_is_made_up(self, admin_client: Client) -> None:
        make_round(policy=make_policy())
        page = admin_client.get("/rounds/1/").content.decode()
        assert "A worker takes it as soon as one is free." in page
        assert "left" not in page.partition('id="live"')[2].partition("</section>")[0]
