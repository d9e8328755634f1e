"""Time, memory and steps of a round, beside what the trainer itself finds."""

import json
from pathlib import Path

import pytest

from annotate.pairs import write_export
from generation.models import Policy
from generation.policies import register_policy
from tests.factories import judge_by_story, make_comparison, make_expert
from tests.training.test_models import make_round
from training import schedule
from training.dpo.settings import DPOSettings
from training.dpo.shapes import memory, shapes
from training.estimate import AT_ONCE, START_SECONDS, estimate, work_of
from training.models import State
from training.selection import Selection, pairs

pytestmark = pytest.mark.django_db
SETTINGS = {**schedule.DEFAULTS, "batch_pairs": 4, "eval_share": 0.0, "epochs": 2}


@pytest.fixture
def policy(tiny_model: Path) -> Policy:
    """With five comparisons of three stories, 15 pairs."""
    found = register_policy(name="base", path=tiny_model)
    for _ in range(5):
        judge_by_story(make_expert(), list(make_comparison(3, policy=found).stories.all()))
    return found


def test_it_reads_what_the_trainer_reads(policy: Policy, tmp_path: Path) -> None:
    from generation.engines.loading import load_tokenizer
    from training.dpo.data import read_pairs
    from training.dpo.plan import epochs, group_tokens

    found = pairs(Selection(), policy)
    export = write_export(found, tmp_path / "pairs.jsonl")
    groups = read_pairs(export.path, load_tokenizer(Path(policy.path)), max_tokens=256).groups
    work = work_of(found)
    stories = sum(len(ids) for group in groups for ids in group.completions)
    prompts = sum(len(story.rendered_prompt) for story in {p.chosen.prompt_id: p.chosen for p in found}.values())
    assert (work.pairs, work.groups) == (15, len(groups))
    assert stories < work.tokens <= stories + prompts
    assert work.tokens == pytest.approx(sum(map(group_tokens, groups)), rel=0.6)  # prompts are guessed
    settings = DPOSettings(batch_pairs=4, epochs=2)
    plan = epochs(groups, settings, max_tokens=256)
    assert estimate(policy, SETTINGS, [work]).steps == sum(map(len, plan))


def test_memory_is_the_trainers_own_estimate(policy: Policy) -> None:
    found = estimate(policy, {**SETTINGS, "method": "lora", "lora_rank": 8}, [work_of([])])
    settings, gpu = DPOSettings(method="lora", lora_rank=8), found.device == "gpu"
    wanted = memory(shapes(Path(policy.path)), settings, AT_ONCE[found.device], bf16=gpu)
    assert found.memory == wanted
    assert not found.short_of


def test_time_is_that_of_the_last_measured_round_or_said_to_be_assumed(policy: Policy, tmp_path: Path) -> None:
    work = work_of(pairs(Selection(), policy))
    assert estimate(policy, SETTINGS, [work]).measured is None
    result = register_policy(name="round-1", path=Path(policy.path), parent=policy)
    Policy.objects.filter(pk=result.pk).update(path=str(tmp_path / "policy"), is_current=False)
    make_round(policy=policy, result=result, state=State.REJECTED)
    lines = [
        {"step": 1, "num_tokens": 100, "tokens_per_second": 50.0},
        {"eval_loss": 0.6, "step": 1},
        {"step": 2, "num_tokens": 300, "tokens_per_second": 100.0},
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"torn')
    found = estimate(policy, SETTINGS, [work])
    assert found.measured == 1
    assert found.seconds == pytest.approx(START_SECONDS + work.tokens * (2 + 1 / 3) / 75)  # 300 tokens in 4 s


def test_pairs_longer_than_the_models_context_are_counted(policy: Policy, tiny_model: Path) -> None:
    story = policy.stories.first()
    type(story).objects.filter(pk=story.pk).update(token_ids=[5] * 300)
    found = estimate(policy, SETTINGS, [work_of(pairs(Selection(), policy))])
    assert found.too_long == 2
