"""The single votes behind pairs: who preferred what, and why. Whose vote it is, a pseudonym says and nothing else."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from uuid import UUID

from django.utils.crypto import salted_hmac

from annotate.models import CriterionWinner, Judgement, JudgementQuerySet, Rank
from annotate.pairs import OVERALL, Edited, PreferencePair, deciding

SALT = "annotate.votes.pseudonym"


@dataclass(frozen=True)
class Vote:
    """One expert's, on the two stories of a pair. agrees: preferred what the majority preferred."""

    expert: UUID
    audience: str
    simulated: bool
    agrees: bool
    reason: str
    reasons_for: list[str]
    reasons_against: list[str]


def pseudonym(expert: int) -> UUID:
    """Of the expert with this id: the same in every export of this installation (as long as its secret key is the
    same), and of no use without the key."""
    return UUID(bytes=salted_hmac(SALT, str(expert), algorithm="sha256").digest()[:16], version=4)


def votes_on(judgements: JudgementQuerySet) -> Callable[[PreferencePair], list[Vote]]:
    """A function that gives the votes behind a pair of these judgements, in the order in which they were given."""
    decided = deciding(judgements)
    of_story: dict[int, list[Judgement]] = defaultdict(list)
    places: dict[tuple[int, int], int] = {}
    by_pk = {judgement.pk: judgement for judgement in decided.select_related("assignment__expert")}
    for judgement, story, rank in Rank.objects.filter(judgement__in=decided).values_list("judgement", "story", "rank"):
        places[judgement, story] = rank
        of_story[story].append(by_pk[judgement])
    won = CriterionWinner.objects.filter(judgement__in=decided).values_list("judgement", "criterion", "story")
    winners = {(judgement, criterion): story for judgement, criterion, story in won}

    def of_pair(pair: PreferencePair) -> list[Vote]:
        return [
            _vote(judgement, agrees)
            for judgement in sorted(of_story[pair.rejected.pk], key=lambda one: one.pk)
            if (agrees := _agrees(pair, judgement, places, winners)) is not None
        ]

    return of_pair


def _agrees(
    pair: PreferencePair,
    judgement: Judgement,
    places: dict[tuple[int, int], int],
    winners: Mapping[tuple[int, str], int | None],
) -> bool | None:
    """None: no vote on this pair."""
    chosen, rejected = pair.chosen.pk, pair.rejected.pk
    if isinstance(pair.chosen, Edited):
        return True if pair.chosen.expert == judgement.assignment.expert_id else None
    if (judgement.pk, chosen) not in places:
        return None
    if pair.criterion == OVERALL:
        one, other = places[judgement.pk, chosen], places[judgement.pk, rejected]
        return None if one == other else one < other
    winner = winners.get((judgement.pk, pair.criterion))
    return winner == chosen if winner in (chosen, rejected) else None


def _vote(judgement: Judgement, agrees: bool) -> Vote:
    expert = judgement.assignment.expert
    return Vote(
        expert=pseudonym(expert.pk),
        audience=expert.audience,
        simulated=expert.simulated,
        agrees=agrees,
        reason=judgement.reason,
        reasons_for=list(judgement.reasons_for),
        reasons_against=list(judgement.reasons_against),
    )


def vote_rows(votes: Iterable[Vote], *, reasons: bool, experts: bool) -> list[dict[str, object]]:
    """What an export tells of them. Without `experts` nothing says that two votes are of the same person."""
    return [
        {"prefers": "chosen" if vote.agrees else "rejected", "simulated": vote.simulated}
        | ({"expert": str(vote.expert), "audience": vote.audience} if experts else {})
        | (
            {"reason": vote.reason, "reasons_for": vote.reasons_for, "reasons_against": vote.reasons_against}
            if reasons
            else {}
        )
        for vote in votes
    ]
