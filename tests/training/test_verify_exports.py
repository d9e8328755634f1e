"""Files of exports and of rounds, hashed anew."""

import hashlib
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from annotate import exports
from annotate.models import Export
from annotate.selections import Selection
from tests.factories import judge_by_story, make_comparison, make_expert
from tests.training.test_models import make_round

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def files(settings, tmp_path: Path) -> list[Path]:
    """An export's and a round's."""
    settings.EXPORT_DIR = tmp_path
    judge_by_story(make_expert(), list(make_comparison(2).stories.order_by("pk")))
    exports.write_export(exports.begin_export(by=None, purpose="a test", selection=Selection()).pk)
    frozen = tmp_path / "round-1.jsonl"
    frozen.write_text("{}\n")
    make_round(export_path=str(frozen), export_sha256=hashlib.sha256(b"{}\n").hexdigest(), pair_count=1)
    return [exports.path_of(Export.objects.get()), frozen]


def test_files_that_are_as_they_were_are_counted() -> None:
    out = StringIO()
    call_command("verify_exports", stdout=out)
    assert out.getvalue() == "2 files are as they were exported.\n"


def test_what_differs_and_what_is_gone_is_named(files: list[Path]) -> None:
    files[0].write_text("another\n")
    files[1].unlink()
    out = StringIO()
    with pytest.raises(CommandError, match="2 of 2 files"):
        call_command("verify_exports", stdout=out)
    first, second = out.getvalue().splitlines()
    assert first.startswith(f"export {Export.objects.get().pk}, differs")
    assert second.startswith("round 1, missing")
