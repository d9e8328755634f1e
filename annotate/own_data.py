"""What is stored of an expert's own work, for themselves: nothing that a blind page would not show them."""

from typing import Any

from annotate.models import Draft, Expert, Judgement, Report

BEGINS = 80  # characters of a story, by which it is known again


def own_data(expert: Expert) -> dict[str, Any]:
    """JSON-like: the expert, each answer as it stands, drafts, reports and answers to examples.

    Whether a comparison was a silent check, and who wrote a story, is left out as on every page.
    """
    return {
        "audience": expert.audience,
        "languages": expert.languages,
        "single_keys": expert.keys_enabled,
        "practised_at": expert.practised_at,
        "judgements": [_judgement(one) for one in _judgements(expert)],
        "drafts": list(Draft.objects.filter(assignment__expert=expert).values("fields", "saved_at")),
        "reports": list(
            Report.objects.filter(assignment__expert=expert).values("subject", "note", "created_at", "outcome")
        ),
        "practice": list(expert.practice_answers.values("example__key", "best", "worst", "created_at")),
    }


def forget_drafts(expert: Expert) -> None:
    """What was entered and never sent."""
    Draft.objects.filter(assignment__expert=expert).delete()


def _judgements(expert: Expert) -> Any:
    found = Judgement.objects.filter(assignment__expert=expert).select_related("assignment__comparison__prompt")
    return found.prefetch_related("ranks__story", "criterion_winners", "passages", "improvement").order_by("pk")


def _judgement(one: Judgement) -> dict[str, Any]:
    improvement = getattr(one, "improvement", None)
    return {
        "prompt": one.assignment.comparison.prompt.text,
        "answer": one.verdict,
        "answered_at": one.created_at,
        "changed_at": one.changed_at,
        "seconds": one.seconds,
        "ranks": [
            {"story": rank.story_id, "begins": rank.story.text[:BEGINS], "rank": rank.rank,
             "shown_at_place": rank.shown_position}
            for rank in one.ranks.all()
        ],
        "in_my_words": one.reason,
        "for_the_best": one.reasons_for,
        "against_the_worst": one.reasons_against,
        "best_by_criterion": {winner.criterion: winner.story_id for winner in one.criterion_winners.all()},
        "marked": [
            {"story": p.story_id, "from": p.start, "to": p.end, "liked": p.good} for p in one.passages.all()
        ],
        "improved": improvement.text if improvement else None,
    }  # fmt: skip
