"""Which policy is in use: promoted, rolled back, and told."""

import threading
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.core.management import CommandError, call_command
from django.db import IntegrityError, connection, transaction
from django.test import Client
from django.utils import timezone

from annotate.models import Comparison, Report
from annotate.queue import next_assignment
from config.models import AuditEntry
from generation.models import Policy
from tests.factories import judge_by_story, make_comparison, make_expert, make_policy, make_prompt, make_story
from tests.training.test_models import make_round
from training import schedule
from training.changes import PolicyChange, Why
from training.models import Round, State
from training.roll_back import CannotRollBack, roll_back
from training.rounds import CannotLaunch, launch_round, promote_round

pytestmark = pytest.mark.django_db


@pytest.fixture
def base(tiny_model: Path) -> Policy:
    """In use, with one judged comparison and one that waits."""
    found = make_policy("base", current=True)
    Policy.objects.filter(pk=found.pk).update(path=str(tiny_model))
    judge_by_story(make_expert(), list(make_comparison(2, policy=found).stories.all()))
    make_comparison(2, policy=found)
    return Policy.objects.get()


@pytest.fixture
def promoted(base: Policy) -> Policy:
    """Round 1's result, in the stead of the base."""
    result = make_policy("round-1", parent=base)
    found = make_round(policy=base, result=result, state=State.JUDGING)
    make_story(result, prompt := make_prompt(), 0)
    make_story(result, prompt, 1)
    promote_round(round_id=found.pk)
    return Policy.objects.get(pk=result.pk)


@pytest.fixture
def boss(django_user_model) -> Any:
    return django_user_model.objects.create_user("boss", is_staff=True)


@pytest.fixture
def admin(client: Client, boss) -> Client:
    client.force_login(boss)
    return client


def open_of(policy: Policy) -> int:
    return Comparison.objects.open().filter(policy=policy).count()


class TestRollBack:
    def test_the_earlier_policy_is_in_use_and_its_comparisons_are_open_again(
        self, base: Policy, promoted: Policy
    ) -> None:
        assert (open_of(base), open_of(promoted)) == (0, 1)
        roll_back(policy_id=base.pk)
        assert Policy.objects.current() == base
        assert (open_of(base), open_of(promoted)) == (2, 0)
        assignment = next_assignment(expert=make_expert())
        assert assignment
        assert assignment.comparison.policy == base

    def test_prompts_that_came_since_are_opened_too(self, base: Policy, promoted: Policy) -> None:
        make_story(base, prompt := make_prompt(), 0)
        make_story(base, prompt, 1)
        roll_back(policy_id=base.pk)
        assert open_of(base) == 3

    def test_what_an_admin_called_impossible_to_rank_stays_closed(self, base: Policy, promoted: Policy, boss) -> None:
        closed = Comparison.objects.filter(policy=base, assignments__isnull=False).get()
        Report.objects.create(
            assignment=closed.assignments.get(), subject="cannot_rank", outcome="upheld",
            settled_at=timezone.now(), settled_by=boss,
        )  # fmt: skip
        roll_back(policy_id=base.pk)
        closed.refresh_from_db()
        assert closed.closed_at
        assert open_of(base) == 1

    def test_it_is_written_down_who_did_what(self, base: Policy, promoted: Policy, boss) -> None:
        roll_back(policy_id=base.pk, by=boss)
        told = [(c.why, c.policy, c.before, c.by) for c in PolicyChange.objects.all()]
        assert told == [
            (Why.ROLLED_BACK, base, promoted, boss),
            (Why.PROMOTED, promoted, base, None),
            (Why.FIRST, base, None, None),
        ]

    def test_while_a_round_is_undecided_it_is_refused(self, base: Policy, promoted: Policy) -> None:
        make_round(number=2, policy=promoted, state=State.TRAINING)
        with pytest.raises(CannotRollBack, match="Round 2 is not over"):
            roll_back(policy_id=base.pk)

    def test_a_policy_that_was_rejected_was_never_in_use(self, base: Policy) -> None:
        result = make_policy("round-1", parent=base)
        make_round(policy=base, result=result, state=State.REJECTED)
        with pytest.raises(CannotRollBack, match="never in use: round 1 is rejected"):
            roll_back(policy_id=result.pk)

    @pytest.mark.parametrize(
        ("changes", "said"),
        [({"path": "/nowhere"}, "is not a directory"), ({"weights_deleted_at": timezone.now()}, "were deleted on")],
    )
    def test_without_weights_it_is_refused(self, base: Policy, promoted: Policy, changes: dict, said: str) -> None:
        Policy.objects.filter(pk=base.pk).update(**changes)
        with pytest.raises(CannotRollBack, match=said):
            roll_back(policy_id=base.pk)
        assert Policy.objects.current() == promoted

    def test_the_policy_in_use_needs_no_way_back(self, base: Policy) -> None:
        with pytest.raises(CannotRollBack, match="in use already"):
            roll_back(policy_id=base.pk)

    def test_the_command(self, base: Policy, promoted: Policy, capsys) -> None:
        call_command("roll_back", "base")
        assert "base is in use again, in the stead of round-1" in capsys.readouterr().out
        with pytest.raises(CommandError, match="There is no policy nobody. Known: base, round-1"):
            call_command("roll_back", "nobody")

    def test_the_button(self, admin: Client, base: Policy, promoted: Policy) -> None:
        page = admin.post(f"/policies/{base.pk}/roll-back/", follow=True).content.decode()
        logged = AuditEntry.objects.filter(kind="policy_in_use", object_id=base.pk, through="roll_back_to")
        assert [one.actor.username for one in logged] == ["boss"]
        assert "base is in use again" in page
        assert "rolled back from round-1 to base (boss)" in page
        assert "rolled back from round-1 to base (boss)" in admin.get("/rounds/").content.decode()
        assert "rolled back from round-1 to base (boss)" in admin.get("/rounds/dashboard/").content.decode()


@pytest.mark.django_db(transaction=True)
def test_a_round_that_is_launched_at_the_same_moment_waits_and_sees_the_roll_back(base: Policy, promoted: Policy):
    judge_by_story(make_expert(), list(promoted.stories.all()))
    said: list[Exception | Round] = []

    def launch() -> None:
        try:
            said.append(launch_round(**schedule.DEFAULTS))
        except CannotLaunch as error:
            said.append(error)
        finally:
            connection.close()

    thread = threading.Thread(target=launch)
    with transaction.atomic():
        roll_back(policy_id=base.pk)
        thread.start()
        thread.join(0.7)
        waited = thread.is_alive()
    thread.join()
    assert waited
    assert "promoted just now" in str(said)
    assert not Round.objects.undecided().exists()


@pytest.mark.parametrize(
    ("constraint", "fields"),
    [
        ("policy_change_one_first", {"why": Why.FIRST}),
        ("policy_change_why_known", {"why": "stolen", "before": 1}),
        ("policy_change_from_one_to_another", {"why": Why.PROMOTED}),
        ("policy_change_from_one_to_another", {"why": Why.FIRST, "before": 1}),
        ("policy_change_is_one", {"why": Why.PROMOTED, "before": 0}),
    ],
)
def test_the_database_refuses_a_change_that_breaks(constraint: str, fields: dict[str, Any]) -> None:
    policies = [make_policy("base"), make_policy("round-1")]
    PolicyChange.objects.create(policy=policies[0], why=Why.FIRST)
    if "before" in fields:
        fields = {**fields, "before": policies[fields["before"]]}
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        PolicyChange.objects.create(policy=policies[0], **fields)


def test_an_installation_from_before_is_told_by_the_rounds_that_were_promoted() -> None:
    base = make_policy("base")
    first, second = (make_policy(f"round-{number}", parent=base) for number in (1, 2))
    make_round(number=1, policy=base, result=first, state=State.PROMOTED, ended_at=timezone.now())
    make_round(number=2, policy=base, result=make_policy(), state=State.REJECTED)
    make_round(number=3, policy=first, result=second, state=State.PROMOTED)
    migration = import_module("training.migrations.0005_policy_changes")
    migration.fill(apps, None)
    told = list(PolicyChange.objects.order_by("pk").values_list("policy__name", "before__name", "why"))
    assert told == [("base", None, "first"), ("round-1", "base", "promoted"), ("round-2", "round-1", "promoted")]


class TestPages:
    def test_the_list_without_any_policy_says_what_to_do(self, admin: Client) -> None:
        assert "There is no policy yet" in admin.get("/policies/").content.decode()

    def test_the_list_tells_the_policy_in_use_and_what_was_before(
        self, admin: Client, base: Policy, promoted: Policy
    ) -> None:
        page = admin.get("/policies/").content.decode()
        assert "round-1 was promoted, after base." in page
        assert "not found" in page  # round-1's folder, in this test

    def test_a_base_says_its_license(self, admin: Client, base: Policy) -> None:
        assert "not known" in admin.get(f"/policies/{base.pk}/").content.decode()
        admin.post(f"/policies/{base.pk}/facts/", {"license": "apache-2.0", "hub_name": "owner/model"})
        assert "license: &quot;apache-2.0&quot;" in admin.get(f"/policies/{base.pk}/").content.decode()

    def test_a_license_that_is_none_is_refused_and_kept_in_the_form(self, admin: Client, base: Policy) -> None:
        response = admin.post(f"/policies/{base.pk}/facts/", {"license": "My License!", "hub_name": ""})
        assert response.status_code == 422
        assert "My License!" in response.content.decode()
        assert Policy.objects.get().license == ""

    def test_what_a_round_made_has_no_license_of_its_own(self, admin: Client, base: Policy, promoted: Policy) -> None:
        assert admin.post(f"/policies/{promoted.pk}/facts/", {"license": "mit"}).status_code == 404
