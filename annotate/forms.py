"""What an expert's page sends. Shown positions only: the browser never learns a story's id."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from django import forms
from django.http import QueryDict
from django.utils.translation import gettext as _

from annotate.chips import KNOWN_AGAINST, KNOWN_FOR
from annotate.judgements import BadAnswer, Details, Mark, ranks_from_best_and_worst
from annotate.models import Criterion, Verdict
from annotate.pages import PageState
from generation.models import Language

NO_DIFFERENCE = "0"
ANSWER_FIELDS = (
    *("verdict", "best", "worst", "reason", "improved", "reasons_for", "reasons_against"),
    *("passages", "seconds", "unsafe", "gone"),
    *(f"criterion_{criterion}" for criterion in Criterion.values),
)
MAX_DRAFT = 60_000  # characters in all fields together


class TypedText(forms.CharField):
    """Text as the textarea counts it: browsers send each line break as two characters."""

    def to_python(self, value: Any) -> str:
        return str(super().to_python(value)).replace("\r\n", "\n")


class PageForm(forms.Form):
    """Which showing of the page this is, and what it has read. Both are missing in what no page sent."""

    page = forms.UUIDField(required=False)
    version = forms.IntegerField(required=False, min_value=0)

    def state(self) -> PageState | None:
        """After is_valid()."""
        key, version = self.cleaned_data.get("page"), self.cleaned_data.get("version")
        return PageState(key, version) if key and version is not None else None


class JudgementForm(PageForm):
    """Best, worst, or the full order of `count` shown stories; the other verdicts; reasons.

    After is_valid(), `verdict`, `ranks`, `reason` and `details()` are what record_judgement takes.
    """

    verdict = forms.ChoiceField(choices=Verdict, initial=Verdict.RANKED)
    reason = TypedText(required=False, max_length=2000)
    improved = TypedText(required=False, max_length=20_000)
    reasons_for = forms.MultipleChoiceField(required=False, choices=[(code, code) for code in KNOWN_FOR])
    reasons_against = forms.MultipleChoiceField(required=False, choices=[(code, code) for code in KNOWN_AGAINST])
    passages = forms.CharField(required=False, max_length=5000)
    seconds = forms.FloatField(required=False, min_value=0)

    def __init__(
        self, *args: Any, count: int, criteria: Iterable[str] = (), criteria_required: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.count = count
        self.criteria = [Criterion(code) for code in criteria]
        self.criteria_required = criteria_required
        positions = [str(position) for position in range(1, count + 1)]
        for name in ("best", "worst", *self.rank_names):
            self.fields[name] = forms.IntegerField(required=False, min_value=1, max_value=count)
        for criterion in self.criteria:
            choices = [(value, value) for value in (NO_DIFFERENCE, *positions)]
            self.fields[f"criterion_{criterion}"] = forms.ChoiceField(required=False, choices=choices)
        for name in ("unsafe", "gone"):
            self.fields[name] = forms.MultipleChoiceField(required=False, choices=[(p, p) for p in positions])
        self.ranks: dict[int, int] = {}

    @property
    def rank_names(self) -> list[str]:
        return [f"rank_{position}" for position in range(1, self.count + 1)]

    def complaints(self) -> list[str]:
        """What is to be changed, in sentences."""
        return [str(message) for messages in self.errors.values() for message in messages]

    def clean_passages(self) -> list[Mark]:
        """[[position, start, end, good], ...] as JSON."""
        try:
            given = json.loads(self.cleaned_data.get("passages") or "[]")
            return [Mark(int(p), int(start), int(end), bool(good)) for p, start, end, good in given]
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise forms.ValidationError(_("A marked passage does not fit its story. Mark it again.")) from error

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if cleaned.get("verdict") == Verdict.RANKED and not self.errors:
            try:
                self.ranks = self._ranks(cleaned)
                self._check_criteria(cleaned)
            except BadAnswer as error:
                raise forms.ValidationError(str(error)) from error
        return cleaned

    def details(self, fields: Mapping[str, list[str]]) -> Details:
        """`fields` is what goes into the history: what sent_fields() gave."""
        cleaned = self.cleaned_data
        winners = {c: cleaned.get(f"criterion_{c}") for c in self.criteria}
        return Details(
            reasons_for=cleaned["reasons_for"],
            reasons_against=cleaned["reasons_against"],
            criteria={c: int(value) or None for c, value in winners.items() if value},
            passages=cleaned["passages"],
            improved=cleaned["improved"],
            unsafe=frozenset(map(int, cleaned["unsafe"])) if cleaned["verdict"] == Verdict.UNSAFE else frozenset(),
            gone=frozenset(map(int, cleaned["gone"])),
            seconds=cleaned["seconds"],
            fields=fields,
        )

    def _check_criteria(self, cleaned: dict[str, Any]) -> None:
        missing = [str(c.label) for c in self.criteria if not cleaned.get(f"criterion_{c}")]
        if self.criteria_required and missing:
            raise BadAnswer(
                _("Say which story wins by each criterion; missing: %(names)s.") % {"names": "; ".join(missing)}
            )

    def _ranks(self, cleaned: dict[str, Any]) -> dict[int, int]:
        given = {p: cleaned.get(f"rank_{p}") for p in range(1, self.count + 1)}
        best, worst = cleaned.get("best"), cleaned.get("worst")
        if not any(given.values()):
            return ranks_from_best_and_worst(self.count, best, worst)
        ranks = {position: int(rank) for position, rank in given.items() if rank}
        highest, lowest = min(ranks.values()), max(ranks.values())
        if best and ranks.get(best) != highest or worst and ranks.get(worst) != lowest:
            raise BadAnswer(_("The full order contradicts your best or worst story. Change one of them."))
        return ranks


def sent_fields(data: QueryDict, count: int) -> dict[str, list[str]]:
    """The answer's fields as the page sent them, without what is empty."""
    ranks = [f"rank_{position}" for position in range(1, count + 1)]
    fields = {}
    for name in (*ANSWER_FIELDS, *ranks):
        values = [value.replace("\x00", "") for value in data.getlist(name)]
        if any(values):
            fields[name] = values
    return fields


def check_size(fields: Mapping[str, list[str]]) -> None:
    """Raise BadAnswer if there is more than is kept."""
    if sum(len(value) for values in fields.values() for value in values) > MAX_DRAFT:
        raise BadAnswer(_("This is too much text to keep: 60,000 characters at most. Shorten it."))


class PreferencesForm(forms.Form):
    """What experts choose for themselves."""

    keys_enabled = forms.BooleanField(required=False)
    languages = forms.MultipleChoiceField(choices=Language, required=False)
