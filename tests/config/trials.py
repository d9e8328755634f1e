"""What trials count: a judgement that somebody was told is kept."""

from typing import Any
from uuid import uuid4

from annotate.judgements import Details, PageState, record_judgement
from annotate.models import Verdict
from annotate.queue import next_assignment
from config.trials.people import Given
from tests.factories import make_comparison, make_expert


def given_judgement() -> tuple[Given, Any]:
    """What the expert remembers, and the assignment."""
    make_comparison(2)
    assignment = next_assignment(expert=make_expert())
    assert assignment
    page = PageState(uuid4(), assignment.version)
    record_judgement(
        assignment=assignment,
        verdict=Verdict.RANKED,
        ranks={1: 1, 2: 2},
        page=page,
        details=Details(fields={"best": ["1"], "worst": ["2"]}),
    )
    return Given(str(assignment.key), str(page.key), 1), assignment
