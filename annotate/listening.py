"""How often children choose one policy's stories: beside the experts' win rate, never mixed into it."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean

from annotate.models import Heard, Listening, Understood
from annotate.winrates import LOSS, TIE, WIN, Outcome, WinRate, rate_of
from generation.models import Policy, Story

SHARE_UNDERSTOOD = {Understood.YES: 1.0, Understood.PARTLY: 0.5, Understood.NO: 0.0}


@dataclass(frozen=True)
class Side:
    """What adults noted of one policy's stories; None without a note.

    `engagement`: mean of 1 (did not listen) to 5 (absorbed). `understood`: share of the questions that
    children answered, "partly" counting half.
    """

    engagement: float | None
    engagement_n: int
    understood: float | None
    understood_n: int


@dataclass(frozen=True)
class Chosen:
    """How often something was chosen of the times that a story was; half by chance."""

    chosen: int
    n: int


@dataclass(frozen=True)
class ChildRate:
    """What children chose: `choices` is the win rate of `policy`, its judges are sessions.

    Its n: pairs heard to the end, with a choice or "both the same". `stopped` counts those without an
    answer, which are no part of n.
    """

    choices: WinRate
    stopped: int
    policy: Side
    baseline: Side
    heard_first: Chosen
    on_left: Chosen
    pictures: dict[str, Chosen]


def child_win_rate(policy: Policy, baseline: Policy) -> ChildRate:
    """How often children choose `policy`'s story over `baseline`'s.

    The interval resamples prompts and sessions: the choices of one child are not independent, and
    a session stands for it, since nothing is kept by which to know a child again.
    """
    answered = Listening.objects.evaluation_of(policy, baseline).answered()
    listenings = list(answered.select_related("first", "second", "asked_about").order_by("pk"))
    heard = [one for one in listenings if one.outcome != Heard.STOPPED]
    votes = [Outcome(one.first.prompt_id, one.session_id, _score(one, policy), simulated=False) for one in heard]
    strict = [one for one in heard if one.choice_id]
    return ChildRate(
        choices=rate_of(votes),
        stopped=len(listenings) - len(heard),
        policy=_side(listenings, policy),
        baseline=_side(listenings, baseline),
        heard_first=Chosen(sum(one.choice_id == one.first_id for one in strict), len(strict)),
        on_left=Chosen(sum((one.choice_id == one.first_id) == one.first_on_left for one in strict), len(strict)),
        pictures=_pictures(strict),
    )


def _score(listening: Listening, policy: Policy) -> float:
    if listening.choice_id is None:
        return TIE
    chosen = listening.first if listening.choice_id == listening.first_id else listening.second
    return WIN if chosen.policy_id == policy.pk else LOSS


def _side(listenings: Iterable[Listening], policy: Policy) -> Side:
    engagement: list[int] = []
    understood: list[float] = []
    for one in listenings:
        noted: tuple[tuple[Story, int | None], ...] = (
            (one.first, one.engagement_first),
            (one.second, one.engagement_second),
        )
        engagement += [value for story, value in noted if value and story.policy_id == policy.pk]
        if one.asked_about.policy_id == policy.pk:
            answers = (one.understood_who, one.understood_end)
            understood += [SHARE_UNDERSTOOD[Understood(answer)] for answer in answers if answer]
    return Side(
        fmean(engagement) if engagement else None,
        len(engagement),
        fmean(understood) if understood else None,
        len(understood),
    )


def _pictures(strict: Iterable[Listening]) -> dict[str, Chosen]:
    """By picture: how often its story was chosen, of the choices that it was one of."""
    shown: Counter[str] = Counter()
    chosen: Counter[str] = Counter()
    for one in strict:
        shown.update((one.first_picture, one.second_picture))
        chosen[one.first_picture if one.choice_id == one.first_id else one.second_picture] += 1
    return {picture: Chosen(chosen[picture], n) for picture, n in sorted(shown.items())}
