"""Rows that tests begin with: one line each, real constraints."""

from itertools import count

from django.contrib.auth import get_user_model
from django.utils import timezone

from annotate.comparisons import open_evaluation_comparisons, open_preference_comparisons
from annotate.judgements import record_judgement
from annotate.models import Campaign, Comparison, Expert, Judgement
from annotate.queue import next_assignment
from generation.models import Policy, Prompt, RunState, Split, Story, WritingRun

numbers = count(1)


def make_policy(name: str = "", *, current: bool = False, parent: Policy | None = None) -> Policy:
    name = name or f"policy-{next(numbers)}"
    return Policy.objects.create(
        name=name, path="/models/none", weights_hash="0" * 64, is_current=current, parent=parent
    )


def make_prompt(text: str = "", *, language: str = "en", split: str = Split.TRAIN) -> Prompt:
    text = text or f"Write a story about fox number {next(numbers)}."
    return Prompt.objects.create(
        text=text, language=language, theme="courage", story_type="fable", age_band="5-6", split=split
    )


def make_story(policy: Policy, prompt: Prompt, index: int = 0, text: str = "", **fields: object) -> Story:
    values = {
        "rendered_prompt": prompt.text + "\n",
        "text": text or f"Story {next(numbers)} of a fox.",
        "token_ids": _token_ids(next(numbers)),
        "finish_reason": "stop",
        "temperature": 1.0,
        "top_p": 1.0,
        "min_p": 0.0,
        "seed": 1,
        "weights_hash": policy.weights_hash,
    }
    return Story.objects.create(policy=policy, prompt=prompt, sample_index=index, **{**values, **fields})


def make_run(policy: Policy | None = None, *, count: int = 3, wanted: int = 0, **fields: object) -> WritingRun:
    """A run that is at work, unless `fields` say another state; then it has ended."""
    if fields.get("state", RunState.RUNNING) != RunState.RUNNING:
        fields = {"ended_at": timezone.now(), **fields}
    return WritingRun.objects.create(policy=policy or make_policy(), count=count, wanted=wanted, **fields)


def _token_ids(number: int) -> list[int]:
    """Different for each number, and in the tiny model's vocabulary."""
    return [2 + number % 250, 2 + number // 250 % 250, 6]


def make_comparison(stories: int = 3, *, policy: Policy | None = None, prompt: Prompt | None = None) -> Comparison:
    """An open preference comparison of one prompt's `stories` stories."""
    policy, prompt = policy or make_policy(), prompt or make_prompt()
    for index in range(stories):
        make_story(policy, prompt, index)
    open_preference_comparisons(policy=policy)
    return Comparison.objects.get(policy=policy, prompt=prompt)


def make_evaluation(new: Policy, old: Policy) -> Comparison:
    """An open blind comparison of one story of each policy on a held-out prompt."""
    prompt = make_prompt(split=Split.EVALUATION)
    make_story(new, prompt)
    make_story(old, prompt)
    open_evaluation_comparisons(policy=new, baseline=old)
    return Comparison.objects.get(policy=new, baseline=old, prompt=prompt)


def make_expert(audience: str = "educator", *, simulated: bool = False) -> Expert:
    user = get_user_model().objects.create_user(f"{audience}-{next(numbers)}", password="a long password")
    return Expert.objects.create(user=user, audience=audience, simulated=simulated)


def judge_by_story(expert: Expert, order: list[Story]) -> Judgement:
    """The expert's next comparison, ranked as the stories stand in `order`, best first."""
    assignment = next_assignment(expert=expert)
    assert assignment is not None
    place = {story.pk: rank for rank, story in enumerate(order, start=1)}
    ranks = {p: place[pk] for p, pk in enumerate(assignment.shown, start=1)}
    return record_judgement(assignment=assignment, verdict="ranked", ranks=ranks).judgement


def set_campaign(**fields: object) -> Campaign:
    """The campaign as admins have set it."""
    return Campaign.objects.update_or_create(pk=1, defaults=fields)[0]
