"""How figures are written."""

from django import template

register = template.Library()


@register.filter
def percent(share: float) -> str:
    """0.785 -> "78.5 %"."""
    return f"{100 * share:.1f} %"
