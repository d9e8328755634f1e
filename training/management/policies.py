"""What the commands about policies share."""

from django.core.management.base import CommandError

from generation.models import Policy


def named(name: str) -> Policy:
    """The policy of that name. Raises CommandError."""
    found = Policy.objects.select_related("parent").filter(name=name).first()
    if found is None:
        known = ", ".join(Policy.objects.values_list("name", flat=True)) or "none"
        raise CommandError(f"There is no policy {name}. Known: {known}.")
    return found
