"""What an expert's page sends. Shown positions only: the browser never learns a story's id."""

from typing import Any

from django import forms
from django.utils.translation import gettext as _

from annotate.judgements import BadAnswer, ranks_from_best_and_worst
from annotate.models import Verdict


class TypedText(forms.CharField):
    """Text as the textarea counts it: browsers send each line break as two characters."""

    def to_python(self, value: Any) -> str:
        return str(super().to_python(value)).replace("\r\n", "\n")


class JudgementForm(forms.Form):
    """Best, worst, or the full order of `count` shown stories; a tie; a reason.

    After is_valid(), `verdict`, `ranks` and `reason` are what record_judgement takes.
    """

    verdict = forms.ChoiceField(choices=Verdict, initial=Verdict.RANKED)
    reason = TypedText(required=False, max_length=2000)

    def __init__(self, *args: Any, count: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.count = count
        for name in ("best", "worst", *self.rank_names):
            self.fields[name] = forms.IntegerField(required=False, min_value=1, max_value=count)
        self.ranks: dict[int, int] = {}

    @property
    def rank_names(self) -> list[str]:
        return [f"rank_{position}" for position in range(1, self.count + 1)]

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if cleaned.get("verdict") == Verdict.RANKED and not self.errors:
            try:
                self.ranks = self._ranks(cleaned)
            except BadAnswer as error:
                raise forms.ValidationError(str(error)) from error
        return cleaned

    def _ranks(self, cleaned: dict[str, Any]) -> dict[int, int]:
        given = {p: cleaned.get(f"rank_{p}") for p in range(1, self.count + 1)}
        best, worst = cleaned.get("best"), cleaned.get("worst")
        if not any(given.values()):
            return ranks_from_best_and_worst(self.count, best, worst)
        if not all(given.values()):
            raise BadAnswer(_("Give every story a rank, or none."))
        ranks = {position: int(rank or 0) for position, rank in given.items()}
        if best and ranks[best] != min(ranks.values()) or worst and ranks[worst] != max(ranks.values()):
            raise BadAnswer(_("The full order contradicts your best or worst story. Change one of them."))
        return ranks
