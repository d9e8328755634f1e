"""Each act through its page, command, task or endpoint is an entry of the audit log, with its person and object."""

import getpass
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client

from annotate.models import Campaign, Export, Origin
from config import logs
from config.audit import context
from config.audit.entries import HANDED_OUT
from config.models import Invitation
from generation.engines.values import weights_hash
from generation.models import Policy
from tests.annotate.test_data_views import EXPORT, PAIR, SOURCE, folders, hidden, judged, upload
from tests.config.api import Program, token_of
from tests.config.people import PASSWORD, invited, log_in, logged_in, make_admin, make_person
from tests.config.test_access import RULES, patterns
from tests.config.test_audit_log import kinds, new
from tests.config.test_invitations import come
from tests.config.test_second_factor import PAGES, set_up
from tests.factories import make_comparison, make_policy, make_run
from tests.training.test_models import make_round
from tests.training.test_views import LAUNCH, policy, sent
from training.models import Proposal, Schedule, State
from training.tasks import promote_due_round

pytestmark = pytest.mark.django_db
__all__ = ["folders", "judged", "new", "policy", "sent"]  # fixtures


@pytest.fixture
def boss() -> Client:
    return logged_in(make_admin())


def person_form(**values: str) -> dict[str, str]:
    return {"audience": "", "active": "on", **values}


def make_invitation_() -> Invitation:
    invited(note="Ms Li", email="li@example.org")
    return Invitation.objects.get()


ACTS: dict[str, Callable[[Client], tuple[Any, list[str]]]] = {}


def act(*expected: str):
    """`expected`: the kinds of its entries. The act gives the object of the first: (type, number)."""

    def note(function):
        ACTS[function.__name__] = (function, list(expected))
        return function

    return note


@act("part_changed")
def make_admin_of_somebody(boss: Client):
    anna = make_person()
    return lambda: boss.post(f"/people/{anna.pk}/save/", person_form(admin="on")), ("user", anna.pk)


@act("part_changed")
def make_expert_of_somebody(boss: Client):
    anna = make_person()
    return lambda: boss.post(f"/people/{anna.pk}/save/", person_form(audience="parent")), ("user", anna.pk)


@act("blocked")
def block_somebody(boss: Client):
    anna = make_person()
    return lambda: boss.post(f"/people/{anna.pk}/save/", {"audience": ""}), ("user", anna.pk)


@act("invitation_made")
def invite(boss: Client):
    given = {"role": "expert", "audience": "parent", "days": "7", "note": "Ms Li", "email": "li@example.org"}
    return lambda: boss.post("/people/invite/", given), ("invitation", None)


@act("invitation_revoked")
def revoke_invitation(boss: Client):
    one = make_invitation_()
    return lambda: boss.post(f"/people/invitations/{one.pk}/revoke/"), ("invitation", one.pk)


@act("reset_link_made")
def make_reset_link(boss: Client):
    anna = make_person()
    return lambda: boss.post(f"/people/{anna.pk}/reset-link/"), ("user", anna.pk)


@act("second_factor_removed")
def remove_second_factor(boss: Client):
    anna = make_person()
    anna.authenticator_set.create(type="totp", data={"secret": "CANARY"})
    return lambda: boss.post(f"/people/{anna.pk}/second-factor/remove/"), ("user", anna.pk)


@act("token_made")
def make_api_token(boss: Client):
    return lambda: boss.post("/account/tokens/make/", {"name": "Anna's laptop", "days": "30"}), ("user", None)


@act("name_changed")
def save_name(boss: Client):
    return lambda: boss.post("/account/name/", {"username": "anna-li"}), ("user", None)


@act("own_data_downloaded")
def my_data(boss: Client):
    return lambda: boss.get("/account/data/"), ("user", None)


@act("campaign_changed")
def save_campaign(boss: Client):
    Campaign.stored()
    given = {"criteria": ["structure"], "practice": "on", "gold_every": "20", "repeat_every": "15",
             "evaluation_share": "40", "guidelines_en": "Canary"}  # fmt: skip
    return lambda: boss.post("/judging/campaign/", given), ("campaign", None)


@act("plan_changed")
def save_plan(boss: Client):
    given = {f"story-{n}-{name}": value for n in range(1, 6) for name, value in (
        ("temperature", "0.9"), ("top_p", "1"), ("top_k", "0"), ("min_p", "0.02"), ("repetition_penalty", "1"),
        ("seed", "0"))}  # fmt: skip
    return lambda: boss.post("/writing/plan/save/", given), ("plan", None)


@act("limits_changed")
def save_limits(boss: Client):
    return lambda: boss.post("/rounds/limits/save/", {"kl_token": "0.2"}), ("limits", None)


@act("rule_changed")
def save_promotion_rule(boss: Client):
    return lambda: boss.post("/rounds/schedules/promotion/", {"automatic": "on"}), ("rule", None)


@act("judge_changed")
def save_judge(boss: Client):
    policy = make_policy()
    return lambda: boss.post("/writing/detectors/judge/", {"judge": policy.pk}), ("judge", None)


@act("schedule_added")
def add_schedule(boss: Client):
    given = {"name": "Sundays", "when": "every", "every_minutes": "60", "min_new_pairs": "10", "act": "propose",
             "settings_of": "last", "agreement_by": ""}  # fmt: skip
    return lambda: boss.post("/rounds/schedules/add/", given), ("schedule", None)


@act("destination_added")
def add_webhook(boss: Client):
    given = {"url": "https://hooks.example.org/CANARY", "secret": "CANARY-of-a-secret", "events": ["failed"]}
    return lambda: boss.post("/rounds/notices/webhooks/", given), ("destination", None)


@act("policy_changed")
def save_policy_facts(boss: Client):
    policy = make_policy()
    return lambda: boss.post(f"/policies/{policy.pk}/facts/", {"license": "mit", "hub_name": ""}), ("policy", policy.pk)


@act("downloaded")
def download_card(boss: Client):
    policy = make_policy()
    return lambda: boss.get(f"/policies/{policy.pk}/README.md"), ("policy", policy.pk)


@act("audit_exported")
def export_audit_log(boss: Client):
    return lambda: boss.get("/people/audit/export/?format=jsonl"), ("", None)


@act("round_cancelled")
def cancel_round(boss: Client):
    make_round(number=7, state=State.TRAINING)
    return lambda: boss.post("/rounds/7/cancel/"), ("round", 7)


@act("policy_in_use", "round_promoted")
def promote_round(boss: Client):
    base = make_policy("base", current=True)
    new = make_policy("new", parent=base)
    make_round(number=7, policy=base, result=new, state=State.JUDGING)
    return lambda: boss.post("/rounds/7/promote/"), ("policy", new.pk)


@act("round_rejected")
def reject_round(boss: Client):
    make_round(number=7, result=make_policy(), state=State.JUDGING)
    return lambda: boss.post("/rounds/7/reject/"), ("round", 7)


@act("proposal_dismissed")
def dismiss_proposal(boss: Client):
    one = Proposal.objects.create(policy=make_policy(current=True), round_settings={}, pairs=3)
    return lambda: boss.post(f"/rounds/proposals/{one.pk}/dismiss/"), ("proposal", one.pk)


@act("schedule_changed")
def save_schedule(boss: Client):
    one = Schedule.objects.create(name="Sundays")
    given = {"name": "Sundays", "when": "every", "every_minutes": "90", "min_new_pairs": "200", "act": "launch",
             "settings_of": "last", "agreement_by": "", "only_when_free": "on"}  # fmt: skip
    return lambda: boss.post(f"/rounds/schedules/{one.pk}/save/", given), ("schedule", one.pk)


@act("schedule_removed")
def remove_schedule(boss: Client):
    one = Schedule.objects.create(name="Sundays")
    return lambda: boss.post(f"/rounds/schedules/{one.pk}/remove/"), ("schedule", one.pk)


@act("plan_reset")
def reset_plan(boss: Client):
    from generation.plan import sampling_plan, save_plan

    save_plan(rows=sampling_plan())
    return lambda: boss.post("/writing/plan/reset/"), ("plan", None)


@act("run_cancelled")
def cancel_run(boss: Client):
    one = make_run()
    return lambda: boss.post(f"/writing/runs/{one.pk}/cancel/"), ("run", one.pk)


@act("token_revoked")
def revoke_token(boss: Client):
    from config.tokens import make_token

    made, _token = make_token(user=admin(), name="x", days=1)
    return lambda: boss.post(f"/account/tokens/{made.pk}/revoke/"), ("user", admin().pk)


@pytest.mark.parametrize("name", ACTS)
def test_an_act_is_one_entry_with_its_person_and_object(name: str, boss: Client, new, settings) -> None:
    settings.PRIVATE_WEBHOOKS = True
    prepare, expected = ACTS[name]
    do, (object_type, object_id) = prepare(boss)
    new()
    response = do()
    assert response.status_code in (200, 302), response.content.decode()
    found = new()
    assert kinds(found) == expected
    assert {(one.actor, one.source) for one in found} == {(admin(), "web")}
    assert found[0].object_type == object_type
    assert object_id in (None, found[0].object_id)
    assert found[0].request_id == response.headers["X-Request-ID"]
    assert found[0].through in [pattern.name for pattern in patterns()]
    stored = json.dumps([one.facts for one in found]) + "".join(one.label for one in found)
    for secret in ("anary", "CANARY", "Anna", "Ms Li", "example.org", "pbkdf2", "md5"):
        assert secret not in stored


def admin() -> User:
    return User.objects.get(
        is_staff=True, date_joined=User.objects.filter(is_staff=True).earliest("date_joined").date_joined
    )


def test_launching_a_round(boss: Client, policy, sent: list[int], new) -> None:
    assert boss.post("/rounds/launch/", LAUNCH).status_code == 302
    (found,) = new()[-1:]
    assert (found.kind, found.actor, found.object_type, found.object_id) == ("round_launched", admin(), "round", 1)
    assert found.facts["policy_id"] == policy.pk


def test_exports_downloads_and_imports(boss: Client, judged: None, new) -> None:
    new()
    boss.post("/data/make/", EXPORT)
    export = Export.objects.get()
    b"".join(boss.get(f"/data/{export.pk}/file/").streaming_content)
    boss.head(f"/data/{export.pk}/file/")
    page = boss.post("/data/imported/check/", {**SOURCE, "file": upload("foxes.jsonl", PAIR)})
    boss.post("/data/imported/store/", hidden(page))
    origin = Origin.objects.get()
    boss.post(f"/data/imported/{origin.pk}/withdraw/", {"sure": "on"})
    found = new()
    assert [(one.kind, one.object_type, one.object_id) for one in found] == [
        ("export_made", "export", export.pk), ("downloaded", "export", export.pk),
        ("imported", "origin", origin.pk), ("import_withdrawn", "origin", origin.pk),
    ]  # fmt: skip
    assert {one.actor for one in found} == {admin()}


def test_an_account_comes_from_an_invitation_and_gets_another_password_and_factor(new) -> None:
    make_admin()
    token = invited(role="adjudicator")
    new()
    client, _response = come(token)
    anna, invitation = User.objects.get(username="anna"), Invitation.objects.get()
    found = new()
    assert [(one.kind, one.object_type, one.object_id) for one in found] == [
        ("account_made", "user", anna.pk), ("invitation_used", "invitation", invitation.pk),
        ("part_changed", "user", anna.pk), ("logged_in", "user", anna.pk),
    ]  # fmt: skip
    assert {one.actor for one in found} == {anna}
    assert found[2].facts == {"audience": "parent", "adjudicates": True}
    client.post("/account/password/", {"oldpassword": PASSWORD, "password1": "eight small foxes",
                                       "password2": "eight small foxes"})  # fmt: skip
    assert kinds(new()) == ["password_changed"]


def test_a_second_factor(new) -> None:
    make_person()
    client = log_in()[0]
    secret = set_up(client)
    client.get(PAGES + "recovery-codes/")
    client.post(PAGES + "totp/deactivate/")
    found = new()
    told = [one for one in kinds(found) if one not in ("account_made", "logged_in")]
    assert told == ["second_factor_set", "recovery_codes_made", "recovery_codes_seen", "second_factor_removed"]
    assert secret not in str([vars(one) for one in found])
    client.post("/log-out/")
    set_up(log_in()[0])
    later = log_in()[0]
    later.post(PAGES + "authenticate/", {"code": "000000"})
    assert kinds(new())[-1] == "second_factor_failed"


def test_a_program_with_a_token_is_its_user_and_the_token(new) -> None:
    boss = make_admin()
    program = Program(token_of(boss))
    make_comparison(3, policy=make_policy(current=True))
    new()
    given = {"text": "A fox.", "language": "en", "theme": "courage", "story_type": "fable", "age_band": "5-6"}
    assert program.post("/prompts", {"prompts": [given]}).status_code == 201
    for offset in (0, 1):
        assert program.get(f"/pairs?offset={offset}").status_code == 200
    found = new()
    assert [(one.kind, one.source, one.actor) for one in found] == [
        ("prompts_added", "api", boss), ("downloaded", "api", boss)
    ]  # fmt: skip
    assert found[0].facts == {"count": 1}
    assert found[0].through == f"add_prompts_ (token {boss.api_tokens.get().pk})"


def test_what_the_beat_does_is_called_the_schedules(boss: Client, new) -> None:
    """Inside a task's context, as a worker sets it (config/logs.py)."""
    with logs.about(task=promote_due_round.name, request_id="asked-for-it"):
        make_round(number=7)
    found = new()[-1]
    assert (found.source, found.through, found.request_id) == ("task", promote_due_round.name, "asked-for-it")
    assert "<td>schedule<small>" in boss.get("/people/audit/").content.decode()


def test_a_command_is_called_by_its_name(new, monkeypatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/srv/storyloop/manage.py", "invite", "admin"])
    context.command.cache_clear()
    try:
        call_command("invite", "admin")
    finally:
        context.command.cache_clear()
    (found,) = new()
    assert (found.kind, found.source, found.actor) == ("invitation_made", "command", None)
    assert found.through == f"invite ({getpass.getuser()})"


def test_a_policy_that_a_command_copies_out(new, tmp_path: Path, tiny_model: Path) -> None:
    found = Policy.objects.create(name="base", path=str(tiny_model), weights_hash=weights_hash(tiny_model))
    new()
    call_command("export_policy", "base", tmp_path / "out")
    assert [(one.kind, one.object_type, one.object_id) for one in new()] == [("downloaded", "policy", found.pk)]


def test_whatever_can_be_downloaded_is_known() -> None:
    files = {name for name in RULES if name.endswith("_csv") or "download" in name or name.startswith("export_")}
    assert files - {"mfa_download_recovery_codes"} <= set(HANDED_OUT)
