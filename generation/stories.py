"""Having a policy write stories for prompts, and keeping them.

What is already stored is never written again: a run that was killed goes on where it stopped,
and two runs at once store each story once.
"""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from django.conf import settings
from django.db import IntegrityError, transaction

from generation.engines.values import Completion, Engine, EngineError, Request, SamplingParams
from generation.models import FinishReason, Policy, Prompt, Story

log = logging.getLogger(__name__)

MAX_DRAWS = 4
# temperature, top_p and min_p by sample_index: from careful to bold, so that sisters differ. min_p
# cuts off torn words, which top_p lets through or cuts together with what is merely rare.
SAMPLING_PLAN = ((0.9, 1.0, 0.02), (1.0, 1.0, 0.02), (1.1, 1.0, 0.02), (1.2, 1.0, 0.03), (0.8, 1.0, 0.02))


@dataclass
class Written:
    """What a run did, in stories."""

    wanted: int = 0
    stored: int = 0
    redrawn: int = 0
    cut_off: int = 0
    given_up: int = 0

    def summary(self) -> str:
        """One paragraph for a person, with what to do about stories that went wrong."""
        lines = [f"{self.stored} stories written, {self.redrawn} drawn again."]
        if self.cut_off:
            lines.append(
                f"{self.cut_off} stories were cut off at {settings.MAX_STORY_TOKENS} tokens: they are kept, but "
                "not shown to experts and not trained on. Raise STORYLOOP_MAX_STORY_TOKENS if there are many."
            )
        if self.given_up:
            lines.append(
                f"{self.given_up} places stay empty: the policy wrote the same or an empty story {MAX_DRAWS} times."
            )
        return " ".join(lines)


def seed_for(prompt: Prompt, sample_index: int, draw: int) -> int:
    """The seed of a story's `draw`-th draw; no two places or draws share one."""
    return (prompt.pk * 5 + sample_index) * 100 + draw


def missing_places(policy: Policy, prompts: Iterable[Prompt], count: int) -> list[tuple[Prompt, int]]:
    """(prompt, sample_index) of the stories that `policy` has not written yet."""
    have = set(policy.stories.values_list("prompt_id", "sample_index"))
    return [(p, i) for p in prompts for i in range(count) if (p.pk, i) not in have]


def write_stories(
    *,
    policy: Policy,
    prompts: Iterable[Prompt],
    engine: Engine,
    count: int,
    on_story: Callable[[int, int], None] = lambda done, wanted: None,
) -> Written:
    """Write what is missing of `count` stories a prompt; `on_story(done, wanted)` after each.

    Empty stories, stories cut off at the length limit, and stories equal to a sister are drawn
    again with a new seed, up to MAX_DRAWS times. Raises EngineError if the engine holds other
    weights than the policy's.
    """
    if engine.weights_hash != policy.weights_hash:
        raise EngineError(
            f"The weights of {policy.name} have changed on disk since it was registered "
            f"({engine.weights_hash[:12]} instead of {policy.weights_hash[:12]}). Nothing was written."
        )
    open_places = missing_places(policy, prompts, count)
    written = Written(wanted=len(open_places))
    for draw in range(1, MAX_DRAWS + 1):
        again = []
        requests = {key: _request(key, place, draw) for key, place in enumerate(open_places)}
        for completion in engine.write(list(requests.values())):
            place = open_places[completion.key]
            if _keep(written, policy, place, requests[completion.key], completion, draw=draw):
                on_story(written.stored, written.wanted)
            else:
                again.append(place)
        written.redrawn += len(again) if draw < MAX_DRAWS else 0
        open_places = again
        if not open_places:
            break
    written.given_up = len(open_places)
    return written


def _request(key: int, place: tuple[Prompt, int], draw: int) -> Request:
    prompt, sample_index = place
    temperature, top_p, min_p = SAMPLING_PLAN[sample_index]
    sampling = SamplingParams(
        temperature=temperature,
        top_p=top_p,
        min_p=min_p,
        seed=seed_for(prompt, sample_index, draw),
        max_tokens=settings.MAX_STORY_TOKENS,
    )
    return Request(key=key, prompt=prompt.text, sampling=sampling)


def _keep(
    written: Written,
    policy: Policy,
    place: tuple[Prompt, int],
    request: Request,
    completion: Completion,
    *,
    draw: int,
) -> bool:
    """Store the completion; False if it has to be drawn again."""
    cut_off = completion.finish_reason != FinishReason.STOP
    text = completion.text.replace("\x00", "")
    if not text or (cut_off and draw < MAX_DRAWS):
        return False
    prompt, sample_index = place
    story = Story(
        prompt=prompt,
        policy=policy,
        sample_index=sample_index,
        rendered_prompt=completion.rendered_prompt,
        text=text,
        token_ids=list(completion.token_ids),
        finish_reason=completion.finish_reason,
        temperature=request.sampling.temperature,
        top_p=request.sampling.top_p,
        min_p=request.sampling.min_p,
        seed=request.sampling.seed,
        draws=draw,
        weights_hash=policy.weights_hash,
    )
    try:
        with transaction.atomic():
            story.save(force_insert=True)
    except IntegrityError as error:
        # the same text as a sister, or another run has just written this very place
        return "story_once_per_sample" in str(error)
    written.stored += 1
    written.cut_off += cut_off
    return True
