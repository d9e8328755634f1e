"""Preferences from elsewhere: read as they are, all or none, never among experts' judgements."""

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from annotate.foreign import EXTREMES, BadLine, preferences
from annotate.imports import (
    BadImport,
    NoTemplate,
    Source,
    check_preferences,
    import_preferences,
    imported_pairs,
    withdraw_origin,
)
from annotate.models import ImportedPair, Judgement, Origin
from annotate.pairs import export_row, preference_judgements, preference_pairs
from generation.engines.loading import load_tokenizer
from generation.models import Story
from tests.factories import judge_by_story, make_comparison, make_expert, make_policy, make_prompt, make_story
from training.dpo.data import read_pairs

TRL = {"prompt": "Tell me of a fox.", "chosen": "A good fox.", "rejected": "A bad fox."}
SOURCE = Source(name="Foxes", licence="MIT", language="en")
USER = {"role": "user", "content": "Tell me of a fox."}


def said(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def scored(**scores: float) -> dict[str, Any]:
    return {"instruction": "A fox.", "completions": [{"response": k, "overall_score": v} for k, v in scores.items()]}


def texts(row: dict[str, Any], **options: Any) -> list[tuple[str, str]]:
    return [(one.chosen, one.rejected) for one in preferences(row, **options)]


def jsonl(path: Path, *rows: Any) -> Path:
    path.write_text("".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows))
    return path


class TestReading:
    @pytest.mark.parametrize(
        "row",
        [
            TRL,
            {**TRL, "prompt": [USER]},
            {"prompt": [USER], "chosen": [said("A good fox.")], "rejected": [said("A bad fox.")]},
            {"chosen": [USER, said("A good fox.")], "rejected": [USER, said("A bad fox.")]},
            {"prompt": USER["content"], "chosen": [USER, said("A good fox.")], "rejected": [USER, said("A bad fox.")]},
        ],
        ids=["text", "messages before text", "messages", "prompt in the answers", "as UltraFeedback binarized"],
    )
    def test_trls_forms_are_one_preference(self, row: dict[str, Any]) -> None:
        (found,) = preferences(row)
        assert (found.prompt, found.chosen, found.rejected) == ([USER], "A good fox.", "A bad fox.")

    def test_scored_completions_make_a_pair_of_each_two_that_differ(self) -> None:
        assert texts(scored(b=2, a=5, c=2)) == [("a", "b"), ("a", "c")]
        assert [one.margin for one in preferences(scored(a=5, b=2.5))] == [2.5]

    def test_or_the_best_against_the_worst_alone(self) -> None:
        assert texts(scored(b=2, a=5, c=1), which=EXTREMES) == [("a", "c")]

    def test_scores_beside_a_pair_are_its_margin(self) -> None:
        assert preferences({**TRL, "score_chosen": 8.0, "score_rejected": 6.5})[0].margin == 1.5

    def test_scores_may_stand_beside_texts(self) -> None:
        assert texts({"prompt": "A fox.", "completions": ["a", "b"], "scores": [1, 2]}) == [("b", "a")]

    @pytest.mark.parametrize(
        "row",
        [scored(a=3, b=3), {**TRL, "rejected": " A good fox.\n"}, scored(a=3), scored()],
        ids=["scores", "texts", "one completion", "none"],
    )
    def test_equals_prefer_nothing(self, row: dict[str, Any]) -> None:
        assert preferences(row) == []

    @pytest.mark.parametrize(
        ("row", "why"),
        [
            ([], "no object"),
            ({"prompt": "A fox."}, "chosen and rejected missing"),
            ({"chosen": "a", "rejected": "b"}, "prompt is missing"),
            ({**TRL, "chosen": " "}, "chosen is missing, empty"),
            ({**TRL, "chosen": "a\x00"}, "no text"),
            ({**TRL, "prompt": [said("Hello.")]}, "must be the user's"),
            ({**TRL, "chosen": [USER]}, "end with the assistant's"),
            ({**TRL, "chosen": [{"role": "wizard", "content": "x"}]}, "role 'wizard'"),
            (
                {"chosen": [USER, said("a")], "rejected": [{**USER, "content": "?"}, said("b")]},
                "different conversations",
            ),
            (
                {**TRL, "prompt": "?", "chosen": [USER, said("a")], "rejected": [USER, said("b")]},
                "not those of the prompt",
            ),
            ({"prompt": "A fox.", "completions": "a"}, "must be a list"),
            ({"prompt": "A fox.", "completions": ["a", "b"]}, "no number as its score"),
            ({"prompt": "A fox.", "completions": ["a", "b"], "scores": [1, float("nan")]}, "no number as its score"),
            ({"prompt": "A fox.", "completions": ["a", "b"], "scores": [1]}, "one for each"),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_what_cannot_be_read_is_said(self, row: Any, why: str) -> None:
        with pytest.raises(BadLine, match=why):
            preferences(row)


@pytest.mark.django_db
class TestImporting:
    def test_an_origin_keeps_where_its_pairs_came_from(self, tmp_path: Path) -> None:
        by = make_expert().user
        origin, _ = import_preferences(jsonl(tmp_path / "a.jsonl", TRL, scored(a=2, b=1)), SOURCE, by=by)
        assert (origin.name, origin.licence, origin.language, origin.count) == ("Foxes", "MIT", "en", 2)
        assert (origin.imported_by, origin.file_name, len(origin.file_sha256)) == (by, "a.jsonl", 64)
        assert [(pair.line, pair.margin) for pair in origin.pairs.all()] == [(1, None), (2, 1.0)]

    def test_parquet_is_read_as_jsonl_is(self, tmp_path: Path) -> None:
        from datasets import Dataset

        rows = [{**TRL, "chosen": [USER, said(f"Fox {i}.")], "rejected": [USER, said("No.")]} for i in range(3)]
        Dataset.from_list(rows).to_parquet(str(tmp_path / "a.parquet"))
        parquet, plain = (
            check_preferences(p, SOURCE) for p in (tmp_path / "a.parquet", jsonl(tmp_path / "a.jsonl", *rows))
        )
        assert parquet == plain
        assert parquet.new == 3

    def test_all_rows_or_none_and_the_faults_by_line(self, tmp_path: Path) -> None:
        path = jsonl(tmp_path / "a.jsonl", TRL, "{torn\n", "\n", {**TRL, "chosen": ""})
        with pytest.raises(BadImport) as failed:
            import_preferences(path, SOURCE)
        assert [fault.partition(":")[0] for fault in failed.value.report.faults] == ["line 2", "line 4"]
        assert not Origin.objects.exists()
        assert not ImportedPair.objects.exists()

    def test_of_many_faults_the_first_are_told_and_all_are_counted(self, tmp_path: Path) -> None:
        report = check_preferences(jsonl(tmp_path / "a.jsonl", *["x\n"] * 30), SOURCE)
        assert (report.fault_count, len(report.faults), report.faults_untold) == (30, 20, 10)

    def test_known_pairs_are_counted_and_left(self, tmp_path: Path) -> None:
        import_preferences(jsonl(tmp_path / "a.jsonl", TRL), SOURCE)
        new = {**TRL, "chosen": "A better fox."}
        path = jsonl(tmp_path / "b.jsonl", TRL, new, new, {**TRL, "rejected": TRL["chosen"]})
        report = import_preferences(path, Source("Foxes 2", "MIT", "en"))[1]
        assert (report.rows, report.new, report.known, report.equal) == (4, 1, 2, 1)
        assert Origin.objects.get(name="Foxes").pairs.count() == 1

    def test_a_dry_run_writes_nothing(self, tmp_path: Path) -> None:
        assert check_preferences(jsonl(tmp_path / "a.jsonl", TRL), SOURCE).new == 1
        assert not Origin.objects.exists()

    @pytest.mark.parametrize(
        ("name", "content", "why"),
        [
            ("a.csv", b"", "ends neither"),
            ("a.jsonl", b"\xff\xfe", "not UTF-8"),
            ("a.parquet", b"PAR1 torn", "no sound Parquet"),
            ("a.jsonl", b"", "no pair that is new"),
        ],
    )
    def test_a_file_that_cannot_be_imported_says_why(self, tmp_path: Path, name: str, content: bytes, why: str) -> None:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(BadImport, match=why):
            import_preferences(tmp_path / name, SOURCE)

    def test_an_origins_name_is_taken_once(self, tmp_path: Path) -> None:
        import_preferences(jsonl(tmp_path / "a.jsonl", TRL), SOURCE)
        with pytest.raises(BadImport, match="part 2"):
            import_preferences(jsonl(tmp_path / "b.jsonl", scored(a=2, b=1)), SOURCE)

    def test_withdrawn_its_pairs_go_and_its_record_stays(self, tmp_path: Path) -> None:
        origin, _ = import_preferences(jsonl(tmp_path / "a.jsonl", TRL), SOURCE)
        import_preferences(jsonl(tmp_path / "b.jsonl", scored(a=2, b=1)), Source("Others", "MIT", "en"))
        assert [withdraw_origin(origin=origin), withdraw_origin(origin=origin)] == [1, 0]
        assert list(ImportedPair.objects.values_list("origin__name", flat=True)) == ["Others"]
        origin.refresh_from_db()
        assert origin.withdrawn_at
        assert (origin.count, origin in Origin.objects.in_use()) == (1, False)

    def test_they_are_never_among_experts_judgements(self, tmp_path: Path) -> None:
        a, b = make_comparison(2).stories.order_by("pk")
        judge_by_story(make_expert(), [a, b])
        import_preferences(jsonl(tmp_path / "a.jsonl", TRL), SOURCE)
        assert [pair.chosen for pair in preference_pairs(preference_judgements())] == [a]
        assert Judgement.objects.count() == 1

    def test_by_command(self, tmp_path: Path) -> None:
        out = StringIO()
        options = {"origin": "Foxes", "licence": "MIT", "language": "en", "stdout": out}
        call_command("import_preferences", str(jsonl(tmp_path / "a.jsonl", TRL)), **options)
        assert "1 pairs imported" in out.getvalue()
        call_command("withdraw_origin", "Foxes", stdout=out)
        assert "1 pairs deleted" in out.getvalue()
        with pytest.raises(CommandError, match="line 1: not valid JSON"):
            call_command("import_preferences", str(jsonl(tmp_path / "b.jsonl", "x\n")), **{**options, "origin": "B"})


@pytest.mark.django_db
class TestTraining:
    @pytest.fixture
    def foxes(self, tmp_path: Path) -> None:
        system = {"role": "system", "content": "You write for children."}
        rows = [TRL, {**TRL, "prompt": [system, USER]}, {**TRL, "prompt": [USER, said("Which?"), USER]}]
        import_preferences(jsonl(tmp_path / "a.jsonl", *rows), SOURCE)

    @staticmethod
    def written(rendered: str) -> Story:
        """A story of a policy whose template is `rendered` around the prompt."""
        prompt = make_prompt()
        return make_story(make_policy(current=True), prompt, rendered_prompt=rendered.replace("PROMPT", prompt.text))

    def test_a_prompt_stands_in_the_policys_own_template(self, foxes: None) -> None:
        self.written("<user>PROMPT</user><assistant>")
        prompts = [row["prompt"] for row in imported_pairs(origins=["Foxes"])]
        assert prompts == [
            "<user>Tell me of a fox.</user><assistant>",
            "<user>You write for children.\n\nTell me of a fox.</user><assistant>",
        ]  # and the one of several turns is left out

    def test_a_rendered_prompt_stays_as_it_is(self, tmp_path: Path) -> None:
        row = {**TRL, "prompt": "Human: A fox?\n\nAssistant:\n"}
        import_preferences(jsonl(tmp_path / "a.jsonl", row), Source("Foxes", "MIT", "en", rendered=True))
        assert [found["prompt"] for found in imported_pairs(origins=["Foxes"])] == [row["prompt"]]

    def test_without_a_story_the_template_is_not_known(self, foxes: None) -> None:
        make_policy(current=True)
        with pytest.raises(NoTemplate, match="write stories first"):
            list(imported_pairs(origins=["Foxes"]))

    def test_rows_have_the_shape_of_the_frozen_files(self, foxes: None) -> None:
        judge_by_story(make_expert(), list(make_comparison(2, policy=make_policy(current=True)).stories.order_by("pk")))
        (own,) = preference_pairs(preference_judgements())
        assert [list(row) for row in imported_pairs(origins=["Foxes"])] == [list(export_row(own))] * 2
        assert list(imported_pairs(origins=["Others"])) == []

    def test_the_trainer_reads_them_beside_experts_pairs(self, foxes: None, tmp_path: Path, tiny_model: Path) -> None:
        judge_by_story(make_expert(), list(make_comparison(2, policy=make_policy(current=True)).stories.order_by("pk")))
        own = [export_row(pair) for pair in preference_pairs(preference_judgements())]
        path = jsonl(tmp_path / "mixed.jsonl", *own, *imported_pairs(origins=["Foxes"]))
        tokenizer = load_tokenizer(tiny_model)
        found = read_pairs(path, tokenizer, max_tokens=250)
        assert found.pairs == 3
        group = found.groups[1]
        assert tokenizer.decode(group.prompt_ids) == "Tell me of a fox.\n"
        assert tokenizer.decode(group.completions[0]) == "A good fox.<|end|>"
