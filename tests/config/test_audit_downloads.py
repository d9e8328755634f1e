"""What is read in parts, by pages or by programs, cannot be read without an entry in the audit log."""

from pathlib import Path

import pytest
from django.core.cache import cache
from django.test import Client

from annotate.models import Export
from generation.models import Policy
from tests.annotate.test_data_views import EXPORT, folders, judged
from tests.config.api import Program, token_of
from tests.config.test_audit_acts import admin, boss
from tests.config.test_audit_log import kinds, new
from tests.factories import make_policy

pytestmark = pytest.mark.django_db
__all__ = ["boss", "folders", "judged", "new"]  # fixtures


def test_no_way_to_ask_for_data_leaves_no_entry(boss: Client, judged, folders, new) -> None:
    make_policy(current=True)
    boss.post("/data/make/", EXPORT)
    program = Program(token_of(admin()))
    new()
    part = boss.get(f"/data/{Export.objects.get().pk}/file/", headers={"range": "bytes=1-"})
    assert part.status_code in (200, 206)
    assert program.get("/pairs?offset=00").status_code == 200
    assert kinds(new()) == ["downloaded", "downloaded"]
    lines = program.get("/pairs?offset=7", headers={"accept": "application/x-ndjson"})
    assert lines.status_code == 200
    assert kinds(new()) == []  # within a minute of the same reader's last
    cache.clear()
    program.get("/pairs?offset=7", headers={"accept": "application/x-ndjson"})
    assert kinds(new()) == ["downloaded"]


def test_the_parts_of_a_download_are_one_entry_a_minute(boss: Client, new, tmp_path: Path) -> None:
    policy = make_policy()
    Policy.objects.filter(pk=policy.pk).update(path=str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    new()
    for start in (3, 9):
        assert boss.get(f"/policies/{policy.pk}/weights.tar", headers={"range": f"bytes={start}-"}).status_code == 206
    assert kinds(new()) == ["downloaded"]
