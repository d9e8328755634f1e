"""What SQL can that the ORM has no words for."""

from collections.abc import Iterable

from django.db.models.expressions import RawSQL


def among(ids: Iterable[int]) -> RawSQL:
    """For `pk__in=`: any number of ids as one value. A statement takes 65,535 values, and a list would be one each."""
    return RawSQL("SELECT unnest(%s::bigint[])", [list(ids)])  # noqa: S611  the ids are a value of it


def among_texts(texts: Iterable[str]) -> RawSQL:
    """The same of texts."""
    return RawSQL("SELECT unnest(%s::text[])", [list(texts)])  # noqa: S611
