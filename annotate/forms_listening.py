"""What the pages of a listening session send. No field takes free text: nobody can write a child's name."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID, uuid4

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

from annotate.listening_sessions import CONSENT_VERSION
from annotate.models import AgeBand, Heard, Reader, Understood
from generation.models import Language

# (value, words for what a child was seen to do): a scale of behaviour, since adults read faces differently
ENGAGEMENT = (
    (1, _("did not listen")),
    (2, _("listened now and then")),
    (3, _("listened about half of the time")),
    (4, _("listened nearly all the time")),
    (5, _("was absorbed")),
    ("", _("can't say")),
)
UNDERSTOOD = (*Understood.choices, ("", _("can't say")))
FIRST, SECOND, SAME, STOPPED = "1", "2", "same", "stopped"
ANSWERS = {
    FIRST: (Heard.CHOSEN, 1),
    SECOND: (Heard.CHOSEN, 2),
    SAME: (Heard.SAME, None),
    STOPPED: (Heard.STOPPED, None),
}


def _values(data: Mapping[str, Any]) -> dict[str, Any]:
    """What was sent, by name."""
    return {name: data.get(name) for name in data}


def _one_of(label: Any, choices: Any) -> forms.ChoiceField:
    missing = _("Choose one of these.")
    errors = {"required": missing, "invalid_choice": missing}
    return forms.ChoiceField(label=label, choices=choices, widget=forms.RadioSelect, error_messages=errors)


class StartForm(forms.Form):
    """A new session. `key` is the page's: sent twice, it is one session."""

    key = forms.UUIDField(widget=forms.HiddenInput)
    consent_version = forms.CharField(widget=forms.HiddenInput, max_length=12)
    language = _one_of(_("Stories in"), Language)
    age_band = _one_of(_("The child's age"), AgeBand)
    read_by = _one_of(_("Who reads aloud?"), Reader)
    consent = forms.BooleanField(
        label=_(
            "I am the child's parent or guardian or have their permission, the child wants to listen, and I agree."
        ),
        error_messages={"required": _("Without your consent no session can begin. Tick the box.")},
    )

    @classmethod
    def fresh(cls, language_code: str) -> "StartForm":
        language = Language.CHINESE if language_code.startswith("zh") else Language.ENGLISH
        start = {"key": uuid4(), "consent_version": CONSENT_VERSION, "language": language, "read_by": Reader.ADULT}
        return cls(initial=start)

    def clean_consent_version(self) -> str:
        version = str(self.cleaned_data["consent_version"])
        if version != CONSENT_VERSION:
            self.data = {**_values(self.data), "consent_version": CONSENT_VERSION, "consent": ""}
            raise ValidationError(_("The text has changed since you opened this page. Read it again, then agree."))
        return version

    def session(self) -> dict[str, Any]:
        """What start_session takes, after is_valid()."""
        key: UUID = self.cleaned_data["key"]
        return {"key": key, **{name: self.cleaned_data[name] for name in ("language", "age_band", "read_by")}}


class VersionForm(forms.Form):
    """The version of the pair that the page has read."""

    version = forms.IntegerField(min_value=0, widget=forms.HiddenInput)


class ChoiceForm(VersionForm):
    """What the child said; `outcome` and `position` after is_valid()."""

    answer = forms.ChoiceField(choices=[(answer, answer) for answer in ANSWERS])

    @property
    def given(self) -> tuple[Heard, int | None]:
        return ANSWERS[self.cleaned_data["answer"]]


def _engagement() -> forms.TypedChoiceField:
    return forms.TypedChoiceField(
        required=False, choices=ENGAGEMENT, coerce=int, empty_value=None, widget=forms.RadioSelect
    )


def _understood(label: Any) -> forms.ChoiceField:
    return forms.ChoiceField(label=label, required=False, choices=UNDERSTOOD, widget=forms.RadioSelect)


class NotesForm(VersionForm):
    """What the adult saw. All of it may be left out."""

    engagement_first = _engagement()
    engagement_second = _engagement()
    understood_who = _understood(_("Who is the story about?"))
    understood_end = _understood(_("What happened at the end?"))

    def at(self, version: int) -> "NotesForm":
        """The same entries on a page that knows `version`."""
        return NotesForm({**_values(self.data), "version": version})
