"""make soak: each thing that must be true, planted untrue; a client that tries once more; and a short run of it all."""

import json
import os
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from uuid import uuid4

import pytest

from annotate.judgements import undo_judgement
from annotate.models import Revision
from config.bench_judging.experts import Page
from config.soak import crowd, front, verdict
from config.soak.crowd import Expert, Log
from config.soak.memory import MEGABYTE, Sample, growth, most
from config.soak.run import Size
from config.trials import findings
from config.trials.people import Given
from tests.config.trials import given_judgement
from tests.environment import ROOT

GIVEN = Given("an assignment", "a page", 1)


class TestVerdict:
    WELL: ClassVar[dict[str, Any]] = {
        "acknowledged": 5, "promoted": 1, "kills": 2, "kills_wanted": 2, "growth": {"web": 0.1, "beat": None},
    }  # fmt: skip

    def test_what_is_well_has_no_faults(self) -> None:
        assert verdict.faults(verdict.Seen(**self.WELL)) == []

    @pytest.mark.parametrize(
        ("wrong", "said"),
        [
            ({"acknowledged": 0}, "No judgement was acknowledged"),
            ({"lost": [GIVEN]}, "1 acknowledged judgements are not stored: an assignment"),
            ({"doubled": [GIVEN, GIVEN]}, "2 judgements are stored more than once"),
            ({"failed": ["draft: 500 503"]}, "1 requests failed twice: draft: 500 503"),
            ({"errors": ["404 for /judge/"]}, "1 answers that nobody should see: 404 for /judge/"),
            ({"over_booked": 3}, "3 comparisons have more judgements than places"),
            ({"promoted": 0}, "No round was promoted"),
            ({"kills": 1}, "1 of 2 web workers were killed"),
            ({"growth": {"web": 1.01}}, "Memory of web grows by 1.01 MB a minute"),
            ({"rounds": ["round 1 is training"]}, "round 1 is training"),
        ],
    )
    def test_each_thing_that_is_not_true_is_a_line(self, wrong: dict[str, Any], said: str) -> None:
        (line,) = verdict.faults(verdict.Seen(**{**self.WELL, **wrong}))
        assert said in line

    def test_percentiles_are_told_of_each_kind(self) -> None:
        waited = verdict.waits({"next": [float(n) for n in range(101)], "draft": [7.0]})
        assert waited["next"] == {"count": 101, "p50": 50.0, "p95": 95.0, "p99": 99.0}
        assert verdict.table(waited).splitlines()[2].split() == ["next", "101", "50", "95", "99"]


@pytest.mark.django_db(transaction=True)
class TestStored:
    def test_one_that_was_given_and_kept_is_neither_lost_nor_doubled(self) -> None:
        assert findings.unkept([given_judgement()[0]]) == ([], [])

    def test_one_that_has_gone_is_lost(self) -> None:
        found, assignment = given_judgement()
        undo_judgement(assignment=assignment)
        assert findings.unkept([found]) == ([found], [])

    def test_one_that_was_taken_for_two_is_doubled(self) -> None:
        found, assignment = given_judgement()
        first = Revision.objects.get(assignment=assignment, act="submitted")
        Revision.objects.create(
            assignment=assignment, number=first.number + 1, act="submitted", key=uuid4(), fields=first.fields
        )
        assert findings.unkept([found]) == ([], [found])
        assert findings.judgements([found]) == {"acknowledged": 1, "stored": 0}


def lives(service: str, *, each_minute: float, minutes: int = 10, pid: int = 1, base: float = 100) -> list[Sample]:
    """A process that grows by `each_minute` MB a minute, after a first minute in which it loads 50 MB."""
    found = []
    for step in range(minutes * 6 + 1):
        passed = step / 6
        held = int((base + 50 * min(passed, 1) + each_minute * passed) * MEGABYTE)
        found.append(Sample(60 * passed, service, pid, held, held // 2))
    return found


class TestMemory:
    def test_what_is_loaded_at_first_is_no_growth(self) -> None:
        assert growth(lives("web", each_minute=0))["web"] == pytest.approx(0, abs=1e-6)

    def test_growth_is_seen_though_its_processes_are_killed_one_by_one(self) -> None:
        again = [
            Sample(sample.seconds + 300, "web", 2, sample.rss, sample.pss) for sample in lives("web", each_minute=2)
        ]
        samples = lives("web", each_minute=2, minutes=4) + again
        assert growth(samples)["web"] == pytest.approx(2, abs=0.01)

    def test_another_process_of_another_size_is_no_growth(self) -> None:
        samples = lives("web", each_minute=0) + [
            Sample(s.seconds + 200, "web", 2, s.rss, s.pss) for s in lives("web", each_minute=0, base=400)
        ]
        assert growth(samples)["web"] == pytest.approx(0, abs=1e-6)

    def test_what_a_worker_loads_with_its_first_round_is_no_growth(self) -> None:
        samples = lives("worker", each_minute=0, minutes=5)
        samples += [Sample(s.seconds + 301, "worker", 1, s.rss + 50 * MEGABYTE, 0) for s in samples[6:]]
        assert growth(samples)["worker"] > 5
        assert growth(samples, begin={"worker": 361})["worker"] == pytest.approx(0, abs=1e-6)

    def test_of_a_short_life_nothing_is_said(self) -> None:
        assert growth(lives("web", each_minute=9, minutes=2)) == {"web": None}

    def test_the_most_is_that_of_all_processes_at_one_moment(self) -> None:
        samples = [Sample(0, "web", pid, 0, pss * MEGABYTE) for pid, pss in ((1, 10), (2, 20))]
        assert most([*samples, Sample(5, "web", 1, 0, 25 * MEGABYTE)]) == {"web": 30}


class Server(BaseHTTPRequestHandler):
    """Answers with the statuses that were set, one after the other; 0 hangs up."""

    statuses: ClassVar[list[int]] = []
    seen: ClassVar[list[dict[str, str]]] = []

    def do_GET(self) -> None:
        self.seen.append(dict(self.headers))
        status = self.statuses.pop(0)
        if status:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            self.connection.close()

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def answering(*statuses: int) -> Iterator[Expert]:
    Server.statuses, Server.seen = list(statuses), []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield Expert(server.server_port, 7, ("anna", "secret"), Log((0, 0), stage="soak"), 0)
    finally:
        server.shutdown()
        server.server_close()


class TestExpert:
    @pytest.fixture(autouse=True)
    def _at_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(crowd, "RETRY_AFTER", 0.01)

    @pytest.mark.parametrize("first", [500, 502, 0])
    def test_what_fails_once_is_sent_again(self, first: int) -> None:
        with answering(first, 200) as expert:
            answer = expert._ask("next", "GET", "/judge/")
        assert answer
        assert answer.status == 200
        assert (expert.log.retried["next"], expert.log.failed, len(expert.log.times["soak"]["next"])) == (1, [], 1)

    def test_what_fails_twice_is_told(self) -> None:
        with answering(0, 503) as expert:
            assert expert._ask("draft", "GET", "/judge/") is None
        (said,) = expert.log.failed
        assert said.startswith("draft: ")
        assert said.endswith(" 503")

    def test_a_request_comes_as_from_the_proxy(self) -> None:
        with answering(200) as expert:
            expert._ask("next", "GET", "/judge/")
        (sent,) = Server.seen
        proxy = (ROOT / "deploy" / "nginx.conf").read_text()
        for name in ("Host", "X-Forwarded-Proto", "X-Forwarded-For"):
            assert f"proxy_set_header {name} " in proxy
        assert (sent["Host"], sent["X-Forwarded-Proto"]) == (front.HOST, "https")
        assert sent["X-Forwarded-For"] != front.headers(8)["X-Forwarded-For"]


def test_the_services_are_started_as_their_units_do() -> None:
    started = front.commands(4321)
    assert started["web"][1:3] == ["-m", "granian"]
    assert started["web"][started["web"].index("--port") + 1] == "4321"
    assert "--respawn-failed-workers" in started["web"]
    assert started["beat"] == [sys.executable, "manage.py", "beat"]


def test_a_worker_is_killed_each_minute_of_ten() -> None:
    size = Size(experts=1, minutes=10, think=(1, 2), kill_each=60, peak_seconds=0, enough=0, seed=0)
    assert size.kills_wanted == 10


def test_an_answer_carries_the_version_of_its_draft() -> None:
    page = Page("/judge/1/submit/", {"page": "p", "version": "0"}, 3)
    newer = Page("/judge/1/submit/", {"page": "p", "version": "1"}, 3)
    form = crowd._with_version(page.answered(random.Random(0)), newer)
    assert form.count("version=") == 1
    assert form.endswith("&version=1")


@pytest.mark.slow
def test_a_short_run_on_the_production_configuration_holds(tmp_path: Path) -> None:
    """No round: make chaos's run has one, driven by the same code."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("STORYLOOP_", "DJANGO_"))}
    environment["STORYLOOP_VAR"] = str(tmp_path / "var")
    options = "--experts 4 --minutes 0.06 --think 0.1 0.3 --kill-each 3 --peak-seconds 0 --prompts 60 --enough 0"
    command = [sys.executable, "manage.py", "soak", *options.split(), "--json", str(tmp_path / "figures.json")]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    found = json.loads((tmp_path / "figures.json").read_text())
    assert found["acknowledged"] == found["stored"] > 0
    assert (found["kills"], found["failed_twice"], found["errors"], found["said"]) == (1, 0, 0, [])
    assert {"next", "draft", "submit", "submit + next"} == set(found["ms"])
    assert found["most_database_sessions"]["storyloop-web"] > 0
