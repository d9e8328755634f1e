"""The best story as an expert would have written it: edited > chosen > rejected, up to the trainer."""

import json
from pathlib import Path

import pytest
from django.test import Client
from django.utils import timezone

from annotate.judgements import BadAnswer, Details, record_judgement
from annotate.models import Assignment, Comparison, Expert, Improvement, Judgement, Kind
from annotate.pairs import Edited, PreferencePair, preference_judgements, preference_pairs, write_export
from annotate.queue import next_assignment
from generation.models import Story
from tests.annotate.answering import answer, story
from tests.annotate.browsing import html, open_tab, submit
from tests.factories import judge_by_story, make_comparison, make_expert

pytestmark = pytest.mark.django_db


@pytest.fixture
def assignment(expert: Expert) -> Assignment:
    make_comparison(3)
    return next_assignment(expert=expert)


def all_pairs(**options: bool) -> list[PreferencePair]:
    return preference_pairs(preference_judgements(), **options)


def texts(pairs: list[PreferencePair]) -> set[tuple[str, str]]:
    return {(pair.chosen.text, pair.rejected.text) for pair in pairs}


def improved(order: str = "B > A > C", text: str = "A better fox.", **details: object) -> tuple[Comparison, list[str]]:
    """A comparison of three whose best story was improved, and the stories' texts, best first."""
    comparison = make_comparison(3)
    answer(make_expert(), comparison, order, improved=text, **details)
    return comparison, [story(comparison, letter).text for letter in order if letter in "ABC"]


class TestKeeping:
    def test_it_is_kept_with_the_story_it_was_made_from(self, judging: Client, assignment: Assignment) -> None:
        submit(judging, assignment, best=2, improved=" A better fox.\r\nIt ends. ", **open_tab(judging, assignment))
        kept = Improvement.objects.get()
        assert (kept.story_id, kept.text) == (assignment.shown[1], "A better fox.\nIt ends.")

    def test_the_story_itself_is_not_changed(self, assignment: Assignment) -> None:
        before = [story.text for story in assignment.stories()]
        record_judgement(
            assignment=assignment, verdict="ranked", ranks={1: 1, 2: 2, 3: 3}, details=Details(improved="Better.")
        )
        assert [story.text for story in assignment.stories()] == before

    def test_an_empty_box_is_no_improvement(self, judging: Client, assignment: Assignment) -> None:
        submit(judging, assignment, best=2, improved=" \r\n ", **open_tab(judging, assignment))
        assert Judgement.objects.exists()
        assert not Improvement.objects.exists()

    @pytest.mark.parametrize("sent", [{"verdict": "tie"}, {"rank_1": 1, "rank_2": 1, "rank_3": 2}], ids=str)
    def test_without_one_best_story_there_is_nothing_to_improve(
        self, judging: Client, assignment: Assignment, sent: dict[str, object]
    ) -> None:
        response = submit(judging, assignment, improved="Better.", **sent, **open_tab(judging, assignment))
        assert (response.status_code, Judgement.objects.count()) == (422, 0)
        assert "choose that one story as the best" in html(response)

    @pytest.mark.parametrize("verdict", ["unsafe", "cannot_rank"])
    def test_a_report_is_not_held_up_by_it(self, judging: Client, assignment: Assignment, verdict: str) -> None:
        sent = {"verdict": verdict, "unsafe": 1, "improved": "Better."}
        submit(judging, assignment, **sent, **open_tab(judging, assignment))
        assert Judgement.objects.get().verdict == verdict
        assert not Improvement.objects.exists()

    def test_one_that_is_too_long_is_refused(self, assignment: Assignment) -> None:
        details = Details(improved="x" * 20_001)
        with pytest.raises(BadAnswer, match="20,000 characters"):
            record_judgement(assignment=assignment, verdict="ranked", ranks={1: 1, 2: 2, 3: 3}, details=details)

    def test_the_box_as_it_was_offered_is_no_improvement(self, judging: Client, assignment: Assignment) -> None:
        """The page fills the box with the best story's paragraphs: who changes nothing has improved nothing."""
        Story.objects.filter(pk=assignment.shown[0]).update(text="A fox.\n\nIt ran.\n")
        submit(judging, assignment, best=1, improved="A fox.\r\nIt ran.", **open_tab(judging, assignment))
        assert Judgement.objects.exists()
        assert not Improvement.objects.exists()


class TestPairs:
    def test_it_is_preferred_to_the_chosen_and_to_the_rejected(self) -> None:
        _, (best, middle, worst) = improved()
        plain = {(best, middle), (best, worst), (middle, worst)}
        assert texts(all_pairs()) == plain | {("A better fox.", text) for text in (best, middle, worst)}

    def test_its_pair_is_one_experts(self) -> None:
        improved()
        judge_by_story(make_expert(), list(Story.objects.order_by("pk")))
        edited = [pair for pair in all_pairs() if isinstance(pair.chosen, Edited)]
        assert {(p.judgements_for, p.judgements_against, p.weight, p.criterion) for p in edited} == {
            (1, 0, 1.0, "overall")
        }

    def test_two_experts_improvements_are_two(self) -> None:
        comparison, _ = improved()
        answer(make_expert(), comparison, "B > A > C", improved="Another fox.")
        edited = {pair.chosen.text for pair in all_pairs() if isinstance(pair.chosen, Edited)}
        assert edited == {"A better fox.", "Another fox."}

    def test_an_improvement_that_is_another_story_word_for_word_is_not_preferred_to_it(self) -> None:
        comparison = make_comparison(2)
        answer(make_expert(), comparison, "A > B", improved=story(comparison, "B").text)
        b = story(comparison, "B").text
        assert (b, b) not in texts(all_pairs())

    def test_white_space_around_a_story_is_no_improvement(self) -> None:
        comparison = make_comparison(2)
        Story.objects.filter(pk=story(comparison, "A").pk).update(text="A fox.\n")
        answer(make_expert(), comparison, "A > B", improved="A fox.")
        assert [pair for pair in all_pairs() if isinstance(pair.chosen, Edited)] == []

    def test_an_improvement_of_a_withdrawn_story_is_in_no_pair(self) -> None:
        comparison, _ = improved()
        Story.objects.filter(pk=story(comparison, "B").pk).update(withdrawn_at=timezone.now())
        assert [pair for pair in all_pairs() if isinstance(pair.chosen, Edited)] == []

    def test_a_withdrawn_story_is_not_rejected_for_it(self) -> None:
        comparison, (best, middle, worst) = improved()
        Story.objects.filter(pk=story(comparison, "C").pk).update(withdrawn_at=timezone.now())
        assert worst not in {rejected for _, rejected in texts(all_pairs())}

    def test_a_repeats_improvement_is_in_no_pair(self) -> None:
        answer(make_expert(), make_comparison(), "A > B > C", kind=Kind.REPEAT, improved="Better.")
        assert all_pairs() == []

    def test_an_adjudicators_improvement_stands_for_the_others(self) -> None:
        comparison, _ = improved()
        answer(make_expert(), comparison, "A > B > C", kind=Kind.ADJUDICATION, improved="The last fox.")
        edited = {pair.chosen.text for pair in all_pairs() if isinstance(pair.chosen, Edited)}
        assert edited == {"The last fox."}


class TestExport:
    def rows(self, path: Path, **options: bool) -> list[dict]:
        export = write_export(all_pairs(by_criterion=True), path, **options)
        return [json.loads(line) for line in export.path.read_text().splitlines()]

    def test_a_line_says_what_was_edited_and_that_nobody_sampled_it(self, tmp_path: Path) -> None:
        comparison, (best, *_) = improved()
        rows = [row for row in self.rows(tmp_path / "pairs.jsonl") if row["chosen"] == "A better fox."]
        assert len(rows) == 3
        for row in rows:
            assert (row["edited"], row["chosen_ids"], row["chosen_id"]) == (True, [], story(comparison, "B").pk)
            assert row["rejected_ids"]
            assert row["policy"] == comparison.policy.name

    def test_grouped_it_stands_first_with_its_text_and_no_tokens(self, tmp_path: Path) -> None:
        _, order = improved()
        (row,) = self.rows(tmp_path / "grouped.jsonl", grouped=True)
        assert [found["text"] for found in row["completions"]] == ["A better fox.", *order]
        assert [found["edited"] for found in row["completions"]] == [True, False, False, False]
        assert row["completions"][0]["token_ids"] == []
        assert row["completions"][0]["id"] == row["completions"][1]["id"]
        assert {(p["chosen"], p["rejected"]) for p in row["pairs"]} == {(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)}

    def test_grouped_lines_name_the_criterion_of_each_pair(self, tmp_path: Path) -> None:
        improved(shown="ABC", criteria={"creativity": 3})
        (row,) = self.rows(tmp_path / "grouped.jsonl", grouped=True)
        place = [found["text"] for found in row["completions"]].index(Story.objects.order_by("pk")[2].text)
        found = {(p["chosen"], p["criterion"]) for p in row["pairs"] if p["criterion"] != "overall"}
        assert found == {(place, "creativity")}

    def test_the_trainer_reads_both_files_alike(self, tmp_path: Path, tiny_model: Path) -> None:
        from generation.engines.loading import load_tokenizer
        from training.dpo.data import read_pairs

        improved(shown="ABC", criteria={"creativity": 3})
        pairs = all_pairs(by_criterion=True)
        files = [write_export(pairs, tmp_path / f"{grouped}.jsonl", grouped=grouped).path for grouped in (False, True)]
        tokenizer = load_tokenizer(tiny_model)
        loose, grouped = (read_pairs(file, tokenizer, max_tokens=250) for file in files)
        assert (loose.pairs, loose.left_out()) == (8, "")
        assert loose.groups == grouped.groups

    def test_the_trainer_takes_the_improvement_as_text_that_ends(self, tmp_path: Path, tiny_model: Path) -> None:
        from generation.engines.loading import load_tokenizer
        from training.dpo.data import read_pairs

        improved()
        tokenizer = load_tokenizer(tiny_model)
        found = read_pairs(write_export(all_pairs(), tmp_path / "a.jsonl").path, tokenizer, max_tokens=250)
        (group,) = found.groups
        edited = [ids for ids in group.completions if "better fox" in tokenizer.decode(ids)]
        assert [ids[-1] for ids in edited] == [tokenizer.eos_token_id]

    def test_hugging_face_datasets_reads_edited_lines_among_ten_megabytes_of_others(self, tmp_path: Path) -> None:
        from datasets import load_dataset

        improved()
        plain = [pair for pair in all_pairs() if not isinstance(pair.chosen, Edited)]
        edited = [pair for pair in all_pairs() if isinstance(pair.chosen, Edited)]
        for pair in plain:
            pair.chosen.text = "A long fox. " * 2000
        export = write_export(plain * 300 + edited, tmp_path / "pairs.jsonl")
        rows = load_dataset("json", data_files=str(export.path), cache_dir=str(tmp_path / "cache"))["train"]
        assert (rows["edited"][0], rows["edited"][-1]) == (False, True)
        assert (rows["chosen_ids"][-1], rows["chosen_id"][-1]) == ([], edited[0].chosen.story.pk)

    def test_hugging_face_datasets_reads_a_file_that_begins_with_edited_lines(self, tmp_path: Path) -> None:
        from datasets import load_dataset

        improved()
        pairs = sorted(all_pairs(), key=lambda pair: not isinstance(pair.chosen, Edited))
        export = write_export(pairs, tmp_path / "pairs.jsonl")
        rows = load_dataset("json", data_files=str(export.path), cache_dir=str(tmp_path / "cache"))["train"]
        assert rows["chosen_ids"][:] == [pair.chosen.token_ids for pair in pairs]
