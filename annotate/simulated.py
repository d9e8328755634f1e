"""Simulated experts: an educator, a parent and a writer by stated rules, for demonstration and tests.

Each scores what it reads (generation.measures), adds noise, and ranks by the sum. They are never
people: their accounts cannot log in, their judgements are marked wherever they are counted, and
exports can leave them out. They dislike broken text as a person would: a policy trained on rules
that look at structure alone ends as "Dot sat sat sat sat".
"""

import random
from dataclasses import dataclass

from django.contrib.auth import get_user_model
from django.db import transaction

from annotate.judgements import record_judgement
from annotate.models import Assignment, Audience, Expert, Verdict
from annotate.queue import next_assignment
from generation.measures import StoryMeasures, measure_story


@dataclass(frozen=True)
class Taste:
    """Weights of a score. The shares count from 0 to 1, the marks as 0 or 1; noise is a standard deviation."""

    structure: float
    message: float
    hard_words: float
    broken: float
    repetition: float
    noise: float
    tie_within: float
    names_all_ranks: bool  # False: says only best and worst

    def score(self, found: StoryMeasures) -> float:
        parts = (found.has_beginning + found.has_conflict + found.has_resolution) / 3
        return (
            self.structure * (parts + found.has_structure) / 2
            + self.message * found.has_message
            - self.hard_words * min(found.hard_words * 10, 1.5)
            - self.broken * found.broken * 4
            - self.repetition * found.repetition * 8
            - max(0, 30 - found.words) / 15  # hardly a story
            - max(0, found.words - 140) / 60  # too long for one sitting
        )


TASTES = {
    Audience.EDUCATOR: Taste(1.2, 1.6, 1.4, 2.0, 2.0, 0.45, 0.15, names_all_ranks=True),
    Audience.PARENT: Taste(1.0, 1.3, 1.8, 2.0, 2.0, 0.6, 0.2, names_all_ranks=False),
    Audience.WRITER: Taste(1.8, 0.8, 0.9, 3.0, 3.0, 0.5, 0.1, names_all_ranks=True),
}
REASONS = {
    "en": "[simulated] clearer story, easier words, kinder message",
    "zh": "［模拟］故事更清楚，用词更简单，寓意更好",
}


@transaction.atomic
def simulated_expert(audience: str) -> Expert:
    """The simulated expert of `audience`, made at first use. Its account has no usable password."""
    user, new = get_user_model().objects.get_or_create(username=f"simulated-{audience}")
    if new:
        user.set_unusable_password()
        user.save(update_fields=["password"])
    expert, _ = Expert.objects.get_or_create(user=user, defaults={"audience": audience, "simulated": True})
    if not expert.simulated:
        raise ValueError(f"{user} is a person's account: rename it, so that nobody is answered for.")
    return expert


def simulate(*, audiences: list[str] | None = None, limit: int | None = None, seed: int = 0) -> int:
    """Have simulated experts judge what is open, in turn, until nothing is left or `limit` is reached.

    Returns the number of judgements. The same seed on the same stories gives the same answers,
    whatever the order in which they come up.
    """
    waiting = [simulated_expert(audience) for audience in audiences or Audience.values]
    done = 0
    while waiting and (limit is None or done < limit):
        expert = waiting.pop(0)
        assignment = next_assignment(expert=expert)
        if assignment:
            judge(assignment, seed=seed)
            waiting.append(expert)
            done += 1
    return done


def judge(assignment: Assignment, *, seed: int) -> None:
    """Answer `assignment` by its expert's taste, the noise drawn for (seed, expert, story)."""
    audience = assignment.expert.audience
    taste = TASTES[Audience(audience)]
    language = assignment.comparison.prompt.language
    scores = []
    for story in assignment.stories():
        noise = random.Random(f"{seed}:{audience}:{story.text}").gauss(0, taste.noise)
        scores.append(taste.score(measure_story(story.text, language)) + noise)
    if max(scores) - min(scores) < taste.tie_within:
        record_judgement(assignment=assignment, verdict=Verdict.TIE)
        return
    record_judgement(
        assignment=assignment, verdict=Verdict.RANKED, ranks=ranks(scores, taste), reason=REASONS[language]
    )


def ranks(scores: list[float], taste: Taste) -> dict[int, int]:
    """{shown position: rank} for the scores in shown order."""
    order = sorted(range(len(scores)), key=lambda i: -scores[i])
    if taste.names_all_ranks:
        return {position + 1: rank for rank, position in enumerate(order, start=1)}
    last = len(scores) if len(scores) < 3 else 3
    named = {order[0]: 1, order[-1]: last}
    return {position + 1: named.get(position, 2) for position in range(len(scores))}
