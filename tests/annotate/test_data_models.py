"""What must always hold of exports and imported pairs, broken once; the database itself says no."""

from collections.abc import Callable

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from annotate.models import Export, ImportedPair, Origin

pytestmark = pytest.mark.django_db
NOW = timezone.now()
HASH = "0" * 64
WHOLE = {"state": "done", "count": 1, "simulated": 0, "size": 9, "sha256": HASH, "path": "a.jsonl", "ended_at": NOW}


def export(**fields: object) -> Export:
    return Export.objects.create(**{"purpose": "a test", "selection": {}, "format": "jsonl", **fields})


def origin(**fields: object) -> Origin:
    values = {"name": "somebody", "licence": "MIT", "language": "en", "file_name": "a.jsonl", "file_sha256": HASH}
    return Origin.objects.create(**{**values, "count": 1, **fields})


def imported(**fields: object) -> ImportedPair:
    values = {"line": 1, "prompt": [], "chosen": "Good.", "rejected": "Bad.", "sha256": HASH}
    return ImportedPair.objects.create(**{**values, "origin": fields.pop("origin", None) or origin(), **fields})


def twice(make: Callable[..., object], **fields: object) -> None:
    make(**fields)
    make(**fields)


BREAKS: list[tuple[str, Callable[[], object]]] = [
    ("export_has_a_purpose", lambda: export(purpose="")),
    ("export_format_known", lambda: export(format="xml")),
    ("export_layout_fits_the_format", lambda: export(format="csv", layout="grouped")),
    ("export_layout_fits_the_format", lambda: export(layout="spiral")),
    ("export_state_known", lambda: export(state="lost", ended_at=NOW)),
    ("export_whole_or_not_at_all", lambda: export(**{**WHOLE, "sha256": ""})),
    ("export_whole_or_not_at_all", lambda: export(**{**WHOLE, "count": 0})),
    ("export_whole_or_not_at_all", lambda: export(path="a.jsonl")),
    ("export_ended_has_a_time", lambda: export(**{**WHOLE, "ended_at": None})),
    ("export_ended_has_a_time", lambda: export(ended_at=NOW)),
    ("export_path_is_a_name", lambda: export(**{**WHOLE, "path": "../a.jsonl"})),
    ("export_path_once", lambda: twice(export, **WHOLE)),
    ("origin_has_name_and_licence", lambda: origin(licence="")),
    ("origin_language_known", lambda: origin(language="fr")),
    ("origin_file_is_hashed", lambda: origin(file_sha256="")),
    ("origin_withdrawn_has_a_time", lambda: origin(withdrawn_by_id=1)),
    ("annotate_origin_name_key", lambda: twice(origin)),
    ("imported_pair_has_stories", lambda: imported(rejected="")),
    ("imported_pair_of_two_stories", lambda: imported(rejected="Good.")),
    ("imported_pair_is_hashed", lambda: imported(sha256="no hash")),
    ("imported_pair_asks_something", lambda: imported(turns=0)),
    ("annotate_importedpair_sha256_key", lambda: twice(imported, origin=origin())),
]


@pytest.mark.parametrize(("name", "break_it"), BREAKS, ids=[f"{n}-{i}" for i, (n, _) in enumerate(BREAKS)])
def test_the_database_refuses_what_must_never_be(name: str, break_it: Callable[[], object]) -> None:
    with pytest.raises(IntegrityError, match=f'constraint "{name}"'), transaction.atomic():
        break_it()


@pytest.mark.parametrize(
    "rewrite", [lambda found: found.update(count=2), lambda found: found.delete()], ids=["update", "delete"]
)
def test_a_finished_export_never_changes(rewrite: Callable[[object], object]) -> None:
    before = export(**WHOLE)
    with pytest.raises(IntegrityError, match="never changed or deleted"), transaction.atomic():
        rewrite(Export.objects.all())
    assert Export.objects.get() == before


def test_an_export_that_is_not_finished_changes_and_can_go() -> None:
    export()
    assert Export.objects.update(total=5) == 1
    assert Export.objects.all().delete()[0] == 1
