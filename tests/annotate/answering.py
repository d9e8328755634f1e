"""Answers given in letters: A is a comparison's story with the smallest id, `A > B = C` an order."""

from annotate.judgements import Details, record_judgement
from annotate.models import Comparison, Expert, Judgement, Kind
from annotate.queue import assign, shown_order
from generation.models import Story


def story(comparison: Comparison, letter: str) -> Story:
    return comparison.stories.order_by("pk")["ABCDE".index(letter)]


def answer(
    expert: Expert, comparison: Comparison, order: str, *, kind: str = Kind.ORDINARY, shown: str = "", **details: object
) -> Judgement:
    """`order` ranks the stories, or is a verdict. `shown` is how they stood on the screen: `CAB`."""
    letter = {story(comparison, x).pk: x for x in "ABCDE"[: comparison.stories.count()]}
    ids = [story(comparison, x).pk for x in shown] or shown_order(expert, comparison)
    assignment = assign(comparison, expert, kind=Kind(kind), shown=ids)
    found = Details(**details)
    if order == order.lower():
        return record_judgement(assignment=assignment, verdict=order, details=found).judgement
    tied = [{x.strip() for x in group.split("=")} for group in order.split(">")]
    ranks = {
        position: 1 + next(i for i, group in enumerate(tied) if letter[pk] in group)
        for position, pk in enumerate(ids, start=1)
    }
    return record_judgement(assignment=assignment, verdict="ranked", ranks=ranks, details=found).judgement
