"""What the API takes and gives, and that it is what the pages take and give."""

import json
from typing import get_args
from unittest.mock import ANY

import pytest
from django.urls import reverse

from annotate.pairs import export_row
from annotate.winrates import breakdown, win_rate
from config.api import pairs as api_pairs
from config.api.round_values import STATES, LaunchIn, SelectionIn
from config.models import ApiAnswer
from generation.models import Policy, Prompt
from tests.config.api import Program, assert_problem, make_admin, make_judged, make_round, token_of
from tests.factories import judge_by_story, make_evaluation, make_expert, make_policy, make_prompt, make_story
from training import selection as selections
from training.launching import TRAINER_SETTINGS
from training.models import Alarm, Round, RoundMetric, State
from training.selection import Rounds, Selection, Which

pytestmark = pytest.mark.django_db
FOX = {"text": "A fox.", "language": "en", "theme": "sharing", "story_type": "fable", "age_band": "5-6"}


@pytest.fixture
def program() -> Program:
    return Program(token_of(make_admin()))


# -- prompts


def test_prompts_are_stored_and_listed(program: Program) -> None:
    known = make_prompt("Known.")
    sent = {"prompts": [FOX, {**FOX, "text": "Known."}, {**FOX, "text": "狐狸。", "language": "zh"}]}
    response = program.post("/prompts", sent)
    assert response.status_code == 201
    assert response.json() == {"new": 2, "known": 1, "ids": [ANY, known.pk, ANY]}
    listed = program.get("/prompts?language=zh").json()
    assert [one["text"] for one in listed["items"]] == ["狐狸。"]
    assert program.post("/prompts", sent).json()["new"] == 0


def test_of_prompts_with_a_fault_none_is_stored(program: Program) -> None:
    sent = {"prompts": [FOX, {**FOX, "text": "Two."}, FOX, {**FOX, "text": " "}]}
    problem = assert_problem(program.post("/prompts", sent), 422)
    assert [fault["place"] for fault in problem["faults"]] == [["body", "prompts", 2], ["body", "prompts", 3]]
    assert problem["faults"][0]["detail"] == "the same text as prompt 0"
    assert not Prompt.objects.exists()


def test_each_fault_has_its_place(program: Program) -> None:
    problem = assert_problem(program.post("/prompts", {"prompts": [{**FOX, "language": "fr", "author": "me"}]}), 422)
    places = [fault["place"] for fault in problem["faults"]]
    assert places == [["body", "prompts", 0, "language"], ["body", "prompts", 0, "author"]]


@pytest.mark.parametrize("body", ["{", '{"prompts": NaN}', b"\xff\xfe".decode("latin-1")])
def test_what_is_no_json_is_said_to_be_none(program: Program, body: str) -> None:
    assert "JSON" in assert_problem(program.post("/prompts", body), 400)["detail"]


def test_a_body_too_large_is_refused(program: Program, settings) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 100
    assert_problem(program.post("/prompts", {"prompts": [{**FOX, "text": "x" * 200}]}), 400)


def test_a_misspelt_filter_is_a_fault(program: Program) -> None:
    problem = assert_problem(program.get("/stories?polcy=base"), 422)
    assert problem["faults"][0]["place"] == ["query", "polcy"]
    assert "policy" in problem["faults"][0]["detail"]


@pytest.mark.parametrize(
    "address",
    [
        "/stories?policy=%00",
        "/stories?cursor=99999999999999999999",
        "/stories?limit=501",
        "/pairs?theme=%00",
        "/pairs?offset=-1",
        "/rounds?cursor=nine",
        "/rounds/99999999999",
        "/rounds/" + "9" * 5000,
        "/win-rates?policy=%00&baseline=base",
        "/win-rates?policy=base",
    ],
)
def test_what_no_database_could_hold_is_a_fault(program: Program, address: str) -> None:
    make_judged()
    assert assert_problem(program.get(address), 422)["faults"]


# -- stories and policies


def test_pages_of_stories_hold_each_story_once(program: Program) -> None:
    policy, prompt = make_policy("base"), make_prompt()
    made = [make_story(policy, prompt, index).pk for index in range(5)]
    found, cursor = [], ""
    while True:
        page = program.get(f"/stories?limit=2{cursor}").json()
        found += [one["id"] for one in page["items"]]
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    assert found == made


def test_stories_are_chosen_by_policy_prompt_and_language(program: Program) -> None:
    one, two, chinese = make_policy("one"), make_policy("two"), make_prompt(language="zh")
    wanted = make_story(two, chinese)
    make_story(one, chinese), make_story(two, make_prompt()), make_story(two, chinese, 1, finish_reason="length")
    found = program.get(f"/stories?policy=two&prompt={chinese.pk}&language=zh&token_ids=true").json()["items"]
    assert [one["id"] for one in found] == [wanted.pk]
    assert found[0]["token_ids"] == wanted.token_ids
    assert found[0]["tokens"] == 3
    assert len(program.get("/stories?policy=two&language=zh&cut_off=true").json()["items"]) == 2


def test_a_withdrawn_story_is_never_given(program: Program) -> None:
    policy, order = make_judged()
    policy.stories.filter(pk=order[0].pk).update(withdrawn_at="2026-01-01T00:00Z")
    assert order[0].pk not in [one["id"] for one in program.get("/stories?cut_off=true").json()["items"]]


def test_policies_say_where_they_come_from(program: Program) -> None:
    base = make_policy("base", current=True)
    result = make_policy("round-4", parent=base)
    make_round(4, policy=base, result=result, state=State.JUDGING)
    first, second = program.get("/policies").json()["items"]
    assert (first["name"], first["in_use"], first["parent"]) == ("base", True, None)
    assert (second["parent"], second["made_by_round"], second["in_use"]) == ("base", 4, False)


# -- pairs


def test_pairs_are_those_that_a_round_would_be_trained_on(program: Program) -> None:
    policy, _order = make_judged()
    expected = [export_row(pair) for pair in selections.pairs(Selection(), policy)]
    assert len(expected) == 3
    page = program.get("/pairs?limit=2&offset=1").json()
    assert page == {"items": expected[1:], "total": 3}
    assert program.get("/pairs?which=extremes").json()["total"] == 1
    assert program.get("/pairs?audience=parent").json()["total"] == 0


def test_pairs_are_streamed_as_lines(program: Program) -> None:
    make_judged()
    response = program.get("/pairs?limit=1", headers={"Accept": "application/x-ndjson"})
    assert response.headers["Content-Type"] == "application/x-ndjson"
    lines = [json.loads(line) for line in b"".join(response.streaming_content).splitlines()]
    assert lines == program.get("/pairs").json()["items"]


def test_a_selection_that_cannot_be_meant_is_a_fault(program: Program) -> None:
    make_judged()
    problem = assert_problem(program.get("/pairs?theme=courage&theme=nothing"), 422)
    assert problem["faults"][0]["place"] == ["query", "theme"]
    assert "courage" in problem["detail"]


def test_without_a_policy_there_are_no_pairs(program: Program) -> None:
    assert_problem(program.get("/pairs"), 409)


# -- rounds


def test_a_round_is_launched_and_read(program: Program, django_capture_on_commit_callbacks) -> None:
    make_judged()
    with django_capture_on_commit_callbacks() as enqueued:
        response = program.post("/rounds", {"beta": 0.3, "selection": {"which": "extremes"}, "epochs": 1})
    assert response.status_code == 201
    assert len(enqueued) == 1
    launched = Round.objects.get()
    assert (launched.beta, launched.epochs, launched.selection["which"]) == (0.3, 1, "extremes")
    assert launched.launched_by.username == "boss"
    assert response.headers["Location"] == reverse("api:get_round", kwargs={"number": 1})
    read = program.get("/rounds/1").json()
    assert read["state"] == "queued"
    assert read["settings"]["beta"] == 0.3
    assert [one["number"] for one in program.get("/rounds?state=queued").json()["items"]] == [1]


def test_a_second_round_is_refused_with_the_reason(program: Program) -> None:
    make_judged()
    program.post("/rounds", {})
    assert "Round 1 is not over" in assert_problem(program.post("/rounds", {}), 409)["detail"]


def test_a_dry_run_launches_nothing(program: Program) -> None:
    make_judged()
    response = program.post("/rounds?dry_run=true", {})
    assert response.status_code == 200, response.content
    assert response.json()["pairs"] == 3
    assert response.json()["problems"]  # the model's files are not there
    assert not Round.objects.exists()


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({"beta": 0.6}, ["body", "beta"]),
        ({"beta": 10.5, "loss": "sigmoid_norm"}, ["body", "beta"]),
        ({"beta": "0.2"}, ["body", "beta"]),
        ({"epochs": True}, ["body", "epochs"]),
        ({"state": "promoted"}, ["body", "state"]),
        ({"from_round": 9}, ["body", "from_round"]),
        ({"label_smoothing": 0.1, "loss": "ipo"}, ["body", "label_smoothing"]),
        ({"selection": {"themes": ["nothing"]}}, ["body", "selection", "themes"]),
    ],
)
def test_a_setting_that_cannot_be_meant_is_a_fault(program: Program, body: dict, place: list) -> None:
    make_judged()
    problem = assert_problem(program.post("/rounds", body), 422)
    assert place in [fault["place"] for fault in problem["faults"]]
    assert not Round.objects.exists()


def test_a_round_begins_with_the_settings_of_another(program: Program) -> None:
    policy, _order = make_judged()
    make_round(1, policy=policy, state=State.FAILED, message="No memory.", beta=0.4, method="lora", lora_rank=8)
    assert program.post("/rounds", {"from_round": 1, "lora_rank": 4}).status_code == 201
    launched = Round.objects.get(number=2)
    assert (launched.beta, launched.method, launched.lora_rank) == (0.4, "lora", 4)


def test_the_same_key_launches_once(program: Program) -> None:
    make_judged()
    key = {"Idempotency-Key": "night-1"}
    first = program.post("/rounds", {"seed": 7}, headers=key)
    Round.objects.update(state=State.FAILED, message="No memory.")
    again = program.post("/rounds", {"seed": 7}, headers=key)
    assert (again.status_code, again.content) == (201, first.content)
    assert again.headers["Location"] == first.headers["Location"]
    assert Round.objects.count() == 1
    assert_problem(program.post("/rounds", {"seed": 8}, headers=key), 422)
    other = Program(token_of(make_admin("other")))
    assert other.post("/rounds", {"seed": 8}, headers=key).status_code == 201  # a key is its user's


def test_a_refusal_is_not_kept_under_its_key(program: Program) -> None:
    make_policy("base", current=True)
    assert_problem(program.post("/rounds", {}, headers={"Idempotency-Key": "k"}), 409)
    assert not ApiAnswer.objects.exists()


def test_a_key_is_free_again_after_a_week(program: Program) -> None:
    make_judged()
    key = {"Idempotency-Key": "night-1"}
    program.post("/rounds", {}, headers=key)
    ApiAnswer.objects.update(created_at="2026-01-01T00:00Z")
    assert_problem(program.post("/rounds", {}, headers=key), 409)  # no answer of old, but a launch of its own


def test_a_round_says_its_figures_and_alarms(program: Program) -> None:
    shown = make_round(3, state=State.TRAINING, done=5, total=9)
    names = ("loss", "rewards_chosen", "rewards_rejected", "rewards_margins", "rewards_accuracies", "kl")
    for step in (1, 2):
        RoundMetric.objects.create(round=shown, step=step, epoch=0.5, **dict.fromkeys(names, step / 2))
    RoundMetric.objects.create(
        round=shown, step=2, held_out=True, epoch=0.5, **{**dict.fromkeys(names, 0.25), "kl": float("nan")}
    )
    Alarm.objects.create(round=shown, kind="kl_token", value=0.2, limit=0.1)
    read = program.get("/rounds/3").json()
    assert (read["done"], read["total"]) == (5, 9)
    assert (read["trained"]["step"], read["trained"]["loss"]) == (2, 1.0)
    assert (read["held_out"]["loss"], read["held_out"]["kl"]) == (0.25, None)  # JSON has no NaN
    assert read["alarms"] == [{"kind": "kl_token", "value": 0.2, "limit": 0.1, "baseline": None}]


def test_pages_of_rounds_are_newest_first(program: Program) -> None:
    for number in (1, 2, 3):
        make_round(number, state=State.FAILED, message="No memory.")
    page = program.get("/rounds?limit=2").json()
    assert ([one["number"] for one in page["items"]], page["next"]) == ([3, 2], 2)
    assert [one["number"] for one in program.get("/rounds?cursor=2").json()["items"]] == [1]


def test_a_round_is_cancelled(program: Program) -> None:
    make_round(1)
    assert program.post("/rounds/1/cancel").status_code == 202
    assert Round.objects.get().cancel_requested
    assert_problem(program.post("/rounds/2/cancel"), 404)


def test_what_a_round_is_not_ready_for_is_refused(program: Program) -> None:
    make_round(1)
    for act in ("promote", "reject", "resume"):
        assert "round" in assert_problem(program.post(f"/rounds/1/{act}"), 409)["detail"].lower()


def test_alarms_are_not_overlooked(program: Program) -> None:
    base = make_policy("base", current=True)
    shown = make_round(1, policy=base, result=make_policy("new", parent=base), state=State.JUDGING)
    Alarm.objects.create(round=shown, kind="kl_token", value=0.2, limit=0.1)
    assert "alarms" in assert_problem(program.post("/rounds/1/promote"), 409)["detail"]
    response = program.post("/rounds/1/promote", {"in_spite_of_alarms": True})
    assert response.json()["state"] == "promoted"
    assert Policy.objects.current().name == "new"


def test_a_round_is_rejected(program: Program) -> None:
    base = make_policy("base", current=True)
    make_round(1, policy=base, result=make_policy("new", parent=base), state=State.JUDGING)
    assert program.post("/rounds/1/reject").json()["state"] == "rejected"


# -- win rates


def test_win_rates_are_those_of_the_pages(program: Program) -> None:
    base = make_policy("base", current=True)
    result = make_policy("new", parent=base)
    make_round(1, policy=base, result=result, state=State.JUDGING)
    stories = list(make_evaluation(result, base).prompt.stories.order_by("-policy"))
    judge_by_story(make_expert(), stories)
    judge_by_story(make_expert("parent", simulated=True), stories[::-1])
    rate = win_rate(result, base)
    found = program.get("/win-rates?policy=new&baseline=base").json()
    assert (found["rate"], found["low"], found["high"]) == (rate.rate, rate.low, rate.high)
    assert (found["n"], found["simulated"], found["enough"]) == (2, 1, False)
    parts = [{"by": by, "n": part.rate.n} for by, ps in breakdown(result, base).items() for part in ps]
    assert [{"by": part["by"], "n": part["n"]} for part in found["parts"]] == parts
    (of_round,) = program.get("/rounds/1/win-rates").json()["items"]
    assert (of_round["n"], of_round["people"]) == (1, True)  # the round leaves simulated experts out


def test_a_round_without_a_policy_has_no_win_rates_yet(program: Program) -> None:
    make_round(1)
    assert program.get("/rounds/1/win-rates").json() == {"items": []}


def test_a_policy_that_is_not_there_is_named(program: Program) -> None:
    problem = assert_problem(program.get("/win-rates?policy=a&baseline=b"), 404)
    assert "'a'" in problem["detail"]


# -- the rest


def test_what_the_api_takes_is_what_a_round_knows() -> None:
    assert set(get_args(STATES)) == set(State.values)
    settings = set(LaunchIn.model_fields) - {"from_round", "include_simulated"}
    assert settings == {*TRAINER_SETTINGS, "stages", "reference", "selection"}
    assert set(SelectionIn.model_fields) == set(Selection.__dataclass_fields__) - {"criteria", "simulated"}
    for fields in (SelectionIn.model_fields, api_pairs.Wanted.model_fields):
        for name, known in (("rounds", Rounds), ("which", Which)):
            assert all(f"'{value}'" in str(fields[name].annotation) for value in known.values)


def test_an_address_that_is_not_there_is_a_problem(program: Program) -> None:
    assert_problem(program.get("/nothing/here"), 404)
    assert_problem(program.get("/rounds/nine"), 422)
    response = program.request("delete", "/rounds")
    assert_problem(response, 405)
    assert response.headers["Allow"] == "GET, POST"


def test_a_surprise_tells_nothing(program: Program, monkeypatch: pytest.MonkeyPatch, caplog) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("the password is fox")

    monkeypatch.setattr("config.api.policies._out", broken)
    make_policy()
    problem = assert_problem(program.get("/policies"), 500)
    assert "fox" not in problem["detail"]
    assert "the password is fox" in caplog.text


def test_the_api_speaks_english_whatever_the_browser_speaks(program: Program) -> None:
    make_judged()
    program.post("/rounds", {})
    response = program.post("/rounds", {}, headers={"Accept-Language": "zh-CN"})
    assert "is not over" in assert_problem(response, 409)["detail"]
