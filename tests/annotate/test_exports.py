"""Frozen exports: what is in the file, and that it stays."""

import csv
import hashlib
import io
import json
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command

from annotate import exports, tasks
from annotate.models import Comparison, Export, Judgement
from annotate.pairs import comparison_rows, export_row, preference_judgements, preference_pairs
from annotate.selections import BadSelection, Selection
from annotate.votes import pseudonym
from generation import locks
from generation.models import Story
from tests.annotate.answering import answer
from tests.factories import judge_by_story, make_comparison, make_expert, make_policy, make_prompt
from tests.threads import at_once

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def folder(settings, tmp_path: Path) -> Path:
    settings.EXPORT_DIR = tmp_path / "exports"
    return settings.EXPORT_DIR


@pytest.fixture
def judged() -> Comparison:
    """Three stories as one expert put them, with a reason."""
    comparison = make_comparison(3)
    judge_by_story(make_expert(), list(comparison.stories.order_by("pk")))
    Judgement.objects.update(reason="=It ends well.", reasons_for=["clear_structure"])
    return comparison


def freeze(purpose: str = "a test", format: str = "jsonl", layout: str = "pairs", **selection: Any) -> Export:
    export = exports.begin_export(
        by=None, purpose=purpose, selection=Selection(**selection), format=format, layout=layout
    )
    exports.write_export(export.pk)
    export.refresh_from_db()
    assert export.state == "done", export.message
    return export


def text(export: Export) -> str:
    return exports.path_of(export).read_text()


def lines(export: Export) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text(export).splitlines()]


def rows(kind: str, export: Export, tmp_path: Path) -> list[dict[str, Any]]:
    from datasets import load_dataset

    path = str(exports.path_of(export))
    return list(load_dataset(kind, data_files=path, cache_dir=str(tmp_path / "cache"))["train"])


class TestTheRow:
    def test_it_says_what_the_file_holds(self, judged: Comparison) -> None:
        export = freeze()
        content = exports.path_of(export).read_bytes()
        assert (export.count, export.size, export.done, export.total) == (3, len(content), 3, 3)
        assert export.sha256 == hashlib.sha256(content).hexdigest()

    def test_its_selection_run_again_gives_the_same_file(self, judged: Comparison) -> None:
        first = freeze(reasons=True, experts=True, criteria=("overall", "structure"))
        judge_by_story(make_expert(), list(make_comparison(3).stories.order_by("pk")))  # later: not among them
        again = exports.begin_export(by=None, purpose="again", **exports.repeat(first))
        exports.write_export(again.pk)
        again.refresh_from_db()
        assert (again.sha256, again.selection) == (first.sha256, first.selection)
        assert again.path != first.path

    def test_a_selection_survives_json(self) -> None:
        make_policy("base")
        selection = Selection(
            ("base",), False, ("overall", "creativity"), ("zh",), "2026-01-01T00:00:00+00:00", True, True
        )
        assert Selection.read(json.loads(json.dumps(selection.to_json()))) == selection

    @pytest.mark.parametrize(
        "kept", [{"colour": "red"}, {"reasons": "yes"}, {"policies": ["none"]}, {"until": "noon"}, {"criteria": []}, []]
    )
    def test_a_selection_that_cannot_be_run_says_so(self, kept: Any) -> None:
        with pytest.raises(BadSelection):
            Selection.read(kept)


class TestTheSelection:
    def test_people_only(self, judged: Comparison) -> None:
        a, b = make_comparison(2).stories.order_by("pk")
        judge_by_story(make_expert(simulated=True), [a, b])
        assert (freeze().count, freeze().simulated) == (4, 1)
        assert freeze(include_simulated=False).count == 3

    def test_by_language_and_policy(self, judged: Comparison) -> None:
        chinese = make_comparison(2, policy=make_policy("other"), prompt=make_prompt(language="zh"))
        judge_by_story(make_expert(), list(chinese.stories.order_by("pk")))
        assert [row["language"] for row in lines(freeze(languages=("zh",)))] == ["zh"]
        assert {row["policy"] for row in lines(freeze(policies=("other",)))} == {"other"}

    def test_by_one_criterion_alone(self) -> None:
        comparison = make_comparison(3)
        answer(make_expert(), comparison, "A > B > C", shown="ABC", criteria={"structure": 2})
        assert {row["criterion"] for row in lines(freeze(criteria=("structure",)))} == {"structure"}

    def test_nothing_to_export_is_said_before_a_row_is_made(self) -> None:
        with pytest.raises(exports.BadExport, match="No judgement fits"):
            freeze()
        assert not Export.objects.exists()


class TestFormats:
    @pytest.mark.parametrize("kind", ["json", "parquet"])
    def test_pairs_are_what_the_trainer_takes(self, judged: Comparison, kind: str, tmp_path: Path) -> None:
        export = freeze(format=kind.replace("json", "jsonl"))
        assert rows(kind, export, tmp_path) == [export_row(p) for p in preference_pairs(preference_judgements())]

    @pytest.mark.parametrize("kind", ["json", "parquet"])
    def test_a_line_a_prompt(self, judged: Comparison, kind: str, tmp_path: Path) -> None:
        export = freeze(format=kind.replace("json", "jsonl"), layout="grouped")
        assert (export.count, export.total) == (3, 1)
        assert rows(kind, export, tmp_path) == list(comparison_rows(preference_pairs(preference_judgements())))

    @pytest.mark.parametrize("kind", ["json", "parquet"])
    def test_trl_puts_its_template_around_conversations(
        self, judged: Comparison, kind: str, tmp_path: Path, tiny_model: Path
    ) -> None:
        from transformers import AutoTokenizer
        from trl import apply_chat_template, is_conversational

        tokenizer = AutoTokenizer.from_pretrained(tiny_model)
        tokenizer.chat_template = (
            "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
            "{% if add_generation_prompt %}<assistant>{% endif %}"
        )
        row = rows(kind, freeze(format=kind.replace("json", "jsonl"), layout="conversation"), tmp_path)[0]
        assert is_conversational(row)
        best = judged.stories.order_by("pk").first()
        said = apply_chat_template({k: row[k] for k in ("prompt", "chosen", "rejected")}, tokenizer)
        assert (said["prompt"], said["chosen"]) == (f"<user>{judged.prompt.text}<assistant>", best.text)

    def test_votes_come_back_from_parquet(self, judged: Comparison, tmp_path: Path) -> None:
        plain, columns = (freeze(format=kind, reasons=True, experts=True) for kind in ("jsonl", "parquet"))
        assert rows("parquet", columns, tmp_path) == lines(plain)

    def test_a_spreadsheet_runs_nothing_of_a_csv(self, judged: Comparison) -> None:
        Story.objects.filter(pk=judged.stories.order_by("pk").first().pk).update(text="=1+1")
        (first, *_) = csv.DictReader(io.StringIO(text(freeze(format="csv", reasons=True)).removeprefix("\ufeff")))
        assert first["chosen"] == "'=1+1"
        assert json.loads(first["votes"])[0]["reason"] == "=It ends well."
        assert not any(cell.startswith(("=", "+", "-", "@")) for cell in first.values())


class TestOtherTools:
    def test_argilla_records_are_of_its_shape(self, judged: Comparison) -> None:
        """argilla 2.8: Record.from_dict takes these names; a metadata value is text or a number."""
        for record in json.loads(text(freeze(format="argilla"))):
            assert set(record) == {"id", "fields", "metadata", "suggestions", "responses", "vectors"}
            assert set(record["suggestions"]["preference"]) == {"value", "score", "agent", "type"}
            assert {type(value) for value in record["metadata"].values()} <= {str, int, float}
            assert record["responses"] == {}

    def test_argillas_suggestion_is_the_chosen_story(self, judged: Comparison) -> None:
        stories = list(judged.stories.order_by("pk"))
        first = json.loads(text(freeze(format="argilla")))[0]
        assert first["fields"]["story_" + first["suggestions"]["preference"]["value"]] == stories[0].text
        assert first["fields"]["prompt"] == judged.prompt.text

    def test_argilla_has_responses_under_pseudonyms_and_reasons_if_asked(self, judged: Comparison) -> None:
        first = json.loads(text(freeze(format="argilla", experts=True, reasons=True)))[0]
        (response,) = first["responses"]["preference"]
        expert = Judgement.objects.get().assignment.expert_id
        said = first["suggestions"]["preference"]["value"]
        assert response == {"value": said, "user_id": str(pseudonym(expert)), "status": "submitted"}
        assert first["suggestions"]["reason"]["value"] == "=It ends well."

    def test_label_studio_tasks_are_of_its_shape(self, judged: Comparison) -> None:
        """Label Studio: a result names its tag, what it is about, its type and its value."""
        for task in json.loads(text(freeze(format="label_studio"))):
            (majority,) = task["predictions"]
            for answer_ in (majority, *task["annotations"]):
                (result,) = answer_["result"]
                assert (result["from_name"], result["to_name"], result["type"]) == ("preference", "story_a", "pairwise")
                assert result["value"]["selected"] in ("left", "right")
            assert 0 <= majority["score"] <= 1

    def test_label_studio_has_each_vote(self) -> None:
        a, b = make_comparison(2).stories.order_by("pk")
        for order in ([a, b], [a, b], [b, a]):
            judge_by_story(make_expert(), order)
        (task,) = json.loads(text(freeze(format="label_studio")))
        sides = [found["result"][0]["value"]["selected"] for found in task["annotations"]]
        majority = task["predictions"][0]["result"][0]["value"]["selected"]
        assert (len(sides), sides.count(majority)) == (3, 2)
        assert task["data"]["story_a" if majority == "left" else "story_b"] == a.text

    def test_where_a_story_stands_says_nothing(self) -> None:
        for _ in range(16):
            judge_by_story(make_expert(), list(make_comparison(2).stories.order_by("pk")))
        records = json.loads(text(freeze(format="argilla")))
        assert {record["suggestions"]["preference"]["value"] for record in records} == {"a", "b"}


class TestPrivacy:
    @pytest.mark.parametrize("format", ["jsonl", "parquet", "csv", "argilla", "label_studio"])
    def test_no_name_and_no_address_is_in_any_export(self, judged: Comparison, format: str) -> None:
        user = Judgement.objects.get().assignment.expert.user
        user.email, user.last_name = "parent@example.org", "Zimmermann"
        user.save()
        raw = exports.path_of(freeze(format=format, reasons=True, experts=True)).read_bytes()
        assert not [one for one in (user.username, user.email, user.last_name) if one.encode() in raw]

    def test_reasons_and_pseudonyms_are_told_only_if_asked(self, judged: Comparison) -> None:
        assert "votes" not in lines(freeze())[0]
        assert set(lines(freeze(reasons=True))[0]["votes"][0]) == {
            "prefers", "simulated", "reason", "reasons_for", "reasons_against"
        }  # fmt: skip
        assert set(lines(freeze(experts=True))[0]["votes"][0]) == {"prefers", "simulated", "expert", "audience"}

    def test_votes_add_up_to_the_pairs_counts(self) -> None:
        a, b, c = make_comparison(3).stories.order_by("pk")
        for order in ([a, b, c], [a, c, b], [b, a, c]):
            judge_by_story(make_expert(), order)
        answer(
            make_expert("parent"),
            make_comparison(3),
            "B > A > C",
            shown="ABC",
            improved="X.",
            criteria={"structure": 1},
        )
        for row in lines(freeze(experts=True, criteria=("overall", "structure"))):
            sides = [vote["prefers"] for vote in row["votes"]]
            assert sides.count("chosen") == row["judgements_for"]
            assert sides.count("rejected") == row["judgements_against"]


class TestTheFile:
    def test_nothing_else_is_left_in_the_folder(self, judged: Comparison, folder: Path) -> None:
        export = freeze(format="parquet")
        assert [path.name for path in folder.iterdir()] == [export.path]

    def test_verifying_finds_a_changed_and_a_missing_file(self, judged: Comparison) -> None:
        well, changed, missing = freeze(), freeze(), freeze()
        with exports.path_of(changed).open("a") as file:
            file.write(" ")
        exports.path_of(missing).unlink()
        faults = {found.export.pk: found.fault.partition(":")[0] for found in exports.verify_exports()}
        assert faults == {well.pk: "", changed.pk: "differs", missing.pk: "missing"}

    def test_a_file_in_the_way_is_never_overwritten(self, tmp_path: Path) -> None:
        path = tmp_path / "a.jsonl"
        path.write_text("earlier")
        with pytest.raises(FileExistsError), exports.new_file(path) as file:
            file.write(b"later")
        assert path.read_text() == "earlier"

    def test_a_full_disk_is_a_plain_end(self, judged: Comparison, settings) -> None:
        settings.EXPORT_DIR = Path("/dev/full/exports")
        export = exports.begin_export(by=None, purpose="a test", selection=Selection())
        exports.write_export(export.pk)
        export.refresh_from_db()
        assert (export.state, export.path) == ("failed", "")
        assert "Free some space" in export.message

    def test_like_an_earlier_one_by_command(self, judged: Comparison, tmp_path: Path) -> None:
        first = freeze(format="parquet")
        call_command("export_pairs", str(tmp_path / "again.parquet"), "--like", str(first.pk), stdout=io.StringIO())
        assert hashlib.sha256((tmp_path / "again.parquet").read_bytes()).hexdigest() == first.sha256


class TestWorkers:
    @pytest.fixture
    def waiting(self, judged: Comparison) -> Export:
        return exports.begin_export(by=None, purpose="a test", selection=Selection())

    def test_a_task_delivered_twice_writes_once(self, waiting: Export) -> None:
        tasks.make_export_file(waiting.pk)
        before = Export.objects.values().get()
        tasks.make_export_file(waiting.pk)
        assert Export.objects.values().get() == before

    def test_what_a_dead_worker_left_is_sent_again_and_written(
        self, waiting: Export, folder: Path, monkeypatch
    ) -> None:
        Export.objects.update(state="writing", attempts=1)
        folder.mkdir()
        (folder / f".export-{waiting.pk}.tmp").write_text("torn")
        monkeypatch.setattr(tasks.make_export_file, "delay", tasks.make_export_file)
        tasks.sweep_exports()
        assert (Export.objects.get().state, len(list(folder.iterdir()))) == ("done", 1)

    def test_an_export_that_kills_its_workers_ends(self, waiting: Export) -> None:
        Export.objects.update(state="writing", attempts=exports.ATTEMPTS)
        exports.write_export(waiting.pk)
        assert (Export.objects.get().state, "Export less" in Export.objects.get().message) == ("failed", True)


@pytest.mark.django_db(transaction=True)
def test_two_workers_do_not_write_the_same_export(judged: Comparison) -> None:
    export = exports.begin_export(by=None, purpose="a test", selection=Selection())
    with locks.held(export.pk, namespace=exports.NAMESPACE):
        at_once(1, lambda _: exports.write_export(export.pk))
        assert (Export.objects.get().state, exports.lonely_exports()) == ("waiting", [])
    exports.write_export(export.pk)
    assert Export.objects.get().state == "done"
