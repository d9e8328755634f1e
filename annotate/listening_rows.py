"""Listenings as lines of a table."""

from collections.abc import Iterator, Sequence

from annotate.models import Heard, Listening
from generation.models import Story

HEADER = (
    *("session", "pair", "answered_at", "expert", "audience", "language", "age_band", "read_by"),
    *("prompt", "policy", "baseline", "withdrawn", "heard_first", "on_left", "picture_policy", "picture_baseline"),
    *("outcome", "choice", "engagement_policy", "engagement_baseline", "asked_about", "who", "end"),
)


def rows() -> Iterator[Sequence[object]]:
    """HEADER, then its cells for each answered pair. Adults are named by their expert's number only."""
    yield HEADER
    listenings = Listening.objects.answered().select_related(
        *("session__adult__expert", "comparison__policy", "comparison__baseline", "first", "second", "asked_about")
    )
    for one in listenings.order_by("pk").iterator(chunk_size=500):
        yield _cells(one)


def _cells(one: Listening) -> list[object]:
    session, comparison = one.session, one.comparison
    expert = getattr(session.adult, "expert", None)
    policy_first = one.first.policy_id == comparison.policy_id
    notes = [(one.first_picture, one.engagement_first), (one.second_picture, one.engagement_second)]
    (picture, engagement), (other_picture, other_engagement) = notes if policy_first else notes[::-1]
    left = one.first if one.first_on_left else one.second

    def side(story: Story) -> str:
        return "policy" if story.policy_id == comparison.policy_id else "baseline"

    chosen = one.first if one.choice_id == one.first_id else one.second
    return [
        *(session.key, one.number, one.answered_at and one.answered_at.isoformat()),
        *(expert.pk if expert else "", expert.audience if expert else "", session.language, session.age_band),
        *(session.read_by, one.first.prompt_id, comparison.policy.name, str(comparison.baseline)),
        *("yes" if one.withdrawn else "no", side(one.first), side(left), picture, other_picture, one.outcome),
        *(side(chosen) if one.outcome == Heard.CHOSEN else "", engagement or "", other_engagement or ""),
        *(side(one.asked_about), one.understood_who, one.understood_end),
    ]
