import hashlib
import json
import math
from pathlib import Path

import pytest

from annotate.comparisons import close_comparisons
from annotate.judgements import ranks_from_best_and_worst, record_judgement
from annotate.models import Comparison, Expert, Judgement, Purpose
from annotate.pairs import NoPairs, PreferencePair, preference_judgements, preference_pairs, write_export
from annotate.queue import next_assignment
from generation.models import Prompt, Split, Story
from tests.factories import judge_by_story, make_comparison, make_evaluation, make_expert, make_policy, make_story

pytestmark = pytest.mark.django_db


def stories_of(comparison: Comparison) -> list[Story]:
    return list(comparison.stories.order_by("pk"))


def best_and_worst(expert: Expert, best: Story, worst: Story | None = None) -> Judgement:
    assignment = next_assignment(expert=expert)
    position = {pk: p for p, pk in enumerate(assignment.shown, start=1)}
    ranks = ranks_from_best_and_worst(len(position), position[best.pk], worst and position[worst.pk])
    return record_judgement(assignment=assignment, verdict="ranked", ranks=ranks).judgement


def all_pairs(**options: object) -> list[PreferencePair]:
    return preference_pairs(preference_judgements(**options))


def as_ids(pairs: list[PreferencePair]) -> list[tuple[int, int]]:
    return [(pair.chosen.pk, pair.rejected.pk) for pair in pairs]


def judged(stories: int = 3) -> tuple[Comparison, list[Story]]:
    """A comparison, and its stories as one expert put them, best first."""
    comparison = make_comparison(stories)
    order = stories_of(comparison)[::-1]
    judge_by_story(make_expert(), order)
    return comparison, order


@pytest.mark.parametrize("k", [3, 4, 5])
def test_best_and_worst_of_k_make_2k_minus_3_pairs(k: int) -> None:
    stories = stories_of(make_comparison(k))
    best_and_worst(make_expert(), stories[1], stories[2])
    assert len(all_pairs()) == 2 * k - 3


@pytest.mark.parametrize("k", [2, 3, 4, 5])
def test_the_best_alone_of_k_makes_k_minus_1_pairs(k: int) -> None:
    stories = stories_of(make_comparison(k))
    best_and_worst(make_expert(), stories[0])
    assert as_ids(all_pairs()) == [(stories[0].pk, other.pk) for other in stories[1:]]


@pytest.mark.parametrize("k", [2, 3, 4, 5])
def test_a_full_order_of_k_makes_every_pair_once(k: int) -> None:
    _, order = judged(k)
    better_first = {(a.pk, b.pk) for i, a in enumerate(order) for b in order[i + 1 :]}
    assert len(better_first) == k * (k - 1) // 2
    assert sorted(as_ids(all_pairs())) == sorted(better_first)


def test_a_tie_makes_no_pair() -> None:
    make_comparison()
    record_judgement(assignment=next_assignment(expert=make_expert()), verdict="tie")
    assert all_pairs() == []


def test_stories_that_tie_inside_an_order_make_no_pair() -> None:
    make_comparison(3)
    assignment = next_assignment(expert=make_expert())
    record_judgement(assignment=assignment, verdict="ranked", ranks={1: 1, 2: 2, 3: 2})
    first, second, third = assignment.shown
    assert set(as_ids(all_pairs())) == {(first, second), (first, third)}


def test_the_majority_of_experts_decides_a_pair() -> None:
    a, b = stories_of(make_comparison(2))
    for order in ([a, b], [b, a], [b, a]):
        judge_by_story(make_expert(), order)
    (pair,) = all_pairs()
    assert (pair.chosen, pair.rejected, pair.judgements_for, pair.judgements_against) == (b, a, 2, 1)


def test_equal_votes_make_no_pair() -> None:
    a, b = stories_of(make_comparison(2))
    judge_by_story(make_expert(), [a, b])
    judge_by_story(make_expert(), [b, a])
    assert all_pairs() == []


@pytest.mark.parametrize(("pro", "contra", "weight"), [(1, 0, 1.0), (2, 1, 1 / 3), (3, 0, 1.0), (3, 1, 0.5)])
def test_weight_is_the_majority_over_all_votes(settings, pro: int, contra: int, weight: float) -> None:
    settings.PLACES_PER_COMPARISON = pro + contra
    a, b = stories_of(make_comparison(2))
    for order in [[a, b]] * pro + [[b, a]] * contra:
        judge_by_story(make_expert(), order)
    assert [pair.weight for pair in all_pairs()] == [pytest.approx(weight)]


def test_a_tie_is_no_vote_against() -> None:
    a, b = stories_of(make_comparison(2))
    judge_by_story(make_expert(), [a, b])
    record_judgement(assignment=next_assignment(expert=make_expert()), verdict="tie")
    assert [pair.weight for pair in all_pairs()] == [1.0]


def test_simulated_votes_are_counted_apart() -> None:
    a, b = stories_of(make_comparison(2))
    judge_by_story(make_expert(), [a, b])
    judge_by_story(make_expert(simulated=True), [a, b])
    (pair,) = all_pairs()
    assert (pair.judgements_for, pair.simulated_judgements) == (2, 1)


def test_a_simulated_vote_against_is_counted_too() -> None:
    a, b = stories_of(make_comparison(2))
    for simulated, order in ((False, [a, b]), (False, [a, b]), (True, [b, a])):
        judge_by_story(make_expert(simulated=simulated), order)
    assert [pair.simulated_judgements for pair in all_pairs()] == [1]


def test_simulated_experts_can_be_left_out() -> None:
    a, b = stories_of(make_comparison(2))
    judge_by_story(make_expert(), [a, b])
    for _ in range(2):
        judge_by_story(make_expert(simulated=True), [b, a])
    assert as_ids(all_pairs(include_simulated=False)) == [(a.pk, b.pk)]
    assert as_ids(all_pairs()) == [(b.pk, a.pk)]


def test_one_policys_pairs_can_be_had_alone() -> None:
    comparison, _ = judged(2)
    judged(2)
    (pair,) = all_pairs(policy=comparison.policy)
    assert pair.chosen.policy == comparison.policy


def test_evaluation_comparisons_never_become_pairs() -> None:
    comparison = make_evaluation(make_policy(), make_policy())
    Prompt.objects.update(split=Split.TRAIN)  # not even then
    judge_by_story(make_expert(), stories_of(comparison))
    assert all_pairs() == []


def test_prompts_held_out_later_never_become_pairs() -> None:
    comparison, _ = judged()
    Prompt.objects.filter(pk=comparison.prompt_id).update(split=Split.EVALUATION)
    assert all_pairs() == []


def test_identical_texts_never_become_a_pair() -> None:
    policy, comparison = make_policy(), make_comparison(2)
    twin = make_story(policy, comparison.prompt, text=comparison.stories.first().text)
    mixed = Comparison.objects.create(prompt=comparison.prompt, policy=policy, purpose=Purpose.PREFERENCE)
    mixed.stories.set([twin, comparison.stories.first()])
    close_comparisons([comparison])
    mixed.places.create(number=1, draw_order=0.5, language="en")
    judge_by_story(make_expert(), stories_of(mixed))
    assert Judgement.objects.count() == 1
    assert all_pairs() == []


def test_pairs_come_in_the_same_order_whoever_judged_first() -> None:
    comparisons = [make_comparison(3) for _ in range(3)]
    expert = make_expert()
    for _ in comparisons:  # they come by chance, not by age
        best_and_worst(expert, *next_assignment(expert=expert).stories()[:2])
    expected = [(p.chosen.prompt_id, p.chosen.pk, p.rejected.pk) for p in all_pairs()]
    assert len(expected) == 9
    assert expected == sorted(expected)


def test_an_export_holds_one_line_for_each_pair(tmp_path: Path) -> None:
    judged(3)
    export = write_export(all_pairs(), tmp_path / "pairs.jsonl")
    lines = export.path.read_text().splitlines()
    found = [(row["chosen_id"], row["rejected_id"]) for row in map(json.loads, lines)]
    assert (export.count, found) == (3, as_ids(all_pairs()))


def test_a_line_says_what_was_read_written_and_judged(tmp_path: Path) -> None:
    comparison, (best, worst) = judged(2)
    export = write_export(all_pairs(), tmp_path / "pairs.jsonl")
    facts = {f: getattr(comparison.prompt, f) for f in ("language", "theme", "story_type", "age_band", "split")}
    votes = {
        "weight": 1.0,
        "criterion": "overall",
        "judgements_for": 1,
        "judgements_against": 0,
        "simulated_judgements": 0,
    }
    assert json.loads(export.path.read_text()) == {
        "prompt": best.rendered_prompt,
        "chosen": best.text,
        "rejected": worst.text,
        "chosen_ids": best.token_ids,
        "rejected_ids": worst.token_ids,
        "prompt_id": comparison.prompt_id,
        "chosen_id": best.pk,
        "rejected_id": worst.pk,
        "edited": False,
        "policy": comparison.policy.name,
        **votes,
        **facts,
    }


def test_a_grouped_export_holds_each_story_of_a_prompt_once(tmp_path: Path) -> None:
    comparison, (best, middle, worst) = judged(3)
    export = write_export(all_pairs(), tmp_path / "grouped.jsonl", grouped=True)
    (line,) = export.path.read_text().splitlines()
    row = json.loads(line)
    assert [(c["id"], c["text"], c["token_ids"], c["finish_reason"]) for c in row["completions"]] == [
        (story.pk, story.text, story.token_ids, "stop") for story in (best, middle, worst)
    ]
    assert (row["prompt"], row["prompt_id"], export.count) == (best.rendered_prompt, comparison.prompt_id, 3)


def test_a_grouped_export_names_pairs_by_the_places_of_their_stories(tmp_path: Path) -> None:
    judged(3)
    row = json.loads(write_export(all_pairs(), tmp_path / "grouped.jsonl", grouped=True).path.read_text())
    assert sorted((p["chosen"], p["rejected"], p["weight"]) for p in row["pairs"]) == [
        (0, 1, 1.0),
        (0, 2, 1.0),
        (1, 2, 1.0),
    ]


def test_the_trainer_reads_the_same_from_pairs_and_from_a_grouped_export(tmp_path: Path, tiny_model: Path) -> None:
    from generation.engines.loading import load_tokenizer
    from training.dpo.data import read_pairs

    for _ in range(2):
        judged(4)
    files = [
        write_export(all_pairs(), tmp_path / f"{grouped}.jsonl", grouped=grouped).path for grouped in (False, True)
    ]
    loose, grouped = (read_pairs(file, load_tokenizer(tiny_model), max_tokens=200) for file in files)
    assert loose.pairs == 12
    assert loose.groups == grouped.groups


def test_the_sha256_is_the_files(tmp_path: Path) -> None:
    judged(3)
    export = write_export(all_pairs(), tmp_path / "pairs.jsonl")
    assert export.sha256 == hashlib.sha256(export.path.read_bytes()).hexdigest()


def test_the_same_judgements_make_the_same_file(tmp_path: Path) -> None:
    judged(4)
    first = write_export(all_pairs(), tmp_path / "first.jsonl")
    assert write_export(all_pairs(), tmp_path / "again.jsonl").sha256 == first.sha256


def test_a_line_break_in_a_story_stays_inside_its_line(tmp_path: Path) -> None:
    _, (best, _) = judged(2)
    text = "从前，\n有一只狐狸。\u2028\r\n“完”"
    Story.objects.filter(pk=best.pk).update(text=text)
    raw = write_export(all_pairs(), tmp_path / "pairs.jsonl").path.read_bytes()
    assert raw.count(b"\n") == 1
    assert json.loads(raw)["chosen"] == text


def test_no_pairs_leave_an_earlier_export_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text("earlier\n")
    with pytest.raises(NoPairs, match="no preference pairs"):
        write_export([], path)
    assert path.read_text() == "earlier\n"


def test_an_export_replaces_the_earlier_one_and_leaves_nothing_else(tmp_path: Path) -> None:
    judged(2)
    path = tmp_path / "deep" / "pairs.jsonl"
    write_export(all_pairs(), path)
    write_export(all_pairs() * 2, path)
    assert len(path.read_text().splitlines()) == 2
    assert list(path.parent.iterdir()) == [path]


def test_hugging_face_datasets_reads_an_export(tmp_path: Path) -> None:
    from datasets import load_dataset

    judged(3)
    pairs = all_pairs()
    export = write_export(pairs, tmp_path / "pairs.jsonl")
    found = load_dataset("json", data_files=str(export.path), cache_dir=str(tmp_path / "cache"))["train"]
    assert found["chosen"][:] == [pair.chosen.text for pair in pairs]
    assert found["chosen_ids"][:] == [pair.chosen.token_ids for pair in pairs]


@pytest.mark.slow
def test_trl_trains_on_an_export_as_it_is(tmp_path: Path, tiny_model: Path) -> None:
    from datasets import load_dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig, DPOTrainer

    judged(3)
    export = write_export(all_pairs(), tmp_path / "pairs.jsonl")
    rows = load_dataset("json", data_files=str(export.path), cache_dir=str(tmp_path / "cache"))["train"]
    quiet = {"bf16": False, "use_cpu": True, "gradient_checkpointing": False, "report_to": [], "logging_steps": 1}
    args = DPOConfig(str(tmp_path / "out"), max_steps=1, per_device_train_batch_size=2, **quiet)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(tiny_model), AutoTokenizer.from_pretrained(tiny_model)
    trainer = DPOTrainer(model, args=args, train_dataset=rows, processing_class=tokenizer)
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses == [pytest.approx(math.log(2), abs=1e-3)]  # the policy is still the reference
