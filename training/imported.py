"""Preference pairs from elsewhere in a round: beside the experts', which they never stand in for.

What they count is the selection's `origins`, `imported_weight` and `languages`; the rest of a selection is about
experts' judgements and this house's own prompts, which imported pairs have none of.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.db import transaction
from django.db.models import Count, Q

from annotate.imports import imported_pairs
from annotate.models import ImportedPair, ImportedPairQuerySet, Origin, OriginQuerySet
from annotate.pairs import Export, write_export
from generation.models import Policy
from training import selection as selections
from training.selection import Selection


def chosen(selection: Selection) -> OriginQuerySet:
    """The selection's origins, in its languages."""
    found = Origin.objects.in_use().filter(name__in=selection.origins)
    return found.filter(language__in=selection.languages) if selection.languages else found


def of(selection: Selection) -> ImportedPairQuerySet:
    """The imported pairs that a round would train on."""
    return ImportedPair.objects.trainable().filter(origin__in=chosen(selection))


def counts(selection: Selection) -> dict[str, int]:
    """How many pairs a round would train on, by origin; of those that have any."""
    if not selection.origins:
        return {}
    counted = chosen(selection).annotate(n=Count("pairs", filter=Q(pairs__turns=1))).filter(n__gt=0)
    return dict(counted.order_by("pk").values_list("name", "n"))


def rows(selection: Selection, policy: Policy) -> Iterator[dict[str, Any]]:
    """Their lines in a round's file, in the order in which they were imported, one at a time. Raises NoTemplate."""
    if not selection.origins:
        return
    names = list(chosen(selection).values_list("name", flat=True))
    for row in imported_pairs(origins=names, policy=policy):
        yield {**row, "weight": row["weight"] * selection.imported_weight}


@transaction.atomic
def freeze(selection: Selection, policy: Policy, path: Path) -> Export:
    """Write the file that a round from `policy` is trained on: the experts' pairs, then the imported ones.

    Raises NoPairs without experts' pairs, BadSelection if an origin was withdrawn, NoTemplate, OSError.
    """
    # locked: an origin that is withdrawn now is so before or after, and never by half
    list(Origin.objects.select_for_update().filter(name__in=selection.origins).order_by("pk"))
    selection.check_origins()
    return write_export(selections.pairs(selection, policy), path, further=rows(selection, policy))
