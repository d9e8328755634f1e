"""What a schedule found when it looked, in words: training/schedule.py writes codes and numbers."""

from collections.abc import Callable
from typing import Any

from django.utils.translation import gettext as _

from annotate.agreement import COMPARISONS, ENOUGH
from training.models import AgreementBy


def in_words(outcome: dict[str, Any]) -> str:
    """For the page; "" if it has not looked yet."""
    say = WORDS.get(outcome.get("code", ""))
    return say(outcome) if say else ""


def _agreement_low(found: dict[str, Any]) -> str:
    if found["by"] == AgreementBy.ALPHA:
        said = _("experts' agreement is alpha %(value)s, not above %(floor)s")
        return said % {"value": f"{found['value']:.2f}", "floor": f"{found['floor']:g}"}
    said = _("two experts choose alike in %(value)s %%, not above %(floor)s %%")
    return said % {"value": f"{found['value']:.0f}", "floor": f"{found['floor']:g}"}


def _agreement_unknown(found: dict[str, Any]) -> str:
    return _(
        "agreement is not known yet: %(pairs)d of %(enough)d pairs of stories have two votes or more, and they have to "
        "be of %(comparisons)d comparisons"
    ) % {"pairs": found["pairs"], "enough": ENOUGH, "comparisons": COMPARISONS}


WORDS: dict[str, Callable[[dict[str, Any]], str]] = {
    "ready": lambda found: _("everything is there: %(pairs)d new pairs") % found,
    "no_policy": lambda found: _("there is no policy yet"),
    "round_waits": lambda found: _("round %(round)d is not over") % found,
    "few_pairs": lambda found: _("%(pairs)d of %(wanted)d new pairs") % found,
    "agreement_unknown": _agreement_unknown,
    "agreement_low": _agreement_low,
    "cannot": lambda found: str(found["message"]),
    "proposal_waits": lambda found: _("a proposal is waiting already"),
    "launched": lambda found: _("launched round %(round)d with %(pairs)d new pairs") % found,
    "proposed": lambda found: _("proposed a round with %(pairs)d new pairs") % found,
}
