"""What a judge model reads is stored once a story, and its faults are told."""

import json
from contextlib import nullcontext
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from generation import jobs, locks, readings, tasks
from generation.detectors import labelled_stories
from generation.engines.values import WrongWeights
from generation.models import JudgeModel, LabelledReading, Policy, StoryReading
from generation.policies import register_policy
from tests.factories import make_policy, make_prompt, make_story
from tests.generation.pens import PenEngine

pytestmark = pytest.mark.django_db
HASH = "0" * 64
ASKED_BEFORE = 2 * len(labelled_stories())


@pytest.fixture
def policy() -> Policy:
    found, prompts = make_policy("base", current=True), [make_prompt(), make_prompt(language="zh")]
    for prompt in prompts:
        make_story(found, prompt, 0)
        make_story(found, prompt, 1, "A fox ran and", finish_reason="length")
    return found


@pytest.fixture
def judge() -> Policy:
    found = make_policy("judge")
    readings.choose_judge(policy=found)
    return found


def read(policy: Policy, judge: Policy, engine: PenEngine) -> readings.Judged:
    return readings.read_stories(policy=policy, judge=judge, engine=engine, accepted=frozenset({HASH}))


def yes(request) -> tuple[str, str]:
    return "yes", "stop"


class TestReading:
    def test_finished_stories_are_read_and_counted(self, policy, judge) -> None:
        said = iter(["yes"] * ASKED_BEFORE + ["yes", "no", "yes", "who knows"])
        found = read(policy, judge, PenEngine(lambda request: (next(said), "stop")))
        assert (found.stories, found.read, found.unread, found.unreadable) == (2, 2, 0, 1)
        assert ((found.structure.hits, found.structure.n), (found.message.hits, found.message.n)) == ((2, 2), (0, 1))
        assert {reading.said for reading in StoryReading.objects.all()} == {"yes | no", "yes | who knows"}

    def test_the_labelled_ones_come_first_and_once(self, policy, judge) -> None:
        assert readings.judge_quality(judge) is None
        read(policy, judge, first := PenEngine(yes))
        read(policy, judge, again := PenEngine(yes))
        assert (len(first.asked), len(again.asked)) == (ASKED_BEFORE + 4, 0)
        assert readings.judge_quality(judge).structure.recall.rate == 1.0
        assert LabelledReading.objects.count() == 1

    def test_what_was_interrupted_goes_on(self, policy, judge) -> None:
        answers = iter(["yes"] * (ASKED_BEFORE + 3))

        def interrupted(request) -> tuple[str, str]:
            return next(answers, None) or pytest.fail("more than was to be asked"), "stop"

        with pytest.raises(pytest.fail.Exception):
            read(policy, judge, PenEngine(interrupted, size=1))
        assert readings.judged(policy, judge).unread == 1
        read(policy, judge, rest := PenEngine(yes))
        assert len(rest.asked) == 2
        assert readings.judged(policy, judge).unread == 0

    def test_the_newest_are_read(self, policy, judge, monkeypatch) -> None:
        monkeypatch.setattr(readings, "MOST_STORIES", 1)
        assert read(policy, judge, PenEngine(yes)).stories == 1
        assert StoryReading.objects.get().story == policy.stories.finished().last()

    def test_another_judge_reads_for_itself(self, policy, judge) -> None:
        read(policy, judge, PenEngine(yes))
        other = make_policy("other judge")
        Policy.objects.filter(pk=other.pk).update(weights_hash="1" * 64)
        other.refresh_from_db()
        assert readings.judged(policy, other).read == 0

    def test_other_weights_than_the_judges_read_nothing(self, policy, judge) -> None:
        with pytest.raises(WrongWeights, match="have changed"):
            read(policy, judge, PenEngine(yes, weights_hash="f" * 64))
        assert not StoryReading.objects.exists()


class TestCommand:
    def run(self, *arguments: str) -> str:
        out = StringIO()
        call_command("read_stories", *arguments, stdout=out)
        return out.getvalue()

    def test_a_model_that_cannot_answer_is_reported_and_not_guessed(self, policy, tiny_model) -> None:
        register_policy(name="tiny", path=tiny_model)
        found = json.loads(self.run("--policy", "base", "--judge", "tiny", "--engine", "transformers", "--json"))
        assert (found["stories"], found["read"], found["unreadable"]) == (2, 2, 2)
        assert found["structure"] == found["message"] == {"hits": 0, "n": 0}
        quality = readings.judge_quality(Policy.objects.get(name="tiny"))
        assert (quality.unreadable, quality.structure.recall.rate) == (48, 0.0)

    def test_it_says_what_it_read(self, policy, judge, monkeypatch) -> None:
        read(policy, judge, PenEngine(yes))
        monkeypatch.setattr(
            "generation.management.commands.read_stories.opened", lambda *_: nullcontext(PenEngine(yes))
        )
        assert self.run() == (
            "judge has read 2 of the 2 newest stories of base. With an answer that could not be read: 0. "
            "Of the others 2 of 2 have a clear structure, 2 of 2 a message.\n"
        )

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["--policy", "none such"], "There is no policy none such. Known: base."),
            ([], "No judge model is chosen"),
            (["--judge", "base"], "/models/none is not a directory"),
        ],
    )
    def test_what_cannot_be_done_is_said(self, policy, arguments, said) -> None:
        with pytest.raises(CommandError, match=said):
            self.run(*arguments)


class TestJob:
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path, settings, monkeypatch) -> None:
        settings.VAR_DIR = tmp_path
        monkeypatch.setattr(jobs, "BEAT", 0.05)

    def stand_in(self, monkeypatch, code: str) -> list[list[str]]:
        import sys

        asked: list[list[str]] = []
        start = jobs.processes.start

        def started(command: list[str], **options: object) -> object:
            asked.append(command[2:])
            return start([sys.executable, "-c", code], **options)

        monkeypatch.setattr(jobs.processes, "start", started)
        return asked

    def test_it_reads_in_a_process_of_its_own(self, policy, judge, monkeypatch, settings) -> None:
        asked = self.stand_in(monkeypatch, "")
        tasks.read_stories(policy.pk)
        assert asked == [
            ["read_stories", "--policy", "base", "--judge", "judge", "--engine", settings.ENGINE, "--json"]
        ]
        assert JudgeModel.objects.get().message == ""

    def test_a_process_that_fell_over_is_said_on_the_page(self, policy, judge, monkeypatch) -> None:
        self.stand_in(monkeypatch, "raise SystemExit('no memory left')")
        tasks.read_stories(policy.pk)
        assert JudgeModel.objects.get().message.startswith("no memory left (exit status 1")

    def test_without_a_judge_or_while_it_reads_nothing_is_started(self, policy, judge, monkeypatch) -> None:
        asked = self.stand_in(monkeypatch, "")
        monkeypatch.setattr(locks, "ask", lambda *arguments, **options: False)
        tasks.read_stories(policy.pk)
        monkeypatch.undo()
        readings.choose_judge(policy=None)
        tasks.read_stories(policy.pk)
        assert asked == []

    def test_choosing_none_ends_it(self, policy, judge, monkeypatch) -> None:
        self.stand_in(monkeypatch, "import time; time.sleep(60)")
        chosen = iter([JudgeModel.objects.get()] * 3)
        monkeypatch.setattr(readings, "judge_model", lambda: next(chosen, None))
        tasks.read_stories(policy.pk)
        assert next(chosen, None) is None


class TestPage:
    @pytest.fixture
    def admin(self, client: Client, django_user_model) -> Client:
        client.force_login(django_user_model.objects.create_user("boss", is_staff=True))
        return client

    @pytest.fixture
    def sent(self, monkeypatch) -> list[int]:
        found: list[int] = []
        monkeypatch.setattr(tasks.read_stories, "delay", found.append)
        return found

    def page(self, response) -> str:
        return " ".join(response.content.decode().split())

    def test_it_says_how_good_the_rules_are_and_who_labelled(self, admin) -> None:
        page = self.page(admin.get("/writing/detectors/"))
        assert "On 48 stories" in page
        assert "not educators" in page
        assert "10 of 20" in page

    def test_a_judge_is_chosen_and_what_it_read_is_shown(self, admin, policy) -> None:
        admin.post("/writing/detectors/judge/", {"judge": policy.pk})
        assert "It has not read them yet" in self.page(admin.get("/writing/detectors/"))
        read(policy, policy, PenEngine(yes))
        page = self.page(admin.get("/writing/detectors/"))
        assert '<th scope="row">judge model</th>' in page
        assert "2 of 2" in page
        admin.post("/writing/detectors/judge/", {"judge": ""})
        assert readings.judge_model() is None
        assert StoryReading.objects.count() == 2

    def test_a_worker_is_asked_to_read(self, admin, policy, judge, sent, django_capture_on_commit_callbacks) -> None:
        with django_capture_on_commit_callbacks(execute=True):
            admin.post("/writing/detectors/read/", {"policy": policy.pk})
        assert sent == [policy.pk]

    def test_without_a_judge_nobody_is_asked(self, admin, policy, sent, django_capture_on_commit_callbacks) -> None:
        with django_capture_on_commit_callbacks(execute=True):
            answered = admin.post("/writing/detectors/read/", {"policy": policy.pk}, follow=True)
        assert sent == []
        assert "Choose a judge model first." in self.page(answered)

    @pytest.mark.parametrize(("address", "field"), [("judge", "judge"), ("read", "policy")])
    def test_a_policy_that_is_gone_is_refused(self, admin, policy, judge, address, field) -> None:
        answered = admin.post(f"/writing/detectors/{address}/", {field: 10**6})
        assert answered.status_code == 422
        assert "Select a valid choice" in self.page(answered)
