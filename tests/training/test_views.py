"""The admins' pages."""

import pytest
from django.test import Client

from annotate.comparisons import close_comparisons
from annotate.models import Comparison
from generation.models import Policy
from tests.factories import judge_by_story, make_comparison, make_evaluation, make_expert, make_policy, make_story
from tests.training.test_models import make_round
from training.models import Round, State
from training.report import Collected

pytestmark = pytest.mark.django_db
LAUNCH = {
    "method": "full", "loss": "sigmoid", "beta": "0.2", "sft_weight": "0", "learning_rate": "0.0001",
    "epochs": "3", "batch_pairs": "16", "seed": "42", "label_smoothing": "0", "eval_share": "0.1",
}  # fmt: skip


@pytest.fixture
def admin(client: Client, django_user_model) -> Client:
    client.force_login(django_user_model.objects.create_user("boss", is_staff=True))
    return client


@pytest.fixture
def policy() -> Policy:
    found = make_policy("base", current=True)
    judge_by_story(make_expert(), list(make_comparison(2, policy=found).stories.all()))
    return found


@pytest.fixture
def sent(monkeypatch) -> list[int]:
    """Ids of the rounds that were put into the queue."""
    from training.tasks import run_round

    found: list[int] = []
    monkeypatch.setattr(run_round, "delay", found.append)
    return found


def judged_round(policy: Policy, **fields: object) -> Round:
    return make_round(policy=policy, state=State.JUDGING, result=make_policy("round-1", parent=policy), **fields)


def text(response) -> str:
    return response.content.decode()


class TestRounds:
    def test_the_first_time_it_says_what_to_do(self, admin: Client) -> None:
        assert "No round yet." in text(admin.get("/rounds/"))

    def test_it_shows_the_policy_in_use_and_its_pairs(self, admin: Client, policy: Policy) -> None:
        response = admin.get("/rounds/")
        assert response.context["pairs"] == Collected(all=1, people=1, new=1)
        assert "base" in text(response)

    def test_simulated_judgements_are_told_apart(self, admin: Client, policy: Policy) -> None:
        stories = make_comparison(2, policy=policy).stories.all()
        judge_by_story(make_expert(simulated=True), list(stories))
        assert admin.get("/rounds/").context["pairs"] == Collected(all=2, people=1, new=2)


class TestLaunch:
    def test_a_round_is_queued_and_sent_when_it_is_committed(
        self, admin: Client, policy: Policy, sent: list[int], django_capture_on_commit_callbacks
    ) -> None:
        with django_capture_on_commit_callbacks(execute=True):
            response = admin.post("/rounds/launch/", LAUNCH)
        assert response.headers["Location"] == "/rounds/1/"
        assert sent == [Round.objects.get().pk]

    def test_it_remembers_who_launched_it(self, admin: Client, policy: Policy, sent: list[int]) -> None:
        admin.post("/rounds/launch/", LAUNCH)
        assert Round.objects.get().launched_by.username == "boss"

    def test_without_pairs_it_says_so_and_launches_nothing(self, admin: Client, sent: list[int]) -> None:
        make_policy(current=True)
        assert "rank stories first" in text(admin.post("/rounds/launch/", LAUNCH, follow=True))
        assert not Round.objects.exists()

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("beta", "0.05"),
            ("beta", "0.6"),
            ("epochs", "4"),
            ("learning_rate", "1"),
            ("method", "magic"),
            ("seed", "-1"),
            ("label_smoothing", "0.5"),
            ("eval_share", "0.6"),
        ],
    )
    def test_a_setting_out_of_its_limits_is_refused_and_the_rest_is_kept(
        self, admin: Client, policy: Policy, field: str, value: str
    ) -> None:
        response = admin.post("/rounds/launch/", {**LAUNCH, "batch_pairs": "17", field: value})
        assert response.status_code == 422
        assert field in response.context["launch_form"].errors
        assert 'value="17"' in text(response)
        assert not Round.objects.exists()


class TestRound:
    def test_an_unknown_round_is_not_found(self, admin: Client) -> None:
        assert admin.get("/rounds/7/").status_code == 404

    def test_a_failed_round_says_why(self, admin: Client, policy: Policy) -> None:
        make_round(policy=policy, state=State.FAILED, message="The disk is full. Free it.")
        assert "The disk is full. Free it." in text(admin.get("/rounds/1/"))

    def test_below_the_floor_it_says_how_many_judgements_are_missing(self, admin: Client, policy: Policy) -> None:
        close_comparisons(Comparison.objects.all())
        found = judged_round(policy)
        blind = make_evaluation(found.result, policy)
        judge_by_story(make_expert(), list(blind.stories.all()))
        assert "not enough yet: 19 more" in text(admin.get("/rounds/1/"))

    def test_above_the_floor_it_shows_rate_interval_n_and_what_is_simulated(
        self, admin: Client, policy: Policy, settings
    ) -> None:
        settings.MIN_JUDGEMENTS_FOR_WIN_RATE = 2
        close_comparisons(Comparison.objects.all())
        found = judged_round(policy, include_simulated=True)
        blind = make_evaluation(found.result, policy)
        stories = sorted(blind.stories.all(), key=lambda s: s.policy != found.result)
        for expert in (make_expert(), make_expert(simulated=True)):
            judge_by_story(expert, stories)
        page = text(admin.get("/rounds/1/"))
        assert "100 % [34, 100]" in page
        assert "n = 2, 1 simulated" in page

    def test_simulated_judgements_do_not_count_in_a_round_that_was_launched_without(
        self, admin: Client, policy: Policy
    ) -> None:
        close_comparisons(Comparison.objects.all())
        found = judged_round(policy)
        judge_by_story(make_expert(simulated=True), list(make_evaluation(found.result, policy).stories.all()))
        assert "not enough yet: 20 more" in text(admin.get("/rounds/1/"))

    def test_it_shows_what_the_stories_are_like_for_base_and_result(self, admin: Client, policy: Policy) -> None:
        found = judged_round(policy)
        make_story(found.result, policy.stories.first().prompt, text="Once upon a time there was a fox.")
        measured = admin.get("/rounds/1/").context["tables"][-1]
        assert [column.label for column in measured.columns] == ["measure", "base", "round-1", "change"]


class TestPairsDownload:
    def test_the_frozen_file_comes_as_it_is(self, admin: Client, policy: Policy, tmp_path) -> None:
        path = tmp_path / "pairs.jsonl"
        path.write_bytes(b'{"prompt": 1}\n')
        make_round(policy=policy, export_path=str(path), export_sha256="a" * 64, pair_count=1)
        response = admin.get("/rounds/1/pairs.jsonl")
        assert b"".join(response.streaming_content) == b'{"prompt": 1}\n'
        response.close()

    def test_before_the_freeze_there_is_none(self, admin: Client, policy: Policy) -> None:
        make_round(policy=policy)
        assert admin.get("/rounds/1/pairs.jsonl").status_code == 404


class TestDecisions:
    def test_promote(self, admin: Client, policy: Policy) -> None:
        found = judged_round(policy)
        admin.post("/rounds/1/promote/")
        assert Policy.objects.current() == found.result

    def test_reject(self, admin: Client, policy: Policy) -> None:
        judged_round(policy)
        admin.post("/rounds/1/reject/")
        assert Round.objects.get().state == State.REJECTED

    def test_cancel_asks_the_process_to_end(self, admin: Client, policy: Policy) -> None:
        make_round(policy=policy, state=State.TRAINING)
        admin.post("/rounds/1/cancel/")
        assert Round.objects.get().cancel_requested

    def test_too_late_a_decision_is_explained(self, admin: Client, policy: Policy) -> None:
        make_round(policy=policy, state=State.TRAINING)
        page = text(admin.post("/rounds/1/promote/", follow=True))
        assert "only a round that is being judged can be promoted or rejected" in page


def test_simulated_experts_can_be_asked_only_in_a_demo(admin: Client, settings) -> None:
    settings.DEMO = False
    assert "Let simulated experts judge" not in text(admin.get("/rounds/"))
    assert admin.post("/rounds/simulate/").status_code == 404
