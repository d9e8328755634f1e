"""A round that trains on imported pairs beside the experts'."""

import hashlib
import json
from pathlib import Path

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.test import Client

from annotate.imports import Source, import_preferences, withdraw_origin
from annotate.models import CriterionWinner, Judgement, Origin
from annotate.pairs import export_row
from generation.models import Policy
from tests.factories import judge_by_story, make_comparison, make_expert, make_policy, make_story
from tests.training.test_models import make_round
from training import schedule
from training.compare import settings_rows
from training.estimate import sizes_of, work_of, work_of_imported
from training.forms import filled
from training.imported import freeze
from training.launching import CannotLaunch, check_settings, prepare
from training.model_card import model_card
from training.models import Round, State
from training.preview import dry_run, estimated, summarize, summary_of
from training.rounds import take_round
from training.run import work_on
from training.selection import BadSelection, Selection, pairs

pytestmark = pytest.mark.django_db
DEFAULTS = schedule.DEFAULTS
FORM = filled(DEFAULTS)
FOXES = Selection(origins=("Foxes",), imported_weight=0.5)


@pytest.fixture
def policy() -> Policy:
    """The one in use, with three pairs of an expert's."""
    found = make_policy("base", current=True)
    judge_by_story(make_expert(), list(make_comparison(3, policy=found).stories.all()))
    return found


def bring_in(folder: Path, name: str, count: int, language: str = "en", turns: int = 1) -> Origin:
    """`count` pairs of another house's, by two prompts."""
    path = folder / f"{name}.jsonl"
    lines = []
    for number in range(count):
        asked = [{"role": "user", "content": f"{name} {number % 2}?"}, {"role": "assistant", "content": "Which?"}]
        prompt = (asked * turns)[: 2 * turns - 1]
        lines.append({"prompt": prompt, "chosen": f"A good one, {number}.", "rejected": f"No, {number}."})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return import_preferences(path, Source(name, "MIT", language))[0]


@pytest.fixture
def foxes(tmp_path: Path) -> Origin:
    return bring_in(tmp_path, "Foxes", 6)


def given(**selection: object) -> dict:
    return {**DEFAULTS, "selection": selection}


class TestSelection:
    def test_an_origin_that_is_not_here_is_refused_with_those_that_are(self, foxes: Origin, tmp_path: Path) -> None:
        withdraw_origin(origin=bring_in(tmp_path, "Gone", 1))
        for name in ("Gone", "Foxen"):
            with pytest.raises(CannotLaunch, match=f"“{name}” are not here.* There are: Foxes") as error:
                check_settings(**given(origins=["Foxes", name]))
            assert error.value.part == "origins"

    @pytest.mark.parametrize(
        "objective", [{"objectives": "structure=1"}, {"stages": [{"criterion": "structure", "beta": 0.1}]}]
    )
    def test_without_the_ranking_itself_they_count_for_nothing(self, foxes: Origin, objective: dict) -> None:
        with pytest.raises(CannotLaunch, match="train on the ranking itself too"):
            check_settings(**{**given(origins=["Foxes"]), **objective})

    @pytest.mark.parametrize("weight", [0, 1.5, True, "1"])
    def test_a_weight_out_of_its_limits_is_refused(self, weight: object) -> None:
        with pytest.raises(BadSelection, match="imported_weight is"):
            Selection.of({"imported_weight": weight})

    def test_without_experts_pairs_it_is_refused(self, foxes: Origin) -> None:
        make_story(make_policy(current=True), make_comparison(2).prompt)
        with pytest.raises(CannotLaunch, match="experts have to rank stories first.*Imported pairs alone"):
            prepare(**given(origins=["Foxes"]))

    def test_origins_that_leave_no_pair_are_refused(self, policy: Policy, tmp_path: Path) -> None:
        bring_in(tmp_path, "Talks", 2, turns=2)
        bring_in(tmp_path, "Hulijing", 2, language="zh")
        for name, languages in (("Talks", []), ("Hulijing", ["en"])):
            with pytest.raises(CannotLaunch, match="leave none to train on"):
                prepare(**given(origins=[name], languages=languages))
        assert prepare(**given(origins=["Hulijing"]))

    def test_a_policy_that_has_written_nothing_is_refused(self, policy: Policy, foxes: Origin) -> None:
        Policy.objects.update(is_current=False)
        make_policy("round-1", parent=policy, current=True)
        with pytest.raises(CannotLaunch, match="write stories first"):
            prepare(**given(origins=["Foxes"], rounds="all"))


class TestFreezing:
    def test_experts_pairs_come_first_then_imported_ones_with_their_weight(
        self, policy: Policy, foxes: Origin, tmp_path: Path
    ) -> None:
        bring_in(tmp_path, "Bears", 2)
        both = Selection(origins=("Bears", "Foxes"), imported_weight=0.5)
        export = freeze(both, policy, tmp_path / "frozen.jsonl")
        content = export.path.read_bytes()
        lines = [json.loads(line) for line in content.splitlines()]
        assert lines[:3] == [export_row(pair) for pair in pairs(both, policy)]
        assert [line["policy"] for line in lines[3:]] == ["imported: Foxes"] * 6 + ["imported: Bears"] * 2
        assert [line["chosen"] for line in lines[3:9]] == [f"A good one, {number}." for number in range(6)]
        assert {line["weight"] for line in lines[3:]} == {0.5}
        assert {line["prompt"] for line in lines[3:9]} == {"Foxes 0?\n", "Foxes 1?\n"}  # in the policy's template
        assert (export.count, export.sha256) == (11, hashlib.sha256(content).hexdigest())
        assert freeze(both, policy, tmp_path / "again.jsonl").sha256 == export.sha256

    def test_the_languages_narrow_them_too(self, policy: Policy, foxes: Origin, tmp_path: Path) -> None:
        bring_in(tmp_path, "Hulijing", 2, language="zh")
        both = Selection(origins=("Foxes", "Hulijing"))
        assert freeze(both, policy, tmp_path / "all.jsonl").count == 3 + 6 + 2
        english = Selection(origins=("Foxes", "Hulijing"), languages=("en",))
        assert freeze(english, policy, tmp_path / "en.jsonl").count == 3 + 6

    def test_what_fails_on_the_way_leaves_no_file(self, policy: Policy, foxes: Origin, tmp_path: Path) -> None:
        policy.stories.update(rendered_prompt="another prompt")
        with pytest.raises(ValueError, match="not known how it is asked"):
            freeze(FOXES, policy, tmp_path / "frozen" / "a.jsonl")
        assert list((tmp_path / "frozen").iterdir()) == []

    def test_an_origin_withdrawn_after_launching_ends_the_round(
        self, policy: Policy, foxes: Origin, tmp_path: Path
    ) -> None:
        Policy.objects.update(path=str(tmp_path))
        launched = make_round(policy=policy, selection=FOXES.as_json())
        withdraw_origin(origin=foxes)
        lease = take_round(launched.pk)
        assert lease
        work_on(lease)
        launched.refresh_from_db()
        assert (launched.state, launched.export_path) == (State.FAILED, "")
        assert "“Foxes” are not here, or not any more" in launched.message


class TestPreview:
    def test_they_are_counted_beside_the_experts(self, policy: Policy, foxes: Origin) -> None:
        found = summary_of(FOXES, policy)
        assert (found.pairs, found.imported, found.all_pairs) == (3, {"Foxes": 6}, 9)
        assert found.imported_share == 6 / 9
        assert found.by_criterion == {"overall": 3}
        assert summary_of(Selection(), policy).imported == {}

    def test_their_tokens_are_those_of_their_characters(self, policy: Policy, foxes: Origin) -> None:
        """At the tokens a character of the stories that the experts chose."""
        own = pairs(Selection(), policy)
        chosen = {pair.chosen for pair in own}
        rate = sum(len(story.token_ids) for story in chosen) / sum(len(story.text) for story in chosen)
        found = work_of_imported(FOXES, policy, own, sizes_of(own))

        def tokens(text: str) -> int:
            return -int(-rate * len(text) // 1)

        prompt, good, bad = tokens("Foxes 0?\n"), 1 + tokens("A good one, 0."), 1 + tokens("No, 0.")
        assert (found.pairs, found.groups) == (6, 2)
        assert found.tokens == 2 * prompt + 6 * (good + bad)
        assert found.largest == prompt + 3 * (good + bad)
        assert found.longest == (prompt + good,) * 6

    def test_only_the_stage_of_the_ranking_reads_them(self, policy: Policy, foxes: Origin) -> None:
        CriterionWinner.objects.create(
            judgement=Judgement.objects.get(), criterion="structure", story=policy.stories.first()
        )
        staged = Selection(origins=("Foxes",), criteria=("structure", "overall"))
        found = summarize(staged, policy, own := pairs(staged, policy))
        structure = work_of([pair for pair in own if pair.criterion == "structure"])
        assert found.parts["structure"] == structure
        assert found.parts["overall"].pairs == 3 + 6
        assert found.parts[""].pairs == len(own) + 6

    def test_the_estimate_counts_them(self, policy: Policy, foxes: Origin, tiny_model: Path) -> None:
        Policy.objects.update(path=str(tiny_model))
        policy.refresh_from_db()
        own, both = (estimated(policy, DEFAULTS, s, summary_of(s, policy))[0] for s in (Selection(), FOXES))
        assert own
        assert both
        assert both.tokens > own.tokens
        assert both.seconds > own.seconds
        assert dry_run(prepare(**given(origins=["Foxes"]))).summary.all_pairs == 9


class TestPage:
    @pytest.fixture
    def admin(self, client: Client, django_user_model) -> Client:
        client.force_login(django_user_model.objects.create_user("boss", is_staff=True))
        return client

    def test_origins_are_offered_only_where_there_are_any(self, admin: Client, policy: Policy, tmp_path: Path) -> None:
        assert 'name="origins"' not in admin.get("/rounds/new/").content.decode()
        bring_in(tmp_path, "Foxes", 6)
        page = admin.get("/rounds/new/").content.decode()
        assert page.count('name="origins" value="Foxes"') == 1
        assert "Foxes (6 pairs, English, MIT)" in page
        assert 'name="imported_weight"' in page

    def test_looking_says_how_many_and_their_share(self, admin: Client, policy: Policy, foxes: Origin) -> None:
        chosen = {**FORM, "origins": ["Foxes"], "imported_weight": 0.5}
        page = admin.post("/rounds/new/", chosen, headers={"HX-Request": "true"}).content.decode()
        assert "<dd>6<small>66.7 % of all pairs</small>" in page
        assert "Foxes (× 0.5)" in page

    def test_launching_keeps_them_on_the_round_and_its_page_and_comparison_name_them(
        self, admin: Client, policy: Policy, foxes: Origin
    ) -> None:
        admin.post("/rounds/launch/", {**FORM, "origins": ["Foxes"], "imported_weight": 0.5})
        launched = Round.objects.get()
        assert (launched.selection["origins"], launched.selection["imported_weight"]) == (["Foxes"], 0.5)
        withdraw_origin(origin=foxes)  # the record is read all the same
        assert "Foxes (× 0.5)" in admin.get("/rounds/1/").content.decode()
        other = make_round(number=2, policy=policy, state=State.FAILED, message="no disk")
        rows = {row.label: (row.a, row.b) for row in settings_rows(launched, other)}
        assert rows["Imported pairs"] == ("Foxes (× 0.5)", "none")

    def test_the_last_origin_withdrawn_meanwhile_is_said(self, admin: Client, policy: Policy, foxes: Origin) -> None:
        withdraw_origin(origin=foxes)
        response = admin.post("/rounds/launch/", {**FORM, "origins": ["Foxes"]})
        assert response.status_code == 422
        assert "Imported pairs of “Foxes” are not here, or not any more" in response.content.decode()
        assert not Round.objects.exists()


class TestCommand:
    def test_it_takes_origins_and_their_weight(self, policy: Policy, foxes: Origin, capsys) -> None:
        with pytest.raises(CommandError, match="is not a directory"):
            call_command("launch_round", "--origin", "Foxes", "--imported-weight", "0.25", "--dry-run", "--json")
        found = json.loads(capsys.readouterr().out)
        assert (found["pairs"], found["imported"], found["imported_share"]) == (3, {"Foxes": 6}, 6 / 9)
        assert found["selection"]["imported_weight"] == 0.25
        with pytest.raises(CommandError, match="is not a directory"):
            call_command("launch_round", "--origin", "Foxes", "--dry-run")
        assert "Imported pairs on top, 67 % of all: Foxes (6)" in capsys.readouterr().out

    def test_an_origin_that_is_not_here_ends_it(self, policy: Policy) -> None:
        with pytest.raises(CommandError, match="There are: none"):
            call_command("launch_round", "--origin", "Foxes")


def test_the_model_card_names_them_with_licence_and_count(policy: Policy, foxes: Origin, tmp_path: Path) -> None:
    export = freeze(FOXES, policy, tmp_path / "pairs.jsonl")
    result = make_policy("round-1", parent=policy)
    made = make_round(policy=policy, result=result, state=State.JUDGING, selection=FOXES.as_json())
    frozen = {"export_path": str(export.path), "export_sha256": export.sha256, "pair_count": export.count}
    Round.objects.filter(pk=made.pk).update(**frozen)
    card = model_card(result)
    assert f"| round 1 | 9 | 3 | 0 | 0 | `{export.sha256}` |" in card  # imported pairs are nobody's votes
    assert f"| round 1 | Foxes | MIT | en | 6 | 0.5 | `{foxes.file_sha256}` |" in card
    withdraw_origin(origin=foxes)
    assert "| round 1 | Foxes | MIT | en | 6 |" in model_card(result)
