"""How figures are written."""

from django import template

register = template.Library()


@register.filter
def percent(share: float) -> str:
    """0.785 -> "78.5 %"."""
    return f"{100 * share:.1f} %"


@register.filter
def plain(number: float) -> str:
    """8e-05 -> "0.00008"."""
    return f"{number:.10f}".rstrip("0").rstrip(".")
