"""What must always hold of a listening, broken once; the database itself says no."""

from collections.abc import Callable

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from annotate.models import Listening, ListeningSession
from tests.annotate.hearing import begin
from tests.factories import make_evaluation, make_policy

pytestmark = pytest.mark.django_db
NOW = timezone.now()
FIELDS = ("adult", "language", "age_band", "read_by", "consented_at", "consent_version")


def change(listening: Listening, **fields: object) -> None:
    Listening.objects.filter(pk=listening.pk).update(**fields)


def another_session(listening: Listening, **fields: object) -> None:
    values = {name: getattr(listening.session, name) for name in FIELDS}
    ListeningSession.objects.create(**{**values, **fields})


def again(listening: Listening, **fields: object) -> None:
    values = {f.name: getattr(listening, f.name) for f in Listening._meta.fields if f.name not in ("id", "key")}
    Listening.objects.create(**{**values, **fields})


def elsewhere() -> object:
    """A story that is in no pair that is heard."""
    return make_evaluation(make_policy(), make_policy()).stories.first()


BREAKS: list[tuple[str, Callable[[Listening], object]]] = [
    ("listening_session_has_consent", lambda x: another_session(x, consent_version="")),
    ("listening_session_language_known", lambda x: another_session(x, language="fr")),
    ("listening_session_age_band_known", lambda x: another_session(x, age_band="3-4")),
    ("listening_session_reader_known", lambda x: another_session(x, read_by="nobody")),
    ("listening_once_a_session", lambda x: again(x, number=2)),
    ("listening_number_once", lambda x: again(x, comparison=make_evaluation(make_policy(), make_policy()))),
    ("listening_two_stories", lambda x: change(x, second=x.first, asked_about=x.first)),
    ("listening_two_pictures", lambda x: change(x, first_picture="sun", second_picture="sun")),
    ("listening_two_pictures", lambda x: change(x, first_picture="dragon")),
    ("listening_asks_about_one_of_two", lambda x: change(x, asked_about=elsewhere())),
    ("listening_choice_of_the_two", lambda x: change(x, outcome="chosen", answered_at=NOW)),
    ("listening_choice_of_the_two", lambda x: change(x, outcome="chosen", choice=elsewhere(), answered_at=NOW)),
    ("listening_choice_of_the_two", lambda x: change(x, outcome="same", choice=x.first, answered_at=NOW)),
    ("listening_choice_of_the_two", lambda x: change(x, outcome="asleep", answered_at=NOW)),
    ("listening_answered_has_a_time", lambda x: change(x, outcome="stopped")),
    ("listening_answered_has_a_time", lambda x: change(x, answered_at=NOW)),
    ("listening_engagement_one_to_five", lambda x: change(x, **STOPPED, engagement_first=6)),
    ("listening_engagement_one_to_five", lambda x: change(x, **STOPPED, engagement_second=0)),
    ("listening_understood_known", lambda x: change(x, **STOPPED, understood_end="maybe")),
    ("listening_notes_after_the_answer", lambda x: change(x, noted_at=NOW)),
    ("listening_notes_after_the_answer", lambda x: change(x, outcome="same", answered_at=NOW, understood_who="yes")),
]
STOPPED = {"outcome": "stopped", "answered_at": NOW, "noted_at": NOW}


@pytest.mark.parametrize(("name", "break_it"), BREAKS, ids=[f"{n}-{i}" for i, (n, _) in enumerate(BREAKS)])
def test_the_database_refuses_what_must_never_be(name: str, break_it: Callable[[Listening], object]) -> None:
    listening = begin()
    with pytest.raises(IntegrityError, match=f'constraint "{name}"'), transaction.atomic():
        break_it(listening)


def test_the_database_knows_no_session_without_the_adults_consent() -> None:
    listening = begin()
    with pytest.raises(IntegrityError, match='"consented_at"'), transaction.atomic():
        another_session(listening, consented_at=None)


def test_nothing_that_is_stored_of_a_child_could_hold_a_name() -> None:
    free = {
        field.name
        for model in (ListeningSession, Listening)
        for field in model._meta.fields
        if field.get_internal_type() in ("CharField", "TextField") and not field.choices
    }
    assert free == {"consent_version"}
