"""The admins' pages about exports and imported preferences."""

import json
from datetime import timedelta
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.http import HttpResponse
from django.test import Client

from annotate import exports, tasks
from annotate.models import Export, ImportedPair, Origin
from annotate.selections import Selection
from tests.factories import judge_by_story, make_comparison, make_expert

pytestmark = pytest.mark.django_db
HTMX = {"HX-Request": "true"}
EXPORT = {"purpose": "paper", "format": "jsonl", "layout": "pairs", "criteria": ["overall"]}
SOURCE = {"name": "Foxes", "licence": "MIT", "language": "en", "which": "all"}
PAIR = {"prompt": "A fox.", "chosen": "Good.", "rejected": "Bad."}


@pytest.fixture(autouse=True)
def folders(settings, tmp_path: Path) -> None:
    settings.EXPORT_DIR, settings.IMPORT_DIR = tmp_path / "exports", tmp_path / "imports"


@pytest.fixture
def admin(client: Client, django_user_model) -> Client:
    client.force_login(django_user_model.objects.create_user("boss", is_staff=True))
    return client


@pytest.fixture
def judged() -> None:
    judge_by_story(make_expert(), list(make_comparison(3).stories.order_by("pk")))


@pytest.fixture
def sent(monkeypatch) -> list[int]:
    """Exports that were left to a worker."""
    found: list[int] = []
    monkeypatch.setattr(tasks.make_export_file, "delay", found.append)
    return found


def text(response: HttpResponse) -> str:
    return response.content.decode()


def upload(name: str, *rows: object) -> SimpleUploadedFile:
    return SimpleUploadedFile(name, "".join(json.dumps(row) + "\n" for row in rows).encode())


def hidden(response: HttpResponse) -> dict[str, object]:
    """What the button that imports would send."""
    form = response.context["confirm"]
    return {name: form.initial[name] for name in form.fields if form.initial[name] is not False}


class TestExports:
    def test_a_small_one_is_finished_at_once(self, admin: Client, judged: None, sent: list[int]) -> None:
        response = admin.post("/data/make/", EXPORT, follow=True)
        export = Export.objects.get()
        assert (export.state, export.count, export.made_by, sent) == ("done", 3, User.objects.get(username="boss"), [])
        assert export.sha256 in text(response)

    def test_its_file_comes_down_as_it_was_written(self, admin: Client, judged: None) -> None:
        admin.post("/data/make/", {**EXPORT, "format": "parquet"})
        export = Export.objects.get()
        response = admin.get(f"/data/{export.pk}/file/")
        assert response.streaming
        assert b"".join(response.streaming_content) == exports.path_of(export).read_bytes()
        assert export.path in response.headers["Content-Disposition"]

    def test_a_big_one_is_left_to_a_worker(
        self, admin: Client, judged: None, sent: list[int], monkeypatch, django_capture_on_commit_callbacks
    ) -> None:
        monkeypatch.setattr(exports, "AT_ONCE", 0)
        with django_capture_on_commit_callbacks(execute=True):
            response = admin.post("/data/make/", EXPORT, follow=True)
        assert (Export.objects.get().state, sent) == ("waiting", [Export.objects.get().pk])
        assert "waits for a worker" in text(response)

    def test_htmx_follows_it_and_shows_the_whole_page_at_its_end(self, admin: Client, judged: None) -> None:
        export = exports.begin_export(by=None, purpose="paper", selection=Selection())
        Export.objects.update(state="writing", done=1000, total=3000)
        response = admin.get(f"/data/{export.pk}/", headers=HTMX)
        assert "1,000 of 3,000 lines" in text(response)
        assert "HX-Refresh" not in response.headers
        exports.write_export(export.pk)
        assert admin.get(f"/data/{export.pk}/", headers=HTMX).headers["HX-Refresh"] == "true"

    @pytest.mark.parametrize("state", ["waiting", "writing"])
    def test_without_a_worker_it_says_so(self, admin: Client, judged: None, state: str) -> None:
        export = exports.begin_export(by=None, purpose="paper", selection=Selection())
        Export.objects.update(state=state)
        assert "No worker is writing it" not in text(admin.get(f"/data/{export.pk}/"))
        Export.objects.update(created_at=export.created_at - timedelta(minutes=1))
        assert "No worker is writing it" in text(admin.get(f"/data/{export.pk}/"))

    def test_nothing_to_export_says_so_and_keeps_the_form(self, admin: Client) -> None:
        response = admin.post("/data/make/", EXPORT)
        assert response.status_code == 422
        assert "No judgement fits" in text(response)
        assert 'value="paper"' in text(response)

    @pytest.mark.parametrize("more", [{"format": "csv", "layout": "grouped"}, {"layout": "grouped", "reasons": "on"}])
    def test_what_does_not_go_together_says_so(self, admin: Client, judged: None, more: dict[str, str]) -> None:
        assert admin.post("/data/make/", {**EXPORT, **more}).status_code == 422
        assert not Export.objects.exists()

    def test_made_again_it_is_the_same_in_another_file(self, admin: Client, judged: None) -> None:
        admin.post("/data/make/", EXPORT)
        admin.post(f"/data/{Export.objects.get().pk}/again/")
        again, first = Export.objects.all()
        assert again.sha256 == first.sha256
        assert again.path != first.path

    def test_a_file_that_is_gone_says_what_to_do(self, admin: Client, judged: None) -> None:
        admin.post("/data/make/", EXPORT)
        export = Export.objects.get()
        exports.path_of(export).unlink()
        assert "Put it back from a backup" in text(admin.get(f"/data/{export.pk}/file/", follow=True))

    def test_a_failed_one_says_why(self, admin: Client, judged: None, settings) -> None:
        settings.EXPORT_DIR = Path("/dev/full/exports")
        assert "Free some space" in text(admin.post("/data/make/", EXPORT, follow=True))


class TestImports:
    def test_checking_writes_nothing_and_importing_takes_what_was_checked(self, admin: Client, settings) -> None:
        response = admin.post("/data/imported/check/", {**SOURCE, "file": upload("a.jsonl", PAIR)})
        assert (response.context["report"].new, Origin.objects.count()) == (1, 0)
        response = admin.post("/data/imported/store/", hidden(response), follow=True)
        assert "1 pair from Foxes is imported." in text(response)
        assert (ImportedPair.objects.get().chosen, Origin.objects.get().file_name) == ("Good.", "a.jsonl")
        assert list(settings.IMPORT_DIR.iterdir()) == []

    def test_faults_are_told_by_line_and_there_is_no_button(self, admin: Client, settings) -> None:
        response = admin.post("/data/imported/check/", {**SOURCE, "file": upload("a.jsonl", PAIR, {"prompt": "x"})})
        assert "line 2: chosen and rejected missing" in text(response)
        assert "confirm" not in response.context
        assert list(settings.IMPORT_DIR.iterdir()) == []

    @pytest.mark.parametrize(
        ("name", "limit", "why"), [("a.txt", 50, "must end with"), ("a.jsonl", 0, "has more than 0 MB")]
    )
    def test_what_is_no_such_file_or_too_large_is_refused(
        self, admin: Client, settings, name: str, limit: int, why: str
    ) -> None:
        settings.IMPORT_MAX_MB = limit
        response = admin.post("/data/imported/check/", {**SOURCE, "file": upload(name, PAIR)})
        assert response.status_code == 422
        assert why in text(response)

    def test_an_upload_that_is_gone_is_asked_for_again(self, admin: Client, settings) -> None:
        response = admin.post("/data/imported/check/", {**SOURCE, "file": upload("a.jsonl", PAIR)})
        for path in settings.IMPORT_DIR.iterdir():
            path.unlink()
        assert "Upload the file again" in text(admin.post("/data/imported/store/", hidden(response), follow=True))

    def test_withdrawing_wants_to_be_sure(self, admin: Client) -> None:
        response = admin.post("/data/imported/check/", {**SOURCE, "file": upload("a.jsonl", PAIR)})
        admin.post("/data/imported/store/", hidden(response))
        address = f"/data/imported/{Origin.objects.get().pk}/withdraw/"
        admin.post(address)
        assert ImportedPair.objects.exists()
        assert "is deleted" in text(admin.post(address, {"sure": "on"}, follow=True))
        assert not ImportedPair.objects.exists()
        assert Origin.objects.get().withdrawn_by.username == "boss"
