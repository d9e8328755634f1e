"""A child and an adult, as tests need them."""

from uuid import uuid4

from django.contrib.auth.models import User

from annotate.listening_sessions import next_listening, record_choice, record_notes, start_session
from annotate.models import Comparison, Listening
from generation.models import Policy, Story
from tests.factories import make_evaluation, make_expert, make_policy


def begin(comparison: Comparison | None = None, *, adult: User | None = None, **fields: object) -> Listening:
    """The first pair of a new session, on a comparison of its own if none is given."""
    comparison or make_evaluation(make_policy(), make_policy())
    values = {"key": uuid4(), "language": "en", "age_band": "5-6", "read_by": "adult", **fields}
    session = start_session(adult=adult or make_expert().user, **values)
    return session.listenings.get()


def go_on(listening: Listening) -> Listening:
    """The session's next pair."""
    return next_listening(session=listening.session)


def choose(listening: Listening, policy: Policy | None, **notes: object) -> Listening:
    """The child chooses `policy`'s story, or likes both the same; then the notes."""
    position = None if policy is None else 1 if listening.first.policy == policy else 2
    outcome = "chosen" if position else "same"
    kept = record_choice(listening=listening, outcome=outcome, position=position, version=0)
    return record_notes(listening=kept, notes=notes, version=1)


def of(listening: Listening, policy: Policy) -> Story:
    """The policy's story of the two."""
    return listening.first if listening.first.policy == policy else listening.second
