"""The audit log: each act is an entry, whoever does it and by which way; none is changed (checklist 37)."""

import json
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.cache import cache
from django.core.management import CommandError, call_command
from django.db import IntegrityError, connection, transaction
from django.http import QueryDict
from django.test import Client
from django.utils import timezone, translation

from config import logs
from config.audit import context
from config.audit.deleting import delete_before
from config.audit.entries import HANDED_OUT, record
from config.audit.kinds import KINDS
from config.audit.watched import ANY, TABLES, concerns
from config.audit.words import TYPES, lines
from config.doctor.installation import audit_log
from config.forms_audit import FilterForm
from config.leaving import personal_data
from config.models import AuditEntry
from config.tokens import make_token
from generation.models import Policy
from tests.config.people import PASSWORD, log_in, logged_in, make_admin, make_person
from tests.factories import make_policy
from tests.training.test_models import make_round

pytestmark = pytest.mark.django_db


@pytest.fixture
def new() -> Iterator[Callable[[], list[AuditEntry]]]:
    """Gives the entries since it was asked last, oldest first."""
    seen = [last_id()]

    def entries() -> list[AuditEntry]:
        found = list(AuditEntry.objects.filter(pk__gt=seen[0]).order_by("pk"))
        seen[0] = last_id()
        return found

    return entries


def last_id() -> int:
    return AuditEntry.objects.order_by("-pk").values_list("pk", flat=True).first() or 0


def kinds(entries: list[AuditEntry]) -> list[str]:
    return [one.kind for one in entries]


def execute(sql: str, parameters: list[Any] | None = None) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)


# -- the database


def test_update_and_sql_are_recorded_like_a_row_that_is_saved(new) -> None:
    person = make_person()
    new()
    User.objects.filter(pk=person.pk).update(is_staff=True)
    execute("UPDATE auth_user SET is_active = false WHERE id = %s", [person.pk])
    execute("WITH x AS (SELECT 1) UPDATE auth_user SET password = 'x' WHERE id = %s", [person.pk])
    found = new()
    assert kinds(found) == ["part_changed", "blocked", "password_changed"]
    assert [one.facts for one in found] == [
        {"is_staff": [False, True]}, {"is_active": [True, False]}, {"changed": ["password"]},
    ]  # fmt: skip
    assert {(one.object_type, one.object_id, one.source) for one in found} == {("user", person.pk, "command")}


@pytest.mark.django_db(transaction=True)
def test_a_statement_that_is_its_own_transaction_says_who_sends_it_and_the_next_one_says_it_anew(new) -> None:
    person = make_person()
    new()
    with logs.about(task="a.task"):
        User.objects.filter(pk=person.pk).update(is_staff=True)
        with pytest.raises(IntegrityError):
            User.objects.filter(pk=person.pk).update(username=None)
    connection.connection.execute(f"UPDATE auth_user SET is_staff = false WHERE id = {person.pk}")
    assert [(one.kind, one.source) for one in new()] == [("part_changed", "task"), ("part_changed", "database")]


def test_who_comes_past_storyloop_is_called_by_their_name_in_the_database(new) -> None:
    person = make_person()
    connection.connection.execute("SELECT set_config('storyloop.audit', '', true)")
    connection.connection.execute(f"UPDATE auth_user SET email = 'x' WHERE id = {person.pk}")
    found = new()[-1]
    assert (found.kind, found.source, found.through) == ("email_changed", "database", connection.settings_dict["USER"])


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE config_auditentry SET kind = 'x'",
        "DELETE FROM config_auditentry",
        "TRUNCATE config_auditentry",
        "SELECT set_config('storyloop.audit_delete_before', '2100-01-01', true); DELETE FROM config_auditentry",
    ],
)
def test_entries_are_never_changed(sql: str, new) -> None:
    record("logged_out")
    with pytest.raises(IntegrityError, match="only ever added to"), transaction.atomic():
        execute(sql)
    assert kinds(new()) == ["logged_out"]


@pytest.mark.parametrize(
    ("constraint", "values"),
    [
        ("audit_kind_is_a_code", {"kind": "Logged in!"}),
        ("audit_source_known", {"source": "telepathy"}),
        ("audit_object_has_a_type", {"object_id": 1}),
        ("audit_facts_are_named", {"facts": [1]}),
    ],
)
def test_what_an_entry_must_be(constraint: str, values: dict[str, Any]) -> None:
    with pytest.raises(IntegrityError, match=constraint):
        AuditEntry.objects.create(**{"kind": "logged_out", "source": "web", **values})


def aged(days: int) -> AuditEntry:
    return AuditEntry.objects.create(kind="logged_out", source="web", at=timezone.now() - timedelta(days=days))


def test_old_entries_go_by_the_command_which_leaves_one(new, capsys) -> None:
    old, late = aged(400), aged(100)
    new()
    call_command("audit_log", delete_before=f"{timezone.now() - timedelta(days=200):%Y-%m-%d}")
    assert "1 entries" in capsys.readouterr().out
    (said,) = new()
    assert (said.kind, said.facts["count"], said.source) == ("audit_deleted", 1, "command")
    assert set(AuditEntry.objects.filter(pk__in=[old.pk, late.pk])) == {late}
    with pytest.raises(CommandError, match="last 90 days stay"):
        call_command("audit_log", delete_before=f"{timezone.now():%Y-%m-%d}")
    with pytest.raises(IntegrityError, match="only ever added to"), transaction.atomic():
        delete_before(timezone.now())
    assert new() == []


def test_a_statement_that_a_trigger_looks_at_is_known_as_one() -> None:
    """tgtype: 4 insert, 8 delete, 16 update; without columns an update of any."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT c.relname, t.tgtype, array(SELECT a.attname::text FROM pg_attribute a "
            "WHERE a.attrelid = c.oid AND a.attnum = ANY (t.tgattr)), t.tgname, pg_get_triggerdef(t.oid) "
            "FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid WHERE t.tgname LIKE 'audit\\_%'"
        )
        found = cursor.fetchall()
    tables: dict[str, tuple[bool, set[str], bool]] = {}
    for table, type_, columns, _name, _definition in found:
        insert, update, delete = tables.get(table, (False, set(), False))
        update = update | set(columns or ANY) if type_ & 16 else update
        tables[table] = (insert or bool(type_ & 4), update, delete or bool(type_ & 8))
    tables["config_auditentry"] = (False, set(), True)  # an UPDATE of it is refused, whoever sends it
    assert tables == {name: (one.insert, set(one.update), one.delete) for name, one in TABLES.items()}
    told = {re.search(r"EXECUTE FUNCTION \w+\('(\w+)'", definition) for *_rest, definition in found}
    assert {one[1] for one in told if one} | {kind for kind, *_ in HANDED_OUT.values()} <= set(KINDS)


def test_the_doctor_misses_a_trigger_that_somebody_took_away() -> None:
    assert [one.level for one in audit_log()] == ["ok"]
    execute("ALTER TABLE auth_user DISABLE TRIGGER audit_account_deleted_delete")
    execute("DROP TRIGGER audit_is_never_emptied ON config_auditentry")
    (found,) = audit_log()
    assert found.level == "fault"
    assert "delete of auth_user, truncate of config_auditentry." in found.said


@pytest.mark.parametrize(
    ("sql", "told"),
    [
        ('UPDATE "auth_user" SET "is_staff" = true WHERE "auth_user"."id" = 1', True),
        ('UPDATE "auth_user" SET "last_login" = now() WHERE "auth_user"."password" = 1', False),
        (
            'UPDATE "annotate_expert" SET "judged" = ("annotate_expert"."judged" + 1) WHERE "annotate_expert"."id" = 1',
            False,
        ),
        ('INSERT INTO "annotate_judgement" ("id") VALUES (1)', False),
        ('INSERT INTO "config_auditentry" ("id") VALUES (1)', False),
        ('DELETE FROM "config_auditentry" WHERE true', True),
        ('SELECT 1 FROM "auth_user"', False),
        ("WITH found AS (DELETE FROM auth_user RETURNING id) SELECT id FROM found", True),
        ("DO $$ BEGIN DELETE FROM auth_user; END $$", True),
        ('CREATE INDEX CONCURRENTLY "name" ON "auth_user" ("email")', False),
        ('VACUUM (ANALYZE) "auth_user"', False),
    ],
)
def test_what_experts_send_all_day_is_not_looked_at(sql: str, told: bool) -> None:
    assert concerns(sql) is told


# -- who comes in


def test_logging_in_and_out(new) -> None:
    anna = make_person()
    new()
    client, _response = log_in()
    client.post("/log-out/")
    found = new()
    assert kinds(found) == ["logged_in", "logged_out"]
    assert {(one.actor, one.object_id, one.source) for one in found} == {(anna, anna.pk, "web")}
    assert found[0].facts == {"methods": ["password"]}
    assert found[0].through == "log_in"
    assert len(found[0].request_id) == 32


def test_a_failed_log_in_tells_of_the_account_and_never_what_was_typed(new) -> None:
    anna = make_person()
    new()
    log_in(password="Canary-of-a-password")
    log_in(name="Canary-of-a-password", password="x")
    found = new()
    assert [(one.kind, one.actor, one.object_type, one.object_id) for one in found] == [
        ("log_in_failed", None, "user", anna.pk), ("log_in_failed", None, "", None),
    ]  # fmt: skip
    assert "anary" not in str([vars(one) for one in found])


def test_tries_that_are_not_looked_at_are_one_entry(new) -> None:
    cache.clear()
    make_person()
    for _try in range(8):
        log_in(password="wrong")
    assert kinds(new()).count("log_in_throttled") == 1


# -- who leaves, and what they may read


def test_who_leaves_is_their_pseudonym_here_too(new) -> None:
    make_admin()
    anna = make_person()
    client, _response = log_in()
    make_token(user=anna, name="Anna's laptop", days=1)
    assert {"logged_in", "token_made"} <= {one["act"] for one in personal_data(anna)["audit_log"]}
    new()
    client.post("/account/leave/", {"password": PASSWORD, "sure": "on"})
    found = new()
    assert kinds(found) == ["token_deleted", "left", "logged_out"]
    everything = b"".join(logged_in(make_admin("boss2")).get(EXPORT).streaming_content).decode()
    assert f"former-{anna.pk}" in everything
    assert "anna" not in everything.lower()


# -- the page


EXPORT = "/people/audit/export/?format=jsonl"


@pytest.fixture
def boss() -> Client:
    return logged_in(make_admin())


def page(client: Client, query: str = "") -> str:
    return client.get(f"/people/audit/?{query}").content.decode()


def test_the_page_says_it_in_the_readers_language_with_links_to_what_is_there(boss: Client) -> None:
    policy = make_policy("round-7")
    Policy.objects.filter(pk=policy.pk).update(license="mit")
    gone = make_policy("gone")
    gone.delete()
    make_round(policy=policy, number=3)
    text = page(boss)
    assert f'<a href="/policies/{policy.pk}/">policy round-7</a>' in text
    assert "license: – → mit" in text
    assert "policy gone" in text
    assert f"/policies/{gone.pk}/" not in text
    assert '<a href="/rounds/3/">round 3</a>' in text
    assert f"command line · {context.command()}" not in text  # once is enough: it is who did it
    assert context.command() in text
    facts = {"criteria": [[], ["structure"]], "changed": ["guidelines_en"], "methods": ["totp"]}
    facts |= {"first": "2026-01-02T03:04:05+00:00", "practice": [True, False], "policy_id": policy.pk}
    (line,) = lines([AuditEntry(kind="campaign_changed", source="web", object_type="campaign", label="", facts=facts)])
    assert line.facts == [
        "Also ask which story wins by: – → Clear beginning, middle and end", "Guidelines in English: changed",
        "by means of: code of an app", "the oldest of: 2026-01-02 03:04",
        "New experts practise first: yes → no", "policy: round-7",
    ]  # fmt: skip
    (line,) = lines(
        [AuditEntry(kind="plan_changed", source="web", object_type="plan", label="", facts={"2.top_p": [1, 0.9]})]
    )
    assert (line.facts, line.url) == (["story 2: top-p: 1 → 0.9"], "/writing/plan/")
    with translation.override("zh-hans"):
        every = [AuditEntry(kind="left", source="web", object_type=name, label="", facts={}) for name in TYPES]
        assert all(line.about for line in lines(every))


def test_filters_and_pages_walk_through_all_of_it_once(boss: Client) -> None:
    anna = make_person()
    AuditEntry.objects.bulk_create(
        AuditEntry(kind="logged_in", source="web", actor=anna, object_type="user", object_id=anna.pk)
        for _ in range(205)
    )
    seen: list[int] = []
    address = "/people/audit/?person=ANNA&kind=logged_in&type=user"
    while address:
        response = boss.get(address)
        seen += [line.entry.pk for line in response.context["lines"]]
        older = re.search(r'href="(\?[^"]+before=\d+)"', response.content.decode())
        address = "/people/audit/" + older[1].replace("&amp;", "&") if older else ""
    assert len(seen) == len(set(seen)) == 205
    assert seen == sorted(seen, reverse=True)
    assert "No entry is like this." in page(boss, "until=2020-01-01")
    assert "No entry is like this." not in page(
        boss, f"since={timezone.now():%Y-%m-%d}&until={timezone.now():%Y-%m-%d}"
    )
    for wrong in (
        "person=nobody",
        "since=yesterday",
        "number=0",
        "number=1",
        "kind=x",
        "since=2026-02-02&until=2026-01-01",
    ):
        assert boss.get(f"/people/audit/?{wrong}").status_code == 422
    assert boss.get("/people/audit/?before=99999999999999999999").status_code == 200


def test_a_file_has_all_of_it_and_a_spreadsheet_runs_nothing_of_it(boss: Client, new) -> None:
    make_policy("=cmd()|x")
    new()
    told = [json.loads(line) for line in b"".join(boss.get(EXPORT).streaming_content).decode().splitlines()]
    assert {one["id"] for one in told} == set(AuditEntry.objects.values_list("pk", flat=True))
    assert told[0]["kind"] == "audit_exported"
    assert (told[0]["actor_name"], told[1]["label"]) == ("boss", "=cmd()|x")
    table = b"".join(boss.get("/people/audit/export/?format=csv&kind=policy_registered").streaming_content).decode()
    assert "'=cmd()|x" in table
    assert "logged_in" not in table
    assert boss.get("/people/audit/export/?format=pdf").status_code == 404
    assert kinds(new()) == ["audit_exported"] * 2


def test_a_page_reads_a_piece_of_a_long_log() -> None:
    """By index, from where it begins, however long the log is."""
    make_person()
    execute(
        "INSERT INTO config_auditentry (at, kind, actor_id, source, object_type, object_id) SELECT "
        "timestamptz '2026-01-01' + n * interval '1 minute', 'logged_in', n - 97 * (n / 97), 'web', 'user', n "
        "FROM generate_series(1, 20000) n"
    )
    execute("ANALYZE config_auditentry")
    begin = AuditEntry(pk=15_000, at=timezone.now())
    for query in ("", "kind=blocked", "type=round&number=7", "person=anna", "until=2026-01-10"):
        form = FilterForm(QueryDict(query))
        assert form.is_valid()
        plan = form.entries().before(begin)[:101].explain()
        assert "Seq Scan" not in plan, plan
        assert "Sort" not in plan or "BitmapOr" in plan, plan  # a person's are gathered from two indexes
