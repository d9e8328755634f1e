"""What a policy's stories are like on the whole."""

from collections import defaultdict
from dataclasses import dataclass
from statistics import fmean

from generation.measures import distinct_share, measure_story, repetition
from generation.models import Policy


@dataclass(frozen=True)
class PolicySummary:
    """Means over a policy's stories; shares are 0-1. `stories` is how many were read."""

    stories: int
    structure: float
    message: float
    hard_words: float
    mean_words: float
    repetition: float
    broken: float
    diversity: float


def summarise(policy: Policy) -> PolicySummary | None:
    """The summary of all finished stories of `policy`; None if it has written none."""
    found = list(policy.stories.finished().values_list("prompt_id", "prompt__language", "text"))
    if not found:
        return None
    read = [measure_story(text, language) for _, language, text in found]
    sisters: dict[tuple[int, str], list[str]] = defaultdict(list)
    for prompt, language, text in found:
        sisters[prompt, language].append(text)
    return PolicySummary(
        stories=len(found),
        structure=fmean(story.has_structure for story in read),
        message=fmean(story.has_message for story in read),
        hard_words=fmean(story.hard_words for story in read),
        mean_words=fmean(story.words for story in read),
        repetition=fmean(story.repetition for story in read),
        broken=fmean(story.broken for story in read),
        diversity=fmean(distinct_share(texts, language) for (_, language), texts in sisters.items()),
    )


def repetition_by_prompt(policy: Policy) -> dict[int, float]:
    """{prompt id: mean repetition of the policy's finished stories for it}."""
    shares: dict[int, list[float]] = defaultdict(list)
    found = policy.stories.finished().values_list("prompt_id", "prompt__language", "text")
    for prompt, language, text in found:
        shares[prompt].append(repetition(text, language))
    return {prompt: fmean(of_one) for prompt, of_one in shares.items()}
