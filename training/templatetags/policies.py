"""What pages of rounds say of policies, without their views having to know it."""

from django import template

from training.changes import PolicyChange
from training.leftovers import freed_by_deleting
from training.models import Round
from training.resume import ENDED, reason_against_resuming

register = template.Library()


@register.simple_tag
def last_policy_change() -> PolicyChange | None:
    return PolicyChange.objects.select_related("policy", "before", "by").first()


@register.inclusion_tag("training/_ending.html", takes_context=True)
def ways_on(context: template.Context, shown: Round) -> dict[str, object]:
    """How a round that has ended can go on, and the policy that it made."""
    ended = shown.state in ENDED
    return {
        "round": shown,
        "csrf_token": context.get("csrf_token"),
        "resumable": ended and not (reason := reason_against_resuming(shown)),
        "reason": reason if ended else "",
        "left": freed_by_deleting(shown) if ended else 0,
    }
