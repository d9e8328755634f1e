"""Rounds whose stories are healthy, and rounds whose stories have decayed though rules find all they ask for."""

import random

from annotate.comparisons import open_evaluation_comparisons
from annotate.judgements import record_judgement
from annotate.models import Comparison, Expert, Kind
from annotate.queue import assign
from generation.models import Policy, Prompt, Split
from tests.factories import make_expert, make_policy, make_prompt, make_story
from tests.training.test_models import make_round
from training.models import Round, RoundMetric, State

NAMES = ("Dot", "Ben", "Mia", "Tom", "Ida", "Leo", "Ana", "Kim", "Max", "Eva")
ANIMALS = ("fox", "hen", "owl", "bear", "duck", "goat", "mole", "frog", "hare", "crow")
PLACES = ("in a green wood", "by the sea", "on a small farm", "near an old mill", "under a big oak", "in a warm barn")
WISHES = ("wanted to fly", "looked for honey", "lost a red shoe", "could not sleep", "was afraid of rain")
HELPERS = ("a kind snail", "the old miller", "two little mice", "a girl with a lamp", "the moon", "her brother")
LESSONS = ("asking is brave", "friends share", "rain makes things grow", "slow is fine", "everybody gets lost once")


def healthy(rng: random.Random) -> str:
    """A story with all its parts, and hardly another like it."""
    name, animal = rng.choice(NAMES), rng.choice(ANIMALS)
    return (
        f"Once upon a time {name} the {animal} lived {rng.choice(PLACES)}. {name} {rng.choice(WISHES)} every day. "
        f"But one {rng.choice(ANIMALS)} {rng.choice(WISHES)} and {rng.choice(WISHES)}. Then {rng.choice(HELPERS)} came "
        f"{rng.choice(PLACES)} with {rng.choice(HELPERS)}. In the end {name} and {rng.choice(HELPERS)} stayed "
        f"{rng.choice(PLACES)}. {name} learned that {rng.choice(LESSONS)} and {rng.choice(LESSONS)}."
    )


def decayed(rng: random.Random) -> str:
    """What three rounds of DPO made of a writer: structure and message are there for whoever reads by rules."""
    sat = " ".join(["sat"] * rng.randint(3, 40))
    return (
        f"Once upon a time Dot sat. But Dot {sat}. Dot sat sat sat. In the end Dot {sat}. Dot sat sat sat. "
        f"Dot learned that Dot {sat}."
    )


def judged_round(
    write=healthy, *, prompts: int = 4, measured: bool = True, base: Policy | None = None, **fields: object
) -> Round:
    """A round that is being judged: its base wrote healthy stories, its result what `write` writes."""
    rng = random.Random(7)
    base = base or make_policy("base", current=True)
    result = make_policy("round-1", parent=base)
    for _ in range(prompts):
        write_for(make_prompt(split=Split.EVALUATION), base, healthy, rng)
    for prompt in Prompt.objects.filter(split=Split.EVALUATION):
        write_for(prompt, result, write, rng)
    found = make_round(policy=base, result=result, state=State.JUDGING, **fields)
    open_evaluation_comparisons(policy=result, baseline=base)
    if measured:
        add_metric(found, held_out=False)
        add_metric(found)
    return found


def write_for(prompt: Prompt, policy: Policy, write, rng: random.Random) -> None:
    texts: list[str] = []
    while len(texts) < 3:
        text = write(rng)
        if text not in texts:
            make_story(policy, prompt, len(texts), text)
            texts.append(text)


def add_metric(found: Round, *, step: int = 90, held_out: bool = True, **fields: object) -> RoundMetric:
    """What the demo's writer shows after a healthy round."""
    values = {
        "epoch": 3.0, "loss": 0.63, "rewards_chosen": -0.19, "rewards_rejected": -0.49, "rewards_margins": 0.3,
        "rewards_accuracies": 0.77, "logps_chosen": -30.0, "logps_change": -0.0068, "kl": 1.66,
    }  # fmt: skip
    if held_out:
        values |= {"stories": 40, "tokens": 4440}
    return RoundMetric.objects.create(round=found, step=step, held_out=held_out, **{**values, **fields})


def judge_all(
    found: Round, *, wins: float = 1.0, experts: list[Expert] | None = None, loses_to: Policy | None = None
) -> None:
    """Every place of the round's blind comparisons is filled: the new story wins in the first `wins` of them, and
    never against `loses_to`."""
    experts = experts or [make_expert() for _ in range(3)]
    comparisons = list(Comparison.objects.filter(policy=found.result).order_by("pk"))
    for number, comparison in enumerate(comparisons):
        for expert in experts:
            judge(comparison, expert, new_wins=comparison.baseline != loses_to and number < wins * len(comparisons))


def judge(comparison: Comparison, expert: Expert, *, new_wins: bool) -> None:
    """The new story is first in every other comparison: places that were drawn look like a lean once in a while."""
    owners = dict(comparison.stories.values_list("pk", "policy_id"))
    shown = sorted(owners, key=lambda pk: owners[pk] == comparison.policy_id, reverse=comparison.pk % 2 == 0)
    assignment = assign(comparison, expert, shown, Kind.ORDINARY)
    best = comparison.policy_id if new_wins else comparison.baseline_id
    ranks = {place: 1 if owners[pk] == best else 2 for place, pk in enumerate(assignment.shown, start=1)}
    record_judgement(assignment=assignment, verdict="ranked", ranks=ranks)
