"""The dashboard: experts, children and measures under each other, each with its table and its CSV."""

import csv
import io

import pytest
from django.test import Client

from annotate.comparisons import close_comparisons
from annotate.models import Comparison, Expert
from generation.models import Policy
from tests.factories import judge_by_story, make_evaluation, make_expert, make_policy, make_story, set_campaign
from tests.training.test_models import make_round
from training.dashboard import TABLES, one_table
from training.models import LIMITS, Alarm, Round, State

pytestmark = pytest.mark.django_db


@pytest.fixture
def admin(client: Client, django_user_model) -> Client:
    client.force_login(django_user_model.objects.create_user("boss", is_staff=True))
    return client


@pytest.fixture
def base() -> Policy:
    return make_policy("base", current=True)


@pytest.fixture
def experts() -> list[Expert]:
    set_campaign(repeat_every=0, gold_every=0)  # ordinary work only, in a known order
    return [make_expert("educator"), make_expert("parent"), make_expert("writer")]


def make_judged(base: Policy, experts: list[Expert], *, number: int = 1, prompts: int = 8, lost: int = 1) -> Round:
    """A round whose policy wins all blind comparisons of `experts` but the last `lost`."""
    found = make_round(
        number=number, policy=base, state=State.JUDGING, result=make_policy(f"round-{number}", parent=base)
    )
    for prompt in range(prompts):
        blind = make_evaluation(found.result, base)
        new_first = prompt < prompts - lost
        stories = sorted(blind.stories.all(), key=lambda story: (story.policy == base) == new_first)
        for expert in experts:
            judge_by_story(expert, stories)
    return found


def cell(key: str, row: int, column: int):
    return one_table(key).rows[row][column]


def test_the_first_time_every_table_says_what_is_missing(admin: Client) -> None:
    page = admin.get("/rounds/dashboard/").content.decode()
    assert "No round has made a policy yet." in page
    assert "No child has listened yet." in page
    assert "Nobody has judged yet." in page


def test_win_rates_stand_round_by_round_newest_first(base: Policy, experts: list[Expert]) -> None:
    first = make_judged(base, experts)
    Round.objects.filter(pk=first.pk).update(state=State.PROMOTED)
    make_judged(first.result, experts, number=2)
    table = one_table("win-rates")
    assert [str(row[0].text) for row in table.rows] == ["Round 2", "Round 1"]
    assert table.charts[0].labels == ["Round 1", "Round 2"]


def test_a_win_rate_opens_the_judgements_behind_it(admin: Client, base: Policy, experts: list[Expert]) -> None:
    make_judged(base, experts)
    found = cell("win-rates", 0, 3)
    page = admin.get(found.link)
    assert page.context["n"] == found.values[3] == 24


def test_simulated_experts_count_only_where_the_round_was_launched_so(base: Policy) -> None:
    simulated = [make_expert(audience, simulated=True) for audience in ("educator", "parent", "writer")]
    shown = make_judged(base, simulated)
    assert cell("win-rates", 0, 3).values[3] == 0
    Round.objects.filter(pk=shown.pk).update(include_simulated=True)
    assert cell("win-rates", 0, 3).values[3:] == (24, 24)


def test_alarms_stand_beside_the_win_rate_and_lead_to_the_round(base: Policy, experts: list[Expert]) -> None:
    shown = make_judged(base, experts)
    Alarm.objects.create(round=shown, kind="repetition", value=0.2, limit=0.02, baseline=0.01)
    assert cell("win-rates", 0, 5).link == "/rounds/1/#alarms"
    assert cell("alarms", 0, 0).link == "/rounds/1/#alarms"


def test_measures_stand_for_the_base_and_each_round(base: Policy, experts: list[Expert]) -> None:
    make_judged(base, experts)
    table = one_table("measures")
    assert [str(row[0].text) for row in table.rows] == ["Round 1", "base"]
    assert [row[1].values[0] for row in table.rows] == [8, 8]


def test_every_measure_says_its_n(base: Policy, experts: list[Expert]) -> None:
    make_judged(base, experts)
    row = one_table("measures").rows[0]
    assert all(cell.note.startswith("n = ") for cell in row[2:] if cell.text != "–")


def test_policies_are_on_one_scale_from_the_base_on(base: Policy, experts: list[Expert]) -> None:
    make_judged(base, experts, lost=2)
    newest, first, *effects = one_table("scale").rows
    assert [str(newest[0].text), str(first[0].text)] == ["round-1", "base"]
    assert newest[1].values[0] > 0.6
    assert first[1].values[:3] == (0.5, 0.5, 0.5)
    assert len(effects) == 2


def test_a_policys_place_on_the_scale_opens_its_judgements(admin: Client, base: Policy, experts: list[Expert]) -> None:
    make_judged(base, experts)
    newest, first, *_effects = one_table("scale").rows
    assert admin.get(newest[1].link).context["page"].paginator.count == newest[1].values[-1] == 24
    assert first[1].link == ""


def test_who_judged_how_much_tells_people_from_simulated(base: Policy, experts: list[Expert]) -> None:
    set_campaign(repeat_every=0, gold_every=0)
    make_judged(base, [*experts[:2], make_expert(simulated=True)])
    rows = one_table("work").rows
    assert [row[2].values for row in rows] == [(8,)] * 3
    assert [row[0].tag for row in rows] == ["", "", "simulated"]


def test_trust_is_measured_for_people_and_simulated_apart(base: Policy, experts: list[Expert]) -> None:
    make_judged(base, experts, prompts=31)
    (people,) = one_table("trust").rows
    assert people[1].values == (1.0, 1.0, 1.0, 31)
    assert people[2].text == "100 % [100, 100]"
    assert [cell.link for cell in people if cell.link] == [
        "/judging/experts/", "/judging/disagreements/", "/judging/experts/", "/judging/gold/",
    ]  # fmt: skip


def test_too_little_to_say_whether_judgements_can_be_trusted_is_said(base: Policy, experts: list[Expert]) -> None:
    make_judged(base, experts)
    (people,) = one_table("trust").rows
    assert people[1].text == "not enough yet"


@pytest.mark.parametrize("key", TABLES)
def test_every_table_is_a_csv_of_the_same_rows(admin: Client, base: Policy, experts: list[Expert], key: str) -> None:
    make_judged(base, experts)
    response = admin.get(f"/rounds/dashboard/{key}.csv")
    lines = list(csv.reader(io.StringIO(b"".join(response.streaming_content).decode("utf-8-sig"))))
    assert response.headers["Content-Disposition"] == f'attachment; filename="storyloop-{key}.csv"'
    assert len(lines) == 1 + len(one_table(key).rows)
    assert {len(line) for line in lines} == {len(lines[0])}


def test_an_unknown_table_is_not_found(admin: Client) -> None:
    assert admin.get("/rounds/dashboard/nothing.csv").status_code == 404


class TestOneRound:
    def test_its_parts_add_up(self, admin: Client, base: Policy, experts: list[Expert]) -> None:
        make_judged(base, experts)
        parts = admin.get("/rounds/1/").context["tables"][0]
        by_audience = [row for row in parts.rows if row[0].text == "audience"]
        assert [str(row[1].text) for row in by_audience] == ["educator", "parent", "writer"]
        assert sum(row[2].values[3] for row in by_audience) == 24

    def test_a_part_opens_the_judgements_behind_it(self, admin: Client, base: Policy, experts: list[Expert]) -> None:
        make_judged(base, experts)
        parts = admin.get("/rounds/1/").context["tables"][0]
        for row in parts.rows:
            assert admin.get(row[2].link).context["n"] == row[2].values[3]

    def test_its_page_advises(self, admin: Client, base: Policy, experts: list[Expert]) -> None:
        make_judged(base, experts, prompts=20, lost=2)
        assert "Round 1 beats base: 90 %" in admin.get("/rounds/1/").content.decode()

    @pytest.mark.parametrize("key", ["parts", "measures", "alarms"])
    def test_its_tables_are_csv_too(self, admin: Client, base: Policy, experts: list[Expert], key: str) -> None:
        make_judged(base, experts)
        assert b"".join(admin.get(f"/rounds/1/{key}.csv").streaming_content).count(b"\n") > 1

    def test_a_table_that_is_not_there_is_not_found(self, admin: Client, base: Policy, experts: list[Expert]) -> None:
        make_judged(base, experts)
        assert admin.get("/rounds/1/nothing.csv").status_code == 404

    def test_a_round_without_a_policy_has_none(self, admin: Client, base: Policy) -> None:
        make_round(policy=base, state=State.TRAINING)
        assert admin.get("/rounds/1/parts.csv").status_code == 404
        assert admin.get("/rounds/1/judgements/").status_code == 404


class TestAlarms:
    def test_a_round_with_an_alarm_is_promoted_only_in_spite_of_it(
        self, admin: Client, base: Policy, experts: list[Expert]
    ) -> None:
        shown = make_judged(base, experts)
        Alarm.objects.create(round=shown, kind="repetition", value=0.2, limit=0.02, baseline=0.01)
        assert "This round has alarms." in admin.post("/rounds/1/promote/", follow=True).content.decode()
        assert Policy.objects.current() == base
        admin.post("/rounds/1/promote/", {"in_spite_of_alarms": "on"})
        assert Policy.objects.current() == shown.result

    def test_limits_are_saved_and_hold_for_the_round_being_judged(
        self, admin: Client, base: Policy, experts: list[Expert]
    ) -> None:
        shown = make_judged(base, experts)
        for index in range(4):
            make_story(
                shown.result, shown.result.stories.first().prompt, index + 1, text=f"Dot {index} sat sat sat sat sat."
            )
        admin.post("/rounds/limits/save/", {"broken_points": "5", "repetition_points": "2"})
        assert list(shown.alarms.values_list("kind", flat=True)) == ["repetition", "broken"]
        admin.post("/rounds/limits/save/", dict.fromkeys(LIMITS, ""))
        assert not shown.alarms.exists()

    def test_a_limit_that_means_nothing_is_refused(self, admin: Client) -> None:
        assert admin.post("/rounds/limits/save/", {"broken_points": "-1"}).status_code == 422


class TestJudgementsBehind:
    def test_they_are_parted_as_the_number_was(self, admin: Client, base: Policy, experts: list[Expert]) -> None:
        make_judged(base, experts)
        page = admin.get("/rounds/1/judgements/?audience=parent")
        assert page.context["n"] == 8
        assert {row.judgement.assignment.expert.audience for row in page.context["rows"]} == {"parent"}

    def test_new_and_old_are_named(self, admin: Client, base: Policy, experts: list[Expert]) -> None:
        shown = make_judged(base, experts)
        for row in admin.get("/rounds/1/judgements/").context["rows"]:
            assert (row.new.policy_id, row.old.policy_id) == (shown.result_id, base.pk)

    def test_an_admin_who_judges_does_not_see_what_they_are_still_to_judge(
        self, admin: Client, base: Policy, experts: list[Expert], django_user_model
    ) -> None:
        make_judged(base, experts)
        Expert.objects.create(user=django_user_model.objects.get(username="boss"), audience="parent")
        page = admin.get("/rounds/1/judgements/")
        assert all(row.hidden for row in page.context["rows"])
        assert "Story" not in page.content.decode().split("<main")[1].replace("Storyloop", "")

    def test_another_policy_is_no_baseline(self, admin: Client, base: Policy, experts: list[Expert]) -> None:
        make_judged(base, experts)
        other = make_policy()
        assert admin.get(f"/rounds/1/judgements/?against={other.pk}").status_code == 404

    def test_pages_keep_the_part(self, admin: Client, base: Policy, experts: list[Expert]) -> None:
        make_judged(base, experts)
        page = admin.get("/rounds/1/judgements/?language=en")
        assert 'href="?language=en&amp;page=2"' in page.content.decode()


def test_closed_comparisons_count_too(base: Policy, experts: list[Expert]) -> None:
    make_judged(base, experts)
    close_comparisons(Comparison.objects.all())
    assert cell("win-rates", 0, 3).values[3] == 24
