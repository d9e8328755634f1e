"""Figures of a round's progress."""

from django import template

from training import progress

register = template.Library()
register.filter(progress.gigabytes)


@register.filter
def minutes(seconds: float) -> int:
    return round(seconds / 60)
